//! What a container is, technically. To be found again after a crash is part of the trait.

pub mod either;
pub mod engine;
pub mod log;
pub mod process;
pub mod unit;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::catalog::{Engine, Limits};
use crate::engine::EngineError;
use crate::spawn::{ExitStatus, SpawnError};
use crate::systemd::SystemdError;
use crate::task::Timestamp;
use crate::task::operation::Incarnation;

/// A container of a service, by names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerRef {
    /// The service's name.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// What it is, technically.
    pub form: Form,
}

/// What a container is, technically.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Form {
    /// A supervised process.
    Process,
    /// A unit that is generated for it.
    GeneratedUnit,
    /// This unit, which exists already and is driven as it is.
    Unit(String),
    /// A container that this engine runs from an image.
    Engine(Engine),
}

impl ContainerRef {
    /// What it is called where an engine runs it.
    pub fn generated_name(&self) -> String {
        crate::catalog::generated_name(&self.service, &self.container)
    }

    /// The unit that is generated for it, where units are.
    pub fn generated_unit(&self) -> String {
        format!("{}.service", self.generated_name())
    }
}

/// What there is of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Nothing runs, and nothing says what ran last: it never did, or it was stopped.
    Absent,
    /// It ran, and ended without having been stopped.
    Exited {
        /// The operation that had started it.
        operation: String,
        /// The release it ran.
        release: Option<String>,
        /// How it ended; unknown when the daemon was restarted meanwhile.
        status: Option<ExitStatus>,
        /// It ended with the machine, not by itself.
        rebooted: bool,
    },
    /// It runs.
    Running {
        /// Which run.
        incarnation: Incarnation,
        /// Its main process.
        pid: Option<i32>,
        /// The operation that started it; empty when somebody else did.
        operation: String,
        /// The release it was started from.
        release: Option<String>,
        /// Since when, if the clock can tell.
        since: Option<Timestamp>,
        /// How often it was started again after a failure, by nobody but the runtime, since it was started.
        restarts: u32,
    },
}

/// How to start a container. A unit that exists already is driven as it is: it takes none but the last two.
#[derive(Debug, Clone)]
pub struct StartSpec {
    /// Which.
    pub container: ContainerRef,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory; created if it is the container's own.
    pub directory: PathBuf,
    /// As whom.
    pub user: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// How it is asked to end, by a runtime that stops containers by itself.
    pub stop_signal: String,
    /// After it comes SIGKILL.
    pub stop_timeout: Duration,
    /// The operation that starts it.
    pub operation: String,
    /// The release it runs.
    pub release: Option<String>,
    /// The image that an engine runs it from.
    pub image: Option<String>,
}

/// How a container was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopReport {
    /// SIGKILL was needed.
    pub killed: bool,
    /// How long it took.
    pub took: Duration,
}

/// Why a runtime could not do something.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// systemd.
    #[error(transparent)]
    Systemd(SystemdError),
    /// An engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A command can't be run inside of it.
    #[error("it is no engine's container; this is a defect of deployd")]
    NoInside,
    /// There is no systemd any more.
    #[error(
        "it is a systemd unit, and no systemd that deployd could drive runs here; say `runtime: process` in the catalog, or see `deployd check`"
    )]
    NoSystemd,
    /// The daemon's own unit keeps it from being a process.
    #[error(
        "it is a plain process (runtime: process), and deployd.service keeps those from becoming other users; \
         let it be a unit (runtime: systemd), or see /usr/lib/deployd/process-runtime.conf"
    )]
    Confined,
    /// The catalog names a unit that is not there.
    #[error("unit {unit} is {load}; install it, or change the catalog")]
    NoUnit {
        /// Its name.
        unit: String,
        /// `not-found`, `masked`, `bad-setting`, …
        load: String,
    },
    /// It was stopped, and is not.
    #[error(
        "unit {unit} is {state} although it was stopped; see its Restart=, and what wants it: systemctl list-dependencies --reverse {unit}"
    )]
    StillUp {
        /// Its name.
        unit: String,
        /// Its state.
        state: String,
    },
    /// No such signal.
    #[error(
        "cannot stop it by {0}: there is no such signal; write one like SIGTERM as run.stopSignal in the catalog"
    )]
    Signal(String),
}

impl RuntimeError {
    /// Whether what was asked for may still be done, or have been done: only a look can tell.
    pub const fn is_in_doubt(&self) -> bool {
        match self {
            Self::Spawn(error) => error.is_in_doubt(),
            Self::Systemd(error) => error.is_in_doubt(),
            Self::Engine(error) => matches!(error, EngineError::Cut { .. }),
            _ => false,
        }
    }
}

/// Something that runs containers.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Looks at a container.
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError>;
    /// Looks at a container when nothing that was begun on it, by whomever, is still under way there.
    async fn observe_settled(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        self.observe(container).await
    }
    /// Ends what is left of a container that does not run: what its dead leader had started.
    async fn clear(
        &self,
        container: &ContainerRef,
        signal: &str,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        self.stop(container, signal, timeout).await.map(|_| ())
    }
    /// Finds out why a start would fail, as far as that can be known, and fetches what it needs. It is asked for
    /// before what runs is stopped, so that nothing is stopped in vain.
    async fn ready(&self, _spec: &StartSpec) -> Result<(), RuntimeError> {
        Ok(())
    }
    /// Starts a container of which nothing runs.
    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError>;
    /// Stops a container, with everything it has started. Afterwards it is [`Observation::Absent`].
    async fn stop(
        &self,
        container: &ContainerRef,
        signal: &str,
        timeout: Duration,
    ) -> Result<StopReport, RuntimeError>;
    /// Removes what is left of containers that are not among these, and of which nothing runs.
    async fn sweep(&self, _keep: &HashSet<ContainerRef>) -> Result<(), RuntimeError> {
        Ok(())
    }
    /// Resolves when this run has ended; `None`: its status is unknown.
    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus>;
    /// The last lines of output.
    async fn last_lines(&self, container: &ContainerRef, lines: usize) -> Vec<String>;
    /// Runs a command inside a container that has an inside of its own: its exit code and last line.
    async fn run_inside(
        &self,
        _container: &ContainerRef,
        _argv: &[String],
        _time: Duration,
    ) -> Result<(i64, String), RuntimeError> {
        Err(RuntimeError::NoInside)
    }
}
