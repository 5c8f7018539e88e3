//! An operation: what a deployment does to one container.

use std::fmt;

use super::{Failure, Timestamp};

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// Not begun.
    Pending,
    /// Begun, not ended.
    Running,
    /// Done.
    Succeeded,
    /// There was nothing to do ("already running").
    Unchanged,
    /// Tried, and failed.
    Failed,
    /// Held back for good.
    Skipped,
    /// Begun, and cut by a fault: in doubt until *resume* settles it.
    Interrupted,
}

impl OperationState {
    /// The spelling of the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Unchanged => "UNCHANGED",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
            Self::Interrupted => "INTERRUPTED",
        }
    }

    /// To be done, or to be settled.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Interrupted)
    }

    /// Ended well.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Succeeded | Self::Unchanged)
    }
}

/// One run of a container, told apart from every other one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Incarnation {
    /// A process, leader of its session.
    Process {
        /// The boot of the machine (`/proc/sys/kernel/random/boot_id`).
        boot_id: String,
        /// Its id.
        pid: i32,
        /// Its start in clock ticks since boot: a pid that is used again has another one.
        start_ticks: u64,
    },
    /// A run of a systemd unit.
    Unit {
        /// The boot of the machine.
        boot_id: String,
        /// Its InvocationID: another one for each start.
        invocation: String,
    },
    /// A run of an engine's container.
    Engine {
        /// The container's id: another one for each release, restart or start by deployd.
        id: String,
        /// When the engine started it, in its own spelling: another one when it started it again by itself.
        started: String,
    },
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, start_ticks, .. } => write!(f, "pid {pid} (started at tick {start_ticks})"),
            Self::Unit { invocation, .. } => write!(f, "invocation {invocation}"),
            Self::Engine { id, started } => write!(f, "container {id:.12} (started at {started})"),
        }
    }
}

/// What was there before an operation touched the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The run that was up, if one was.
    pub incarnation: Option<Incarnation>,
    /// The release to which `current` pointed.
    pub release: Option<String>,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationEnd {
    /// Well or not.
    pub result: Result<Done, Failure>,
    /// For people: "healthy after 0.4 s".
    pub detail: String,
    /// Set when a crash had left the operation in doubt.
    pub settled: Option<Settled>,
}

/// An operation that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Something was done; for what runs now, the run.
    Changed(Option<Incarnation>),
    /// There was nothing to do.
    Unchanged,
}

/// How an operation in doubt was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The container shows that this very operation had been carried out.
    FoundDone,
    /// It had not, or only in part: the rest was done.
    Completed,
}

/// What a task does, or did, to one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The container's name.
    pub container: String,
    /// Its state.
    pub state: OperationState,
    /// When it began (first, if a crash cut it).
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What was there before; kept from the first beginning.
    pub evidence: Option<Evidence>,
    /// The release that the container is to have afterwards.
    pub to_release: Option<String>,
    /// For people.
    pub detail: String,
    /// How doubt was settled, if there was any.
    pub settled: Option<Settled>,
    /// What runs since.
    pub incarnation: Option<Incarnation>,
    /// Why it failed.
    pub error: Option<Failure>,
}

impl Operation {
    /// An operation that has not begun.
    pub const fn pending(container: String) -> Self {
        Self {
            container,
            state: OperationState::Pending,
            started_at: None,
            finished_at: None,
            evidence: None,
            to_release: None,
            detail: String::new(),
            settled: None,
            incarnation: None,
            error: None,
        }
    }

    /// The release that the container had before.
    pub fn from_release(&self) -> Option<&str> {
        self.evidence.as_ref().and_then(|evidence| evidence.release.as_deref())
    }
}
