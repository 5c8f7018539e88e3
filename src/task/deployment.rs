//! A deployment: what a task does for one item of its plan.

use std::sync::Arc;

use super::operation::{Operation, OperationState};
use super::{Failure, Timestamp};
use crate::catalog::{Label, Service};
use crate::plan::{ContainerOrder, Way};

/// The state of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeploymentState {
    /// Its turn has not come.
    Pending,
    /// Going on.
    Running,
    /// All its operations ended well.
    Succeeded,
    /// Its preparation, a hook or an operation failed.
    Failed,
    /// Held back for good, because the task failed or was stopped.
    Skipped,
    /// Begun, and cut by a fault.
    Interrupted,
}

impl DeploymentState {
    /// It has its turn still before it: whether it begins is not decided.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::Interrupted)
    }

    /// The spelling of the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
            Self::Interrupted => "INTERRUPTED",
        }
    }
}

/// What a task is to do for one item: fixed when the task is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSpec {
    /// The service as the catalog defined it then.
    pub service: Arc<Service>,
    /// The priority of its batch.
    pub priority: i64,
    /// How it is deployed.
    pub way: Way,
    /// How its containers are worked through.
    pub order: ContainerOrder,
    /// The labels that chose the containers.
    pub labels: Vec<Label>,
    /// The chosen containers, in the catalog's order; at least one.
    pub containers: Vec<String>,
}

/// Source and content of what is deployed, pinned when it is first resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The package's address or the repository, credentials masked.
    pub source: String,
    /// The artifact's hash (lower-case hex).
    pub sha256: String,
    /// The artifact's size.
    pub bytes: u64,
    /// The commit it was built from.
    pub commit: Option<String>,
}

/// Which of the commands around a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before any container is touched.
    PreDeploy,
    /// After all containers were.
    PostDeploy,
}

impl Hook {
    /// The catalog's key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreDeploy => "preDeploy",
            Self::PostDeploy => "postDeploy",
        }
    }
}

/// One deployment: what is to be done, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// What is to be done.
    pub spec: DeploymentSpec,
    /// Its state.
    pub state: DeploymentState,
    /// When it began (first, if a crash cut it).
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The commit to build, once the branch is resolved.
    pub commit: Option<String>,
    /// What is deployed, once it is resolved.
    pub pin: Option<Pin>,
    /// The release that was prepared.
    pub release: Option<String>,
    /// Hooks that have ended well.
    pub hooks_done: Vec<Hook>,
    /// A fault has cut it once: how long it took says nothing.
    pub was_cut: bool,
    /// One for each chosen container.
    pub operations: Vec<Operation>,
    /// So many of them, from the first one, are done: kept along, so that the next one is not searched for.
    pub(super) done: usize,
    /// The first of them that has failed.
    pub(super) failed: Option<usize>,
    /// Remarks for the report ("branch main has moved since").
    pub notes: Vec<String>,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// What a deployment has to do next. Derived, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentStep {
    /// Find the commit to build.
    ResolveCommit,
    /// Fetch the package, or build it.
    ObtainArtifact,
    /// Make a release of the artifact.
    PrepareRelease,
    /// Run this hook.
    RunHook(Hook),
    /// Carry these operations out (indices), together.
    Operate(Vec<usize>),
    /// All is done.
    Succeed,
    /// An operation has failed: the deployment is over.
    Fail(Failure),
}

impl DeploymentStep {
    /// Whether it is done once for the whole deployment, and touches no container: it may be done before the
    /// deployment's turn.
    pub const fn is_preparation(&self) -> bool {
        matches!(self, Self::ResolveCommit | Self::ObtainArtifact | Self::PrepareRelease)
    }
}

impl Deployment {
    /// A deployment that has not begun.
    pub fn pending(spec: DeploymentSpec) -> Self {
        let operations = spec.containers.iter().cloned().map(Operation::pending).collect();
        Self {
            spec,
            state: DeploymentState::Pending,
            started_at: None,
            finished_at: None,
            commit: None,
            pin: None,
            release: None,
            hooks_done: Vec::new(),
            was_cut: false,
            operations,
            done: 0,
            failed: None,
            notes: Vec::new(),
            error: None,
        }
    }

    /// What to do next, by what is.
    ///
    /// Called whenever nothing of this deployment is going on. After a crash it gives the same
    /// answer as without one, for what had ended is recorded and what had not is still to be done.
    pub fn next_step(&self) -> DeploymentStep {
        if let Some(failure) = self.failed.and_then(|failed| self.operations[failed].error.clone()) {
            return DeploymentStep::Fail(failure);
        }
        if self.spec.way.needs_artifact() && self.release.is_none() {
            return self.next_preparation();
        }
        if self.hook_is_due(Hook::PreDeploy) {
            return DeploymentStep::RunHook(Hook::PreDeploy);
        }
        let mut open =
            (self.done..self.operations.len()).filter(|&index| !self.operations[index].state.is_done());
        let due: Vec<usize> = match self.spec.order {
            ContainerOrder::Sequential => open.next().into_iter().collect(),
            ContainerOrder::Parallel => open.collect(),
        };
        if !due.is_empty() {
            DeploymentStep::Operate(due)
        } else if self.hook_is_due(Hook::PostDeploy) {
            DeploymentStep::RunHook(Hook::PostDeploy)
        } else {
            DeploymentStep::Succeed
        }
    }

    fn next_preparation(&self) -> DeploymentStep {
        let resolved = self.commit.is_some() || !matches!(self.spec.way, Way::Compile { .. });
        match (&self.pin, resolved) {
            (Some(_), _) => DeploymentStep::PrepareRelease,
            (None, true) => DeploymentStep::ObtainArtifact,
            (None, false) => DeploymentStep::ResolveCommit,
        }
    }

    /// Whether its turn has not come, and something of its preparation is left to do.
    pub fn is_to_be_prepared(&self) -> bool {
        self.state == DeploymentState::Pending && self.next_step().is_preparation()
    }

    fn hook_is_due(&self, hook: Hook) -> bool {
        let hooks = &self.spec.service.hooks;
        let command = match hook {
            Hook::PreDeploy => &hooks.pre_deploy,
            Hook::PostDeploy => &hooks.post_deploy,
        };
        command.is_some() && !self.hooks_done.contains(&hook)
    }

    /// The way that deploys the same once more: with what was pinned, as far as it was.
    pub fn pinned_way(&self) -> Way {
        match self.spec.way.clone() {
            Way::HttpUpload { uri, sha256 } => {
                Way::HttpUpload { uri, sha256: self.pin.as_ref().map(|pin| pin.sha256.clone()).or(sha256) }
            }
            Way::Compile { repository, reference, commit, rebuild: _ } => {
                let commit = self.commit.clone().or(commit);
                Way::Compile { repository, reference, commit, rebuild: false }
            }
            way @ (Way::Start | Way::Stop | Way::Restart) => way,
        }
    }

    /// What is kept along, counted anew.
    pub(super) fn is_counted_right(&self) -> bool {
        let done = self.operations.iter().take_while(|operation| operation.state.is_done()).count();
        let failed = self.operations.iter().position(|operation| operation.error.is_some());
        (self.done, self.failed) == (done, failed)
    }

    /// Whether something is being done to a container.
    pub fn is_operating(&self) -> bool {
        self.operations.iter().any(|operation| operation.state == OperationState::Running)
    }

    /// Whether the containers before this one leave it its turn.
    pub fn is_in_turn(&self, operation: usize) -> bool {
        self.spec.order == ContainerOrder::Parallel || operation <= self.done
    }

    /// Whether any container of it may have been touched.
    pub fn has_touched(&self) -> bool {
        self.operations.iter().any(|operation| operation.state != OperationState::Pending)
    }
}
