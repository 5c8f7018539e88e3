//! A daemon of its own for each test.

#[path = "stock.rs"]
mod stock;
#[path = "witness.rs"]
mod witness;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use deployd::spawn::proc;
use deployd::spawn::tree::Run;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde_json::Value;

#[allow(unused_imports, reason = "not every binary of tests writes plans")]
pub use stock::{items, user};
pub use witness::{Events, Start};

/// Nothing in these tests takes longer; whatever does is a failure.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Whether a test that can't run here may be skipped; says so if it is.
#[expect(clippy::print_stderr, reason = "whoever runs the tests has to see it")]
pub fn skip(why: &str) {
    assert!(std::env::var_os("DEPLOYD_TEST_NO_SKIP").is_none(), "a test was skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// deployctl's binary. Cargo builds it beside ours in a test of the whole workspace.
pub fn deployctl() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let beside = Path::new(env!("CARGO_BIN_EXE_deployd")).with_file_name("deployctl");
        // A test of one package alone does not build it, or leaves an old one there.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--package", "deployctl"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        assert!(beside.exists(), "{} is missing", beside.display());
        beside
    })
}

/// A daemon, its directory and its containers; dropping it ends all of them.
pub struct Daemon {
    directory: tempfile::TempDir,
    process: Option<Child>,
    /// What the daemon gets in its environment at its next launch.
    pub environment: Vec<(&'static str, String)>,
    /// A command that executes the daemon with the arguments that follow it.
    pub wrapper: Vec<String>,
}

impl Daemon {
    /// A directory for a daemon that is not launched yet.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("deployd-it").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = Self { directory, process: None, environment: Vec::new(), wrapper: Vec::new() };
        fs::create_dir(daemon.path("services.d")).unwrap();
        daemon.write("deployd.yaml", "");
        daemon
    }

    /// A launched daemon with services 1 … `count`, each with a container `c<id>` whose health check
    /// waits until the test releases it.
    pub fn gated(count: u64) -> Self {
        let mut daemon = Self::new();
        for id in 1..=count {
            daemon.add(id, &[(&format!("c{id}"), "")], &daemon.gate());
        }
        daemon.launch();
        daemon
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    pub fn socket(&self) -> PathBuf {
        self.path("deployd.sock")
    }

    /// The daemon's command line.
    pub fn command(&self) -> Command {
        let words = [&*self.wrapper, &[env!("CARGO_BIN_EXE_deployd").to_string()]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg("--config").arg(self.path("deployd.yaml"));
        command.arg("--socket").arg(self.socket());
        command.arg("--state-dir").arg(self.path("state"));
        command.arg("--services-dir").arg(self.path("services.d"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the daemon, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.try_launch(), "the daemon ended:\n{}", self.log());
    }

    /// As [`Self::launch`]; false when the daemon has ended before it answered.
    pub fn try_launch(&mut self) -> bool {
        let log = File::options().append(true).create(true).open(self.path("deployd.log")).unwrap();
        self.process = Some(self.command().stderr(log).process_group(0).spawn().unwrap());
        let begun = Instant::now();
        while !self.listens() {
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.process = None;
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon does not answer:\n{}", self.log());
            std::thread::yield_now();
        }
        true
    }

    /// Whether this daemon answers: for a moment, a child of one that was killed may still hold its socket.
    fn listens(&self) -> bool {
        let Ok(stream) = UnixStream::connect(self.socket()) else { return false };
        // What wraps it may give it another number, in a namespace of its own.
        let is_ours = |pid| pid == self.pid() || !self.wrapper.is_empty();
        getsockopt(&stream, PeerCredentials).is_ok_and(|peer| is_ours(peer.pid()))
    }

    /// Whether the daemon has been ended by SIGKILL; if so it can be launched again.
    #[allow(dead_code, reason = "the sweep uses it")]
    pub fn was_killed(&mut self) -> bool {
        let Some(process) = &mut self.process else { return true };
        let killed = process.try_wait().unwrap().is_some();
        if killed {
            self.process = None;
        }
        killed
    }

    /// Waits for the daemon's end; its exit code.
    #[allow(dead_code, reason = "the sweep uses it")]
    pub fn wait(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        let pid = rustix::process::Pid::from_child(&process);
        let end = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let millis = u16::try_from(PATIENCE.as_millis()).unwrap();
        if poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], millis).unwrap() == 0 {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("the daemon was expected to end, and lived on:\n{}", self.log());
        }
        process.wait().unwrap().code()
    }

    /// Like [`Self::wait`], also for a daemon that did not come up: its code is not known any more.
    #[allow(dead_code, reason = "the sweep uses it")]
    pub fn wait_or_ended(&mut self) -> Option<i32> {
        if self.process.is_some() { self.wait() } else { Some(1) }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("deployd.log")).unwrap_or_default()
    }

    /// Whether a launched daemon is still there.
    #[allow(dead_code, reason = "the tests of faults use it")]
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    pub fn pid(&self) -> i32 {
        self.process.as_ref().unwrap().id().try_into().unwrap()
    }

    /// `kill -9`
    pub fn kill_9(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.process.take().unwrap().wait().unwrap().code()
    }

    /// Runs deployctl.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        Command::new(deployctl())
            .env("DEPLOYD_SOCKET", self.socket())
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs deployctl, which has to end with this exit code; what it printed.
    pub fn ctl_ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "deployctl {arguments:?}\n{out}\n{err}\ndaemon: {}",
            self.log()
        );
        format!("{out}{err}")
    }

    /// deployctl's JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let all = [arguments, &["-o", "json"]].concat();
        serde_json::from_str(&self.ctl_ends(0, &all)).unwrap()
    }

    /// Stores and executes a plan; the task's number.
    pub fn execute(&self, name: &str, plan: &str) -> u64 {
        let file = self.write(&format!("{name}.plan.yaml"), plan);
        let printed = self.ctl(&["execute", "-f", file.to_str().unwrap(), "--name", name]);
        let out = String::from_utf8(printed.stdout).unwrap();
        out.trim().parse().unwrap_or_else(|_| panic!("{out}{}", String::from_utf8_lossy(&printed.stderr)))
    }

    /// Executes a plan to its end, which has to be this state.
    pub fn executed(&self, name: &str, plan: &str, state: &str) -> u64 {
        let id = self.execute(name, plan);
        self.until_state(id, state);
        id
    }

    /// Sends a request as curl would; status, head and body.
    pub fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        self.try_http(method, path, headers, body).unwrap_or_else(|| panic!("no answer:\n{}", self.log()))
    }

    /// As [`Self::http`]; `None` when there is no whole answer.
    pub fn try_http(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Option<(u16, String, String)> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        if let Err(error) = &read
            && error.kind() == std::io::ErrorKind::WouldBlock
        {
            panic!("{method} {path}: no answer in time, but {answer:?}\n{}", self.log());
        }
        read.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some((status, head.to_string(), witness::unchunked(head, body)))
    }

    /// A request whose answer is JSON.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = self.http(method, path, "", body);
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    pub fn task(&self, id: u64) -> Value {
        self.call("GET", &format!("/v1/tasks/{id}"), "").1
    }

    pub fn report(&self, id: u64) -> Value {
        self.call("GET", &format!("/v1/tasks/{id}/report"), "").1
    }

    /// The event stream of a task, or of everything.
    pub fn events(&self, query: &str) -> Events {
        self.try_events(query).unwrap_or_else(|| panic!("no events:\n{}", self.log()))
    }

    /// As [`Self::events`]; `None` when the daemon does not answer.
    pub fn try_events(&self, query: &str) -> Option<Events> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /v1/events?{query} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").ok()?;
        Some(Events::of(stream))
    }

    /// Waits for an event of a task.
    pub fn until(&self, id: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut events = self.events(&format!("task={id}"));
        loop {
            let event = events.next().unwrap_or_else(|| {
                let daemon =
                    self.process.as_ref().map(|process| proc::Stat::read(process.id().cast_signed()));
                panic!("the stream ended ({daemon:?}):\n{}", self.log())
            });
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Waits until a task is in a state.
    pub fn until_state(&self, id: u64, state: &str) {
        let event = self.until(id, |event| {
            let kind = event["type"].as_str().unwrap();
            let now = &event["state"];
            kind.starts_with("task.") && (now == state || is_final(now.as_str().unwrap_or_default()))
        });
        assert_eq!(event["state"], state, "{:#}", self.report(id));
    }

    /// What the containers wrote down, in this order.
    pub fn witness(&self) -> Vec<Start> {
        self.written("witness")
    }

    /// As [`Self::witness`], in a file of another name.
    pub fn written(&self, name: &str) -> Vec<Start> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(Start::of).collect()
    }
}

fn is_final(state: &str) -> bool {
    matches!(state, "SUCCEEDED" | "FAILED" | "STOPPED")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
        let below = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
        };
        for service in below(&self.path("state/services")) {
            for container in below(&service.join("containers")) {
                let run = fs::read_to_string(container.join("run")).ok();
                if let Some(run) = run.as_deref().and_then(Run::from_text)
                    && proc::is_alive(run.pid, run.start_ticks).unwrap_or(false)
                {
                    let group = nix::unistd::Pid::from_raw(run.pid);
                    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
                }
            }
        }
    }
}
