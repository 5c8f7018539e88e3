//! What there is to say about a report beside its numbers.

use super::forecast;
use super::text::short;
use crate::wire::report::{Deployment, Failure, Operation, Report};
use crate::wire::task::Task;

/// "3/5" of a task's services.
pub fn progress(task: &Task) -> String {
    let counts = &task.progress.deployments;
    format!("{}/{}", counts.succeeded, counts.total)
}

/// All that has failed, each with its place. A service's error is often its container's: once is enough.
pub fn errors(report: &Report) -> Vec<(String, &Failure)> {
    let mut found = Vec::new();
    for deployment in &report.deployments {
        let of_containers = deployment.operations.iter().filter_map(|operation| {
            let place = format!("{}/{}", deployment.service, operation.container);
            operation.error.as_ref().map(|error| (place, error))
        });
        let known = found.len();
        found.extend(of_containers);
        let own = deployment.error.as_ref();
        let is_new =
            |error: &&Failure| found.iter().skip(known).all(|(_, known)| known.message != error.message);
        found.extend(own.filter(is_new).map(|error| (deployment.service.clone(), error)));
    }
    found
}

/// What else there is to say about a service and its containers, a line each.
pub fn facts(deployment: &Deployment) -> Vec<String> {
    let containers = deployment.operations.iter().filter_map(|operation| {
        let said = [releases(operation), operation.detail.clone(), remarks(operation)].concat();
        (!said.is_empty()).then(|| format!("{}: {}", operation.container, said.trim()))
    });
    let notes = deployment.notes.iter().map(|note| format!("note: {note}"));
    let usual = forecast::in_words(deployment);
    artifact(deployment).into_iter().chain(containers).chain(usual).chain(notes).collect()
}

/// What was deployed, and where it came from.
pub fn artifact(deployment: &Deployment) -> Option<String> {
    let artifact = deployment.artifact.as_ref()?;
    let commit = artifact.commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    let hash = short(&artifact.sha256);
    Some(format!("artifact {hash} ({} bytes) from {}{commit}", artifact.bytes, artifact.source))
}

/// "1 → 2 ", when a release is switched.
pub fn releases(operation: &Operation) -> String {
    let from = operation.from_release.as_deref().unwrap_or("none");
    operation.to_release.as_ref().map(|to| format!("{from} → {to} ")).unwrap_or_default()
}

/// " [after a crash: foundDone]", when a crash had left it in doubt; " [operation ID, earlier ID]", when it began anew.
pub fn remarks(operation: &Operation) -> String {
    let settled = operation.settled.as_ref().map(|how| format!(" [after a crash: {how}]"));
    let earlier = operation.earlier_ids.join(", ");
    let anew = operation.operation_id.as_ref().map(|id| format!(" [operation {id}, earlier {earlier}]"));
    settled.into_iter().chain(anew).collect()
}
