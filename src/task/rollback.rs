//! The plan that takes a task back: an ordinary plan, to be reviewed and executed by somebody.
//!
//! Each step of the task is inverted, the last one first. Only containers that the task has really
//! changed are named, and releases are pinned to the artifacts that the journal knows. What can't
//! be taken back is said.

use super::deployment::{Deployment, Hook};
use super::operation::{Operation, OperationState};
use super::record::Origin;
use super::{Task, TaskId};
use crate::catalog::{Label, Service, ServiceId};
use crate::plan::draft::{Draft, DraftItem};
use crate::plan::{Item, Way};

/// Failures that come before a container is touched.
const BEFORE_ANY_DEED: [&str; 5] = ["noRelease", "environment", "catalog", "observe", "internal"];

/// Writes the plan. `origin` knows how a release of a service was made.
///
/// # Errors
/// When nothing is left to be taken back: why.
pub fn rollback(
    task: &Task,
    mut origin: impl FnMut(ServiceId, &str) -> Option<Origin>,
) -> Result<Draft, String> {
    let mut draft = Draft {
        comment: format!("takes back task {} ({}@{})", task.id, task.plan, task.revision),
        remarks: vec![
            format!("Takes back what task {} has changed, the last step first. Review it, then:", task.id),
            "deployctl execute -f FILE --dry-run".into(),
        ],
        items: Vec::new(),
    };
    let mut batches: Vec<Vec<DraftItem>> = Vec::new();
    for batch in task.batches.iter().rev() {
        let mut inverted: Vec<Vec<DraftItem>> = Vec::new();
        for deployment in &task.deployments[batch.deployments.clone()] {
            // A service stands once in a batch: what it needs more follows in further ones.
            for (place, item) in invert(deployment, &mut origin, &mut draft.remarks).into_iter().enumerate() {
                if inverted.len() == place {
                    inverted.push(Vec::new());
                }
                inverted[place].push(item);
            }
        }
        batches.extend(inverted);
    }
    let last = batches.len();
    for (place, batch) in batches.into_iter().enumerate() {
        let priority = i64::try_from(last - place).unwrap_or(i64::MAX);
        draft.items.extend(batch.into_iter().map(|mut item| {
            item.item.priority = priority;
            item
        }));
    }
    if draft.items.is_empty() { Err(nothing(task.id, &draft.remarks[2..])) } else { Ok(draft) }
}

fn nothing(task: TaskId, remarks: &[String]) -> String {
    let why = if remarks.is_empty() { "it has changed no container".into() } else { remarks.join("; ") };
    format!("there is nothing of task {task} to take back: {why}")
}

/// How an operation is taken back: these ways, one after another.
#[derive(Debug, PartialEq, Eq)]
struct Undo {
    ways: Vec<Way>,
    /// For the reviewer.
    remark: Option<String>,
}

/// The items that take a deployment back.
fn invert(
    deployment: &Deployment,
    origin: &mut impl FnMut(ServiceId, &str) -> Option<Origin>,
    remarks: &mut Vec<String>,
) -> Vec<DraftItem> {
    let service = &deployment.spec.service;
    let mut groups: Vec<(Undo, Vec<&str>)> = Vec::new();
    for operation in deployment.operations.iter().filter(|operation| has_changed(operation)) {
        let name = format!("{}/{}", service.name, operation.container);
        match undo(&deployment.spec.way, operation, |release| origin(service.id, release)) {
            Err(why) => remarks.push(format!("Not taken back: {name} {why}")),
            Ok(undo) => match groups.iter_mut().find(|(known, _)| *known == undo) {
                Some((_, containers)) => containers.push(&operation.container),
                None => groups.push((undo, vec![&operation.container])),
            },
        }
    }
    remarks.extend(beyond_containers(deployment));
    let mut items = Vec::new();
    for (undo, containers) in groups {
        let Some(labels) = labels_of(service, &deployment.spec.labels, &containers) else {
            let containers = containers.join(", ");
            remarks.push(format!("Not taken back: no labels choose just {containers} of {}", service.name));
            continue;
        };
        for (place, way) in undo.ways.into_iter().enumerate() {
            let item = Item {
                service: service.id,
                priority: 0,
                way,
                order: deployment.spec.order,
                labels: labels.clone(),
            };
            let remarks = undo.remark.iter().filter(|_| place == 0).cloned().collect();
            items.push(DraftItem { service: service.name.clone(), item, remarks });
        }
    }
    items
}

/// What hooks and shared directories keep.
fn beyond_containers(deployment: &Deployment) -> Vec<String> {
    let service = &deployment.spec.service;
    let mut remarks = Vec::new();
    if !deployment.hooks_done.is_empty() {
        let hooks: Vec<_> = deployment.hooks_done.iter().copied().map(Hook::name).collect();
        remarks.push(format!("Not taken back: what {} of {} has done", hooks.join(" and "), service.name));
    }
    let deployed = deployment.spec.way.needs_artifact() && deployment.operations.iter().any(has_changed);
    if deployed && !service.shared_paths.is_empty() {
        let paths = service.shared_paths.join(", ");
        remarks
            .push(format!("Not taken back: what {} has written to its shared paths ({paths})", service.name));
    }
    remarks
}

/// Whether an operation has, or may have, done something to its container.
pub fn has_changed(operation: &Operation) -> bool {
    match operation.state {
        OperationState::Pending | OperationState::Unchanged | OperationState::Skipped => false,
        OperationState::Running | OperationState::Succeeded | OperationState::Interrupted => true,
        OperationState::Failed => {
            operation.error.as_ref().is_none_or(|error| !BEFORE_ANY_DEED.contains(&&*error.code))
        }
    }
}

/// How one operation is taken back; or why it can't be.
fn undo(
    way: &Way,
    operation: &Operation,
    mut origin: impl FnMut(&str) -> Option<Origin>,
) -> Result<Undo, String> {
    let was_running = operation.evidence.as_ref().is_some_and(|evidence| evidence.incarnation.is_some());
    let before = operation.from_release();
    let in_doubt = (operation.state == OperationState::Interrupted)
        .then(|| "this step was interrupted: look whether the container was changed at all".to_string());
    let simple = |way| Ok(Undo { ways: vec![way], remark: in_doubt.clone() });
    let switched = operation.to_release.as_deref().filter(|to| Some(*to) != before);
    match (way, switched) {
        (Way::Stop, _) if was_running => simple(Way::Start),
        (Way::Stop, _) => Err("was stopped already".into()),
        (_, None) if was_running => Err("was restarted on the release it had".into()),
        (_, None) => simple(Way::Stop),
        (_, Some(to)) => {
            let Some(before) = before else {
                return if was_running {
                    Err(format!("had no release before; it keeps {to}"))
                } else {
                    let remark = format!("it had no release before: it is stopped, and keeps {to}");
                    Ok(Undo { ways: vec![Way::Stop], remark: Some(remark) })
                };
            };
            let Some(origin) = origin(before) else {
                return Err(format!("had release {before}; where that came from is no longer known"));
            };
            let mut remark = format!("back to release {before} of task {}", origin.task);
            let mut ways = vec![origin.way];
            if !was_running {
                remark.push_str("; it did not run before: it is stopped again");
                ways.push(Way::Stop);
            }
            Ok(Undo {
                ways,
                remark: Some(in_doubt.clone().map_or(remark.clone(), |doubt| format!("{remark}; {doubt}"))),
            })
        }
    }
}

/// The labels that choose just these containers: none, those of before, or the containers' names.
pub fn labels_of(service: &Service, before: &[Label], containers: &[&str]) -> Option<Vec<Label>> {
    let names: Vec<Label> = containers.iter().map(|name| Label((*name).to_string())).collect();
    let exact = |labels: &[Label]| {
        let chosen = service.chosen(labels);
        chosen.len() == containers.len() && chosen.iter().all(|c| containers.contains(&&*c.name))
    };
    [&[], before, &names[..]].into_iter().find(|labels| exact(labels)).map(<[Label]>::to_vec)
}
