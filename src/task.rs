//! A task: one execution of one revision of a plan.
//!
//! A [`Task`] is the fold of its events ([`Task::apply`]). What it does next is derived from what
//! it is ([`decide`]), so that continuing after a crash is no second path.

pub mod admission;
pub mod command;
pub mod decide;
pub mod deployment;
pub mod drift;
pub mod event;
pub mod evidence;
mod fold;
pub mod forecast;
pub mod host_event;
pub mod operation;
pub mod record;
pub mod retry;
pub mod rollback;
mod standing;
pub mod state;
pub mod summary;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use deployment::Deployment;
pub use fold::Illegal;
use standing::Standing;
use state::TaskState;

/// The number of a task: 1, 2, 3, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Who sent a command, as the kernel said when the connection was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// User name, or the number when there is none.
    pub user: String,
    /// Process id, if known.
    pub pid: Option<i32>,
    /// The program of that process when it asked; for information only.
    pub program: Option<String>,
}

/// Why a task is in its state, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// RUNNING, but a deployment has failed: the others that were going on still end.
    Failing,
    /// A deployment failed.
    DeploymentFailed,
    /// A user stopped it.
    StoppedByUser,
    /// A user paused it.
    PausedByUser,
    /// The daemon was killed, crashed, or the machine went down.
    DaemonDied,
    /// The daemon was shut down.
    DaemonShutDown,
    /// An actor of this task panicked.
    ActorCrashed,
    /// The store could not record an event.
    StoreFailed,
}

impl Reason {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::DeploymentFailed => "deploymentFailed",
            Self::StoppedByUser => "stoppedByUser",
            Self::PausedByUser => "pausedByUser",
            Self::DaemonDied => "daemonDied",
            Self::DaemonShutDown => "daemonShutDown",
            Self::ActorCrashed => "actorCrashed",
            Self::StoreFailed => "storeFailed",
        }
    }
}

/// Why a deployment or an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A stable name for programs, e.g. `healthTimedOut`, `packageNotFound`, `buildFailed`.
    pub code: String,
    /// What, where, why, and what to do next.
    pub message: String,
    /// The last lines of the output that explains it.
    pub log: Vec<String>,
}

/// The deployments of one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The priority.
    pub priority: i64,
    /// Its deployments: a range of [`Task::deployments`].
    pub deployments: Range<usize>,
}

/// One execution of one revision of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// The plan's name.
    pub plan: String,
    /// The plan's revision.
    pub revision: u32,
    /// The plan's comment.
    pub comment: Option<String>,
    /// Its state.
    pub state: TaskState,
    /// Why it is in this state, where there is something to say.
    pub reason: Option<Reason>,
    /// Who executed it.
    pub created_by: Caller,
    /// When it was executed.
    pub started_at: Timestamp,
    /// When it came to rest.
    pub finished_at: Option<Timestamp>,
    /// Since when it is in this state.
    pub changed_at: Timestamp,
    /// The batches in the order of their execution.
    pub batches: Vec<Batch>,
    /// All deployments, batch after batch. Only the fold changes them.
    pub deployments: Vec<Deployment>,
    standing: Standing,
}

/// How many deployments are in which state, and how many operations are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All deployments.
    pub total: u32,
    /// Not begun.
    pub pending: u32,
    /// Going on.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Failed.
    pub failed: u32,
    /// Held back for good.
    pub skipped: u32,
    /// Cut by a fault.
    pub interrupted: u32,
    /// All operations.
    pub operations: u32,
    /// Operations that ended well.
    pub operations_done: u32,
}

impl Task {
    /// The name by which a container knows that it was started by this operation, in this task of this daemon:
    /// `instance` is the store's own id, so that a new store never takes an old process for its own.
    pub fn operation_id(instance: &str, task: TaskId, deployment: usize, operation: usize) -> String {
        format!("{instance}.{task}.{deployment}.{operation}")
    }

    /// How many deployments are in which state, and how many operations are done.
    pub const fn progress(&self) -> Progress {
        self.standing.progress
    }

    /// [`Task::progress`], counted anew: for tests.
    #[doc(hidden)]
    pub fn is_counted_right(&self) -> bool {
        self.standing == Standing::of(&self.batches, &self.deployments)
            && self.deployments.iter().all(Deployment::is_counted_right)
    }

    /// Whether a deployment has failed.
    pub const fn has_failed(&self) -> bool {
        self.standing.progress.failed > 0
    }

    /// The batch to which this deployment belongs.
    pub fn batch_number_of(&self, deployment: usize) -> usize {
        self.batches.partition_point(|batch| batch.deployments.end <= deployment)
    }

    /// The deployments of the batch to which this one belongs.
    pub fn batch_of(&self, deployment: usize) -> Range<usize> {
        let batch = self.batches.get(self.batch_number_of(deployment));
        batch.map_or(0..0, |batch| batch.deployments.clone())
    }

    /// The services that the task deploys.
    pub fn services(&self) -> impl Iterator<Item = crate::catalog::ServiceId> + '_ {
        self.deployments.iter().map(|deployment| deployment.spec.service.id)
    }
}
