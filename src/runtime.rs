//! What a container is, technically. To be found again after a crash is part of the trait.

pub mod either;
pub mod engine;
pub mod log;
pub mod process;
pub mod unit;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::catalog::{Engine, Limits};
use crate::engine::EngineError;
use crate::identity::{Owner, Stranger};
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
        /// How often its runtime had started it again before it gave up.
        restarts: u32,
    },
    /// It ended without having been stopped, and its runtime starts it again by itself: not up, whatever
    /// the moment of the look shows.
    Restarting {
        /// The run that ended, or that is coming up.
        incarnation: Incarnation,
        /// The operation that started it; empty when somebody else did.
        operation: String,
        /// The release it was started from.
        release: Option<String>,
        /// How its last run ended, if that is known.
        status: Option<ExitStatus>,
        /// How often it was started again.
        restarts: u32,
    },
    /// It is neither up nor down: on its way to one of the two, or held in between.
    Changing {
        /// Where to.
        phase: Phase,
        /// Which run.
        incarnation: Incarnation,
        /// The operation that started it; empty when somebody else did.
        operation: String,
        /// The release it was started from.
        release: Option<String>,
        /// In the runtime's own words: `deactivating (stop-sigterm)`.
        detail: String,
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

impl Observation {
    /// Something of it runs, or is about to.
    pub const fn is_there(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Restarting { .. } | Self::Changing { .. })
    }
}

/// Where a container that is neither up nor down is on its way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its start is under way.
    Starting,
    /// Its program runs, and reads its configuration again.
    Reloading,
    /// It is being stopped or removed, or its main process has ended and the rest is being ended.
    Stopping,
    /// Its processes are held.
    Paused,
}

impl Phase {
    /// As containers' states are spelt.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Reloading => "reloading",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
        }
    }
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

/// What a runtime that is waited for says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is called there: its unit.
    pub name: String,
    /// `activating`, `deactivating`, …
    pub active: String,
    /// `start-pre`, `stop-sigterm`, …
    pub sub: String,
    /// What its program says of itself (`StatusText`), cut; empty when it says nothing.
    pub text: String,
    /// What it waits for, if a job of its own is not run yet: `start`, `stop`, …
    pub job: Option<String>,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, active, sub, text, job } = self;
        write!(f, "{name} is {active} ({sub})")?;
        if let Some(job) = job {
            write!(f, ", its {job} job waits")?;
        }
        if text.is_empty() { Ok(()) } else { write!(f, ", status: {text}") }
    }
}

/// Tells what was seen.
pub type Tell<'a> = &'a (dyn Fn(Standing) + Send + Sync);

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
    /// Something else has the name of what would be made.
    #[error("{name} {stranger}, and this is {owner}: {fix}")]
    Foreign {
        /// What it is called: `deployd-web-web-1.service`.
        name: String,
        /// Whose it is.
        stranger: Stranger,
        /// Who we are.
        owner: String,
        /// What to do.
        fix: &'static str,
    },
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
            Self::Engine(error) => error.is_in_doubt(),
            _ => false,
        }
    }

    /// What has a name of ours was made by somebody else.
    pub fn foreign(name: String, stranger: Stranger, owner: &Owner, fix: &'static str) -> Self {
        Self::Foreign { name, stranger, owner: owner.to_string(), fix }
    }

    /// Whether what has the container's name is not ours.
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. })
    }

    /// The failure's code, when it shows before anything is stopped.
    pub const fn code_before_start(&self) -> &'static str {
        match self {
            Self::Engine(EngineError::ForeignVolume { .. }) => "volumeRefused",
            Self::Engine(_) => "imageFailed",
            _ => "startFailed",
        }
    }

    /// As it counts in the middle of a deed: an engine that is away may have done what it was asked for.
    #[must_use]
    pub fn in_doubt(self) -> Self {
        match self {
            Self::Engine(EngineError::Unreachable { engine, why, .. }) => {
                Self::Engine(EngineError::Cut { engine, what: "go on with the container", why })
            }
            other => other,
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
    /// Ends what is left of a start that failed: nothing of it runs any more, and nothing starts it again. How it
    /// ended stays known: afterwards it is [`Observation::Exited`].
    async fn give_up(
        &self,
        _container: &ContainerRef,
        _signal: &str,
        _timeout: Duration,
    ) -> Result<(), RuntimeError> {
        Ok(())
    }
    /// Removes what is left of containers that are not among these, and of which nothing runs.
    async fn sweep(&self, _keep: &HashSet<ContainerRef>) -> Result<(), RuntimeError> {
        Ok(())
    }
    /// Resolves when this run has ended; `None`: its status is unknown.
    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus>;
    /// Whether this run has ended, by one look: [`Runtime::exited`] may not have heard of it yet. What can't be
    /// seen has not ended.
    async fn has_ended(&self, container: &ContainerRef, run: &Incarnation) -> bool {
        match self.observe(container).await {
            Ok(
                Observation::Running { incarnation, .. }
                | Observation::Changing { phase: Phase::Reloading, incarnation, .. },
            ) => incarnation != *run,
            Ok(_) => true,
            Err(_) => false,
        }
    }
    /// Tells what it says of a container, now and after each change, to those who wait for it. May end when there
    /// is nothing to tell.
    async fn follow(&self, _container: &ContainerRef, _tell: Tell<'_>) {}
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
