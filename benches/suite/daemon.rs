//! The daemon under test: in a directory of its own, ended with all its containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::Connection;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_mins(10);

/// A directory for a daemon, and the daemon once it is started.
pub struct Daemon {
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl Daemon {
    /// A directory with an empty catalog.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("deployd-bench").tempdir()?;
        fs::create_dir(directory.path().join("services.d"))?;
        let daemon = Self { directory, process: None };
        daemon.write("deployd.yaml", "retention: { tasks: 1000000 }\n")?;
        Ok(daemon)
    }

    /// A started daemon with services 1 … `count`, each of which says this of itself.
    pub fn with_services(count: usize, says: &str) -> Result<Self> {
        let mut daemon = Self::new()?;
        for id in 1..=count {
            daemon.write(&format!("services.d/s{id}.yaml"), &service(id, says))?;
        }
        daemon.start()?;
        Ok(daemon)
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes one.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts it, and waits until it answers; how long that took.
    pub fn start(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let mut command = Command::new(binary("deployd"));
        command.arg("--config").arg(self.path("deployd.yaml"));
        command.arg("--socket").arg(self.socket());
        command.arg("--state-dir").arg(self.path("state"));
        command.arg("--services-dir").arg(self.path("services.d"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(self.path("log"))?);
        let process = self.process.insert(command.spawn()?);
        while begun.elapsed() < PATIENCE {
            if let Some(status) = process.try_wait()? {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("deployd has ended ({status}): {log}");
            }
            let socket = self.directory.path().join("deployd.sock");
            if Connection::open(&socket).and_then(|mut it| it.ask("GET", "/v1/info", b"")).is_ok() {
                return Ok(begun.elapsed().as_secs_f64());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        bail!("deployd does not answer")
    }

    /// Ends it; `Signal::SIGKILL` leaves the store as a crash does.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(process.id().cast_signed()), signal)?;
            process.wait()?;
        }
        Ok(())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.path("deployd.sock")
    }

    /// A connection to it.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket())
    }

    /// Its process.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.process.as_ref().context("it is not started")?.id().cast_signed())
    }

    /// Processor time of the daemon, its spawners, and what these have started that has ended.
    pub fn processor_time(&self) -> Result<f64> {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("a number of ticks")?;
        let mut sum = 0;
        for pid in self.spawners()?.into_iter().chain([self.pid()?]) {
            let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let (_, fields) = text.rsplit_once(')').context("a name in parentheses")?;
            let times = fields.split_whitespace().skip(11).take(4).map(str::parse::<i64>);
            sum += times.sum::<Result<i64, _>>()?;
        }
        #[expect(clippy::cast_precision_loss, reason = "it is shown")]
        Ok(sum as f64 / ticks as f64)
    }

    /// The processes that start its containers.
    pub fn spawners(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for entry in fs::read_dir(self.path("state"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("spawner") && name.ends_with(".lock") {
                let text = fs::read_to_string(path)?;
                pids.push(text.trim().parse().context("the spawner's lock names it")?);
            }
        }
        Ok(pids)
    }

    /// deployctl with these arguments; how long it took.
    pub fn ctl(&self, arguments: &[&str]) -> Result<f64> {
        let mut command = Command::new(binary("deployctl"));
        command.arg("--socket").arg(self.socket()).args(arguments);
        timed(&mut command)
    }

    /// Stores a plan.
    pub fn store_plan(&self, name: &str, text: &str) -> Result<()> {
        let file = self.write(&format!("{name}.yaml"), text)?;
        self.ctl(&["plan", "create", &file.to_string_lossy()]).map(drop)
    }

    /// Executes a stored plan to its end; how long that took.
    pub fn execute(&self, plan: &str) -> Result<f64> {
        self.ctl(&["execute", plan, "--wait", "--quiet"])
    }

    /// How many containers run.
    pub fn running(&self) -> usize {
        self.runs().len()
    }

    /// The processes that its containers are.
    fn runs(&self) -> Vec<i32> {
        let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        below(self.path("state/services"))
            .flat_map(|service| below(service.path().join("containers")))
            .filter_map(|container| {
                let text = fs::read_to_string(container.path().join("run")).ok()?;
                let run = deployd::spawn::tree::Run::from_text(&text)?;
                deployd::spawn::proc::is_alive(run.pid, run.start_ticks).ok()?.then_some(run.pid)
            })
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop(Signal::SIGTERM).ok();
        for pid in self.runs() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

/// What is measured: of this build, or of the one in the directory that `DEPLOYD_BENCH_BIN` names.
fn binary(name: &str) -> PathBuf {
    let ours = || Path::new(env!("CARGO_BIN_EXE_deployd")).with_file_name(name);
    std::env::var_os("DEPLOYD_BENCH_BIN").map_or_else(ours, |directory| Path::new(&directory).join(name))
}

/// A catalog file.
pub fn service(id: usize, says: &str) -> String {
    // A daemon that is root starts nothing as root that does not say so.
    let user = if nix::unistd::geteuid().is_root() { ", user: root" } else { "" };
    let says = says.replace("@user", user);
    format!("serviceId: {id}\nname: s{id}\nruntime: process\ncontainers: [{{ name: c{id} }}]\n{says}\n")
}

/// A plan over services 1 … `count` in 5 batches of one way each.
pub fn plan(count: usize, way: &str) -> String {
    let per_batch = count.div_ceil(5);
    let items = (1..=count).map(|id| {
        let priority = 5 - (id - 1) / per_batch;
        format!("  - {{ serviceId: {id}, deployment: {way}, priority: {priority} }}\n")
    });
    format!("deployPlanItems:\n{}", items.collect::<String>())
}

/// Runs a command that has to end well; how long it took.
pub fn timed(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let took = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(took)
}
