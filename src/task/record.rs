//! What is kept beside the journal, in the same commit: answers that would else need the fold of many
//! tasks. All of it follows from the events.

use super::deployment::{Deployment, DeploymentState};
use super::event::Event;
use super::operation::{Incarnation, OperationState};
use super::{Task, TaskId, Timestamp};
use crate::catalog::ServiceId;
use crate::plan::Way;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A release was made: how to make it again.
    Release {
        /// Of which service.
        service: ServiceId,
        /// The release.
        release: String,
        /// How it was made.
        origin: Origin,
    },
    /// A plan that takes this task back, or repeats it, could need an artifact.
    Need {
        /// How its hash begins, or the release that was made of it (which begins the same).
        artifact: String,
    },
    /// A deployment ended well, without having been cut in between.
    Took {
        /// Of which service.
        service: ServiceId,
        /// How it was deployed.
        way: Way,
        /// How long it took.
        micros: u64,
    },
    /// A container was changed.
    Change(ContainerChange),
}

/// Where a release comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The way that gives the same artifact again: package or commit are pinned.
    pub way: Way,
    /// The artifact.
    pub sha256: String,
    /// The task that made it (last).
    pub task: TaskId,
}

/// What a task did to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerChange {
    /// The service.
    pub service: ServiceId,
    /// The container.
    pub container: String,
    /// The task.
    pub task: TaskId,
    /// When.
    pub at: Timestamp,
    /// Who executed the task.
    pub user: String,
    /// How.
    pub way: String,
    /// Whether it ended well.
    pub done: bool,
    /// The release before.
    pub from_release: Option<String>,
    /// The release since.
    pub release: Option<String>,
    /// What runs since; `None`: nothing, or nobody knows.
    pub incarnation: Option<Incarnation>,
}

/// What an event, which `task` has taken in already, leaves beside the journal.
pub fn records(task: &Task, event: &Event, at: Timestamp) -> Vec<Record> {
    match event {
        Event::ArtifactPinned { pin, .. } => vec![Record::Need { artifact: pin.sha256.clone() }],
        Event::ReleasePrepared { deployment, release } => {
            let deployment = &task.deployments[*deployment];
            let Some(pin) = &deployment.pin else { return Vec::new() };
            let origin = Origin { way: deployment.pinned_way(), sha256: pin.sha256.clone(), task: task.id };
            vec![Record::Release { service: deployment.spec.service.id, release: release.clone(), origin }]
        }
        Event::OperationBegun { evidence, to_release: Some(to), .. } => {
            let before = evidence.release.iter().filter(|release| *release != to);
            before.map(|release| Record::Need { artifact: release.clone() }).collect()
        }
        Event::OperationEnded { deployment, operation, .. } => {
            change(task, *deployment, *operation, at).map(Record::Change).into_iter().collect()
        }
        Event::DeploymentEnded { deployment, result: Ok(()) } => {
            took(&task.deployments[*deployment]).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn change(task: &Task, deployment: usize, operation: usize, at: Timestamp) -> Option<ContainerChange> {
    let spec = &task.deployments[deployment].spec;
    let operation = &task.deployments[deployment].operations[operation];
    if !matches!(operation.state, OperationState::Succeeded | OperationState::Failed) {
        return None;
    }
    let from_release = operation.from_release().map(str::to_string);
    Some(ContainerChange {
        service: spec.service.id,
        container: operation.container.clone(),
        task: task.id,
        at,
        user: task.created_by.user.clone(),
        way: spec.way.name().into(),
        done: operation.state == OperationState::Succeeded,
        release: operation.to_release.clone().or_else(|| from_release.clone()),
        from_release,
        incarnation: operation.incarnation.clone(),
    })
}

fn took(deployment: &Deployment) -> Option<Record> {
    debug_assert_eq!(deployment.state, DeploymentState::Succeeded);
    let (begun, ended) = (deployment.started_at?, deployment.finished_at?);
    if deployment.was_cut {
        return None;
    }
    let micros = u64::try_from(ended.0.saturating_sub(begun.0)).ok()?;
    Some(Record::Took { service: deployment.spec.service.id, way: deployment.spec.way.clone(), micros })
}
