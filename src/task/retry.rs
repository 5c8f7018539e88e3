//! The plan of what a task did not get done, pinned to the artifacts that it had resolved.

use super::Task;
use super::deployment::{Deployment, DeploymentState};
use super::operation::OperationState;
use super::rollback::labels_of;
use crate::plan::draft::{Draft, DraftItem};
use crate::plan::{Item, Way};

/// Writes the plan of a task that is over.
///
/// # Errors
/// When nothing is left to be done, or can't be chosen: why.
pub fn retry(task: &Task) -> Result<Draft, String> {
    let mut draft = Draft {
        comment: format!("what task {} ({}@{}) did not get done", task.id, task.plan, task.revision),
        remarks: vec![format!("What task {} ({}) did not get done.", task.id, task.state)],
        items: Vec::new(),
    };
    let open = task.deployments.iter().filter(|deployment| deployment.state != DeploymentState::Succeeded);
    for deployment in open {
        match again(deployment) {
            Ok(item) => draft.items.push(item),
            Err(remark) => draft.remarks.push(remark),
        }
    }
    if !draft.items.is_empty() {
        return Ok(draft);
    }
    let why = draft.remarks.split_off(1).join("; ");
    let why = if why.is_empty() { "all of it is done".into() } else { why };
    Err(format!("there is nothing of task {} to be done again: {why}", task.id))
}

fn again(deployment: &Deployment) -> Result<DraftItem, String> {
    let (spec, service) = (&deployment.spec, &deployment.spec.service);
    let open = deployment.operations.iter().filter(|operation| !operation.state.is_done());
    let mut containers: Vec<&str> = open.clone().map(|operation| &*operation.container).collect();
    let mut remarks = Vec::new();
    if let Some(error) = &deployment.error {
        remarks.push(format!("failed: {}", error.message));
    }
    if containers.is_empty() {
        remarks.push("all its containers were done; they are deployed again for its hook".into());
        containers = spec.containers.iter().map(|name| &**name).collect();
    }
    let Some(labels) = labels_of(service, &spec.labels, &containers) else {
        return Err(format!("left out: no labels choose just {} of {}", containers.join(", "), service.name));
    };
    let mut way = deployment.pinned_way();
    let unpinned = match &way {
        Way::HttpUpload { sha256: None, .. } => {
            Some("the package was not fetched: it is whatever is there now")
        }
        Way::Compile { commit: None, .. } => {
            Some("the commit was not resolved: the tip of the branch, or the tag's commit, is deployed")
        }
        _ => None,
    };
    remarks.extend(unpinned.map(str::to_string));
    // What was started and is not healthy may run: START would leave it as it is.
    if way == Way::Start && open.clone().any(|operation| operation.state != OperationState::Skipped) {
        way = Way::Restart;
        remarks.push("RESTART, for what START has begun may run without being healthy".into());
    }
    let item = Item { service: service.id, priority: spec.priority, way, order: spec.order, labels };
    Ok(DraftItem { service: service.name.clone(), item, remarks })
}
