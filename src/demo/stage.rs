//! Where the demo plays: a private directory, a private daemon, and their end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::spawn::proc;
use crate::spawn::tree::Run;

const SERVICES: [(&str, &str); 5] = [
    ("web.yaml", include_str!("../../examples/services.d/web.yaml")),
    ("worker.yaml", include_str!("../../examples/services.d/worker.yaml")),
    ("api.yaml", include_str!("../../examples/services.d/api.yaml")),
    ("cache.yaml", include_str!("../../examples/services.d/cache.yaml")),
    ("gateway.yaml", include_str!("../../examples/services.d/gateway.yaml")),
];
const PLANS: [(&str, &str); 3] = [
    ("before.yaml", include_str!("../../examples/before.yaml")),
    ("plan.yaml", include_str!("../../examples/plan.yaml")),
    ("end.yaml", include_str!("../../examples/end.yaml")),
];
const SOURCES: [(&str, &str); 2] = [
    ("build.sh", include_str!("../../examples/api/build.sh")),
    ("server.sh", include_str!("../../examples/api/server.sh")),
];

/// The ports that the examples name. The demo takes whichever are free.
const PORTS: [&str; 7] = ["18111", "18112", "18331", "18332", "18441", "18551", "18552"];
/// The package server's.
const PACKAGE_PORT: &str = "18080";

/// A directory with everything in it, and the daemon. Dropping it ends the daemon, its containers
/// and the directory.
pub struct Stage {
    /// The directory.
    pub directory: PathBuf,
    binary: PathBuf,
    daemon: Option<Child>,
    keep: bool,
}

impl Stage {
    /// Makes the directory and what stands in it: catalog, plans, sources.
    pub fn set(package_port: u16, keep: bool) -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        let directory = parent.join(format!("deployd-demo-{}", std::process::id()));
        // Builds and services of other users have to get through, and nobody has to look.
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&directory)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
        let mut stage = Self { directory, binary: PathBuf::new(), daemon: None, keep };
        stage.binary = stage.copy_binary()?;
        for name in ["services.d", "api"] {
            fs::DirBuilder::new().mode(0o755).create(stage.directory.join(name))?;
        }
        let ports = free_ports(PORTS.len())?;
        for (name, text) in SERVICES {
            stage.write(&format!("services.d/{name}"), &stage.adapted(text, &ports))?;
        }
        for (name, text) in PLANS {
            stage.write(name, &text.replace(PACKAGE_PORT, &package_port.to_string()))?;
        }
        for (name, text) in SOURCES {
            stage.write(&format!("api/{name}"), text)?;
        }
        stage.write("deployd.yaml", "shutdownGrace: 5s\n")?;
        Ok(stage)
    }

    /// Services may run as somebody who can't read where this binary lies.
    fn copy_binary(&self) -> anyhow::Result<PathBuf> {
        let ours = std::env::current_exe()?;
        let copy = self.directory.join("deployd");
        fs::copy(&ours, &copy).with_context(|| format!("cannot copy {}", ours.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        Ok(copy)
    }

    /// The examples stand for an installed deployd that is root; here it is neither.
    fn adapted(&self, text: &str, ports: &[u16]) -> String {
        let binary = self.binary.display();
        let mut text = text
            .replace("[deployd, demo-service", &format!("[{binary}, demo-service"))
            .replace("SERVER: deployd", &format!("SERVER: {binary}"));
        for (written, port) in PORTS.iter().zip(ports) {
            text = text.replace(written, &port.to_string());
        }
        if nix::unistd::geteuid().is_root() {
            return text;
        }
        let lines: Vec<&str> = text.lines().filter(|line| line.trim() != "user: nobody").collect();
        lines.join("\n") + "\n"
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        File::create(self.path(name))?.write_all(text.as_bytes())
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether daemon and directory stay.
    pub const fn is_kept(&self) -> bool {
        self.keep
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("deployd.sock")
    }

    /// Starts the daemon.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        let log = File::options().append(true).create(true).open(self.path("deployd.log"))?;
        let daemon = Command::new(&self.binary)
            .arg("--config")
            .arg(self.path("deployd.yaml"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--services-dir")
            .arg(self.path("services.d"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C is the demo's to handle.
            .process_group(0)
            .spawn()
            .context("cannot start the daemon")?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The daemon's process.
    pub fn daemon(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Fails when the daemon has ended, with what it said last.
    pub fn check_daemon(&mut self) -> anyhow::Result<()> {
        let Some(daemon) = &mut self.daemon else { bail!("the daemon was not started") };
        let Some(status) = daemon.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(self.path("deployd.log")).unwrap_or_default();
        bail!("the daemon has ended ({status}):\n{log}")
    }

    /// `kill -9`
    pub fn kill_daemon(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
        }
        Ok(())
    }

    /// Every start that the containers themselves have written down: (container, operation).
    pub fn starts(&self) -> Vec<(String, String)> {
        let mut starts = Vec::new();
        for container in self.containers() {
            let log = fs::read_to_string(container.join("output.log")).unwrap_or_default();
            for line in log.lines().filter_map(|line| line.strip_prefix(super::STARTED)) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let [container, "by", operation, ..] = words.as_slice() {
                    starts.push(((*container).to_string(), (*operation).to_string()));
                }
            }
        }
        starts
    }

    fn containers(&self) -> Vec<PathBuf> {
        let below = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
        };
        let services = below(&self.path("state/services"));
        services.iter().flat_map(|service| below(&service.join("containers"))).collect()
    }

    /// Ends what is left of the containers: each is verified to be the one that was started.
    fn end_containers(&self) {
        for container in self.containers() {
            let run = fs::read_to_string(container.join("run")).ok();
            if let Some(run) = run.as_deref().and_then(Run::from_text)
                && proc::is_alive(run.pid, run.start_ticks).unwrap_or(false)
            {
                killpg(Pid::from_raw(run.pid), Signal::SIGKILL).ok();
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(pid) = i32::try_from(daemon.id()) {
                kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
            }
            daemon.wait().ok();
        }
        self.end_containers();
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Free ports on loopback. All are held until all are known, so that they differ.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
