//! Starting processes that outlive the daemon, without forking the daemon.
//!
//! Small, single-threaded *spawner* processes (this binary again, started as
//! `deployd spawner`), one for each processor, start them on the daemon's
//! behalf. Each holds a lock while it lives, and a child holds it until its
//! `exec` is done: whoever takes these locks knows that every process asked
//! for by an earlier daemon either runs with its final environment or was
//! never started.

mod child;
pub mod client;
pub mod command;
pub mod look;
mod outbox;
pub mod proc;
pub mod server;
mod sys;
pub mod tree;

pub use sys::{expect_children, keep_descriptors, readable};

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use async_trait::async_trait;

/// What to start. Nothing is inherited but what stands here.
#[derive(Debug)]
pub struct Spec {
    /// Program and arguments; a program without `/` is looked up in the `PATH` of `environment`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// User name; `None` is the daemon's own user. Supplementary groups are those of the user.
    pub user: Option<String>,
    /// Where standard output and standard error go. Standard input is /dev/null.
    pub output: OwnedFd,
    /// RLIMIT_NOFILE, soft and hard.
    pub open_files: Option<u64>,
    /// Written (temporary name, fsync, rename) by the child itself before its exec,
    /// so that no process of ours exists without one: see `runtime::process`.
    pub marker: Option<Marker>,
}

/// What a started container leaves on disk about itself.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Marker {
    /// The file.
    pub path: String,
    /// The operation that starts it (`DEPLOYD_OPERATION`).
    pub operation: String,
    /// The release it runs, if any.
    pub release: Option<String>,
}

/// A started process: leader of a session and process group of its own.
#[derive(Debug)]
pub struct Spawned {
    /// Process id, session id and process group id.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22): with the pid and the boot id it is unique.
    pub start_ticks: u64,
    /// Resolves when the process has ended; an error means that the spawner is gone and the status is unknown.
    pub exit: tokio::sync::oneshot::Receiver<ExitStatus>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Exit code 0.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program can't be executed: not found, not executable, wrong format, …
    #[error("cannot execute {program}: {source}; see that it is there, executable, and in reach of its user")]
    Exec {
        /// `argv[0]`.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something before it failed (user unknown, directory missing, limits, marker).
    #[error("cannot prepare to start {program}: {what}: {source}")]
    Prepare {
        /// `argv[0]`.
        program: String,
        /// The step.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The spawner process is gone or can't be started.
    #[error("cannot reach the spawner process: {0}; see deployd's log, then resume the task")]
    Spawner(std::io::Error),
    /// It was to be a unit.
    #[error("cannot run {program} as a unit: {why}; journalctl -b _PID=1 may say more")]
    Unit {
        /// `argv[0]`.
        program: String,
        /// What systemd said, or who would have asked it.
        why: String,
        /// It may run, or have run.
        in_doubt: bool,
    },
}

impl SpawnError {
    /// Whether what was asked for may still be done, or have been done: only a look can tell.
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Spawner(_) | Self::Unit { in_doubt: true, .. })
    }
}

/// Whether we are root, and yet may not become the users of what we are to start, or end it: so is the unit of the
/// daemon, as long as nothing loosens it.
pub fn is_confined() -> std::io::Result<bool> {
    // CAP_KILL, CAP_SETGID, CAP_SETUID
    const NEEDED: u64 = 1 << 5 | 1 << 6 | 1 << 7;
    if !nix::unistd::geteuid().is_root() {
        return Ok(false);
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    Ok(effective.is_some_and(|mask| mask & NEEDED != NEEDED))
}

/// Whatever can start processes: the spawner, or a stand-in in tests.
#[async_trait]
pub trait Launch: Send + Sync + 'static {
    /// Starts `spec`; returns when its `exec` has succeeded.
    async fn launch(&self, spec: Spec) -> Result<Spawned, SpawnError>;
}
