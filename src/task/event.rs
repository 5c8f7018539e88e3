//! The events of a task. The journal is a list of them, and a task is their fold.

use super::deployment::{DeploymentSpec, Hook, Pin};
use super::operation::{Evidence, OperationEnd};
use super::{Caller, Failure, Reason};

/// Something that happened to a task.
///
/// `deployment` is an index into [`super::Task::deployments`], `operation` one into its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The task was created and runs.
    Started {
        /// Who executed it.
        by: Caller,
        /// What is to be done.
        definition: Definition,
    },
    /// A user asked to stop.
    StopRequested {
        /// Who.
        by: Caller,
    },
    /// A user asked to cut what is going on, in a task that is stopping.
    CutRequested {
        /// Who.
        by: Caller,
    },
    /// A user asked to pause.
    PauseRequested {
        /// Who.
        by: Caller,
    },
    /// A user asked to resume.
    Resumed {
        /// Who.
        by: Caller,
        /// Whether differences were overridden.
        force: bool,
    },
    /// A deployment begins (or, after a resume, goes on).
    DeploymentBegun {
        /// Which.
        deployment: usize,
    },
    /// The branch was resolved; this commit is deployed, whatever happens to the branch.
    CommitPinned {
        /// Which.
        deployment: usize,
        /// 40 hex digits.
        commit: String,
    },
    /// The artifact is known and complete in the store of artifacts.
    ArtifactPinned {
        /// Which.
        deployment: usize,
        /// What it is.
        pin: Pin,
    },
    /// The release is complete on disk.
    ReleasePrepared {
        /// Which.
        deployment: usize,
        /// The release.
        release: String,
    },
    /// A hook ended well.
    HookDone {
        /// Which.
        deployment: usize,
        /// Which of the two.
        hook: Hook,
    },
    /// A remark for the report.
    Noted {
        /// Which.
        deployment: usize,
        /// The remark.
        note: String,
    },
    /// An operation is about to touch its container.
    OperationBegun {
        /// Which deployment.
        deployment: usize,
        /// Which operation of it.
        operation: usize,
        /// What is there before.
        evidence: Evidence,
        /// The release the container will have.
        to_release: Option<String>,
    },
    /// An operation has ended.
    OperationEnded {
        /// Which deployment.
        deployment: usize,
        /// Which operation of it.
        operation: usize,
        /// How.
        end: OperationEnd,
    },
    /// A deployment has ended.
    DeploymentEnded {
        /// Which.
        deployment: usize,
        /// How.
        result: Result<(), Failure>,
    },
    /// A deployment was cut, because a user asked for it.
    DeploymentCut {
        /// Which.
        deployment: usize,
    },
    /// A system-level fault cut the task.
    Interrupted {
        /// Which fault.
        reason: Reason,
    },
    /// The last deployment succeeded.
    Completed,
    /// A deployment failed and all that were going on have ended.
    Failed,
    /// All that were going on have ended, the rest is held back.
    Drained,
}

impl Event {
    /// All names, in the order in which these things happen.
    pub const NAMES: [&str; 19] = [
        "task.started",
        "task.stopRequested",
        "task.cutRequested",
        "task.pauseRequested",
        "task.resumed",
        "deployment.begun",
        "deployment.commitPinned",
        "deployment.artifactPinned",
        "deployment.releasePrepared",
        "deployment.hookDone",
        "deployment.noted",
        "operation.begun",
        "operation.ended",
        "deployment.ended",
        "deployment.cut",
        "task.interrupted",
        "task.succeeded",
        "task.failed",
        "task.drained",
    ];

    /// The deployment that it is about, and the operation of it: indices into the task.
    pub const fn place(&self) -> Option<(usize, Option<usize>)> {
        match self {
            Self::DeploymentBegun { deployment }
            | Self::CommitPinned { deployment, .. }
            | Self::ArtifactPinned { deployment, .. }
            | Self::ReleasePrepared { deployment, .. }
            | Self::HookDone { deployment, .. }
            | Self::Noted { deployment, .. }
            | Self::DeploymentCut { deployment }
            | Self::DeploymentEnded { deployment, .. } => Some((*deployment, None)),
            Self::OperationBegun { deployment, operation, .. }
            | Self::OperationEnded { deployment, operation, .. } => Some((*deployment, Some(*operation))),
            Self::Started { .. }
            | Self::StopRequested { .. }
            | Self::CutRequested { .. }
            | Self::PauseRequested { .. }
            | Self::Resumed { .. }
            | Self::Interrupted { .. }
            | Self::Completed
            | Self::Failed
            | Self::Drained => None,
        }
    }

    /// The stable name in the journal's and the event stream's JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "task.started",
            Self::StopRequested { .. } => "task.stopRequested",
            Self::CutRequested { .. } => "task.cutRequested",
            Self::PauseRequested { .. } => "task.pauseRequested",
            Self::Resumed { .. } => "task.resumed",
            Self::DeploymentBegun { .. } => "deployment.begun",
            Self::CommitPinned { .. } => "deployment.commitPinned",
            Self::ArtifactPinned { .. } => "deployment.artifactPinned",
            Self::ReleasePrepared { .. } => "deployment.releasePrepared",
            Self::HookDone { .. } => "deployment.hookDone",
            Self::Noted { .. } => "deployment.noted",
            Self::OperationBegun { .. } => "operation.begun",
            Self::OperationEnded { .. } => "operation.ended",
            Self::DeploymentEnded { .. } => "deployment.ended",
            Self::DeploymentCut { .. } => "deployment.cut",
            Self::Interrupted { .. } => "task.interrupted",
            Self::Completed => "task.succeeded",
            Self::Failed => "task.failed",
            Self::Drained => "task.drained",
        }
    }
}

/// What a task is to do: the compiled plan, with the catalog's definitions of that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The plan's name.
    pub plan: String,
    /// Its revision.
    pub revision: u32,
    /// Its comment.
    pub comment: Option<String>,
    /// By descending priority; equal ones in the plan's order.
    pub deployments: Vec<DeploymentSpec>,
}
