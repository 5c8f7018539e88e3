//! What a container is, technically. To be found again after a crash is part of the trait.

pub mod either;
pub mod engine;
mod error;
pub mod log;
pub mod process;
pub mod unit;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::catalog::{Engine, Limits};
use crate::spawn::ExitStatus;
use crate::task::Timestamp;
use crate::task::operation::Incarnation;

pub use error::RuntimeError;

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
