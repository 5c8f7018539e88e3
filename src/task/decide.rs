//! What a task does next: a pure function of what it is.

use super::Task;
use super::deployment::DeploymentState;
use super::event::Event;
use super::state::TaskState;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// These deployments of the current batch may begin now (in this order, as places are free).
    Begin(Vec<usize>),
    /// Deployments are going on; nothing may begin until one has ended.
    Wait,
    /// The task comes to rest by this event.
    Rest(Event),
    /// It is at rest.
    AtRest,
}

/// Decides what a task does next.
///
/// - Batches run one after another, in the order of their priorities.
/// - A failed deployment, *stop* and *pause* hold back whatever has not begun, even in the same batch.
/// - A deployment that a fault had cut is continued after *resume*, even if another one has failed:
///   without the fault it would have ended, too.
pub fn decide(task: &Task) -> Decision {
    if !task.state.is_active() {
        return Decision::AtRest;
    }
    let in_state = |state| task.deployments.iter().any(move |deployment| deployment.state == state);
    let begin = if task.state == TaskState::Running { may_begin(task) } else { Vec::new() };
    if !begin.is_empty() {
        Decision::Begin(begin)
    } else if in_state(DeploymentState::Running) {
        Decision::Wait
    } else if task.has_failed() {
        Decision::Rest(Event::Failed)
    } else if task.deployments.iter().all(|deployment| deployment.state == DeploymentState::Succeeded) {
        Decision::Rest(Event::Completed)
    } else {
        Decision::Rest(Event::Drained)
    }
}

/// The deployments that may begin now, all of one batch.
fn may_begin(task: &Task) -> Vec<usize> {
    let Some(current) = current_batch(task) else { return Vec::new() };
    let failing = task.has_failed();
    task.batches[current]
        .deployments
        .clone()
        .filter(|&index| match task.deployments[index].state {
            DeploymentState::Interrupted => true,
            DeploymentState::Pending => !failing,
            _ => false,
        })
        .collect()
}

/// The deployments of later batches whose preparation may begin now, in the order of their turns.
pub fn may_prepare(task: &Task) -> Vec<usize> {
    let Some(current) = current_batch(task).filter(|_| task.goes_forward()) else { return Vec::new() };
    let later = task.batches[current + 1..].iter().flat_map(|batch| batch.deployments.clone());
    later.filter(|&index| task.deployments[index].is_to_be_prepared()).collect()
}

/// The first batch that has not succeeded as a whole.
pub fn current_batch(task: &Task) -> Option<usize> {
    task.batches.iter().position(|batch| {
        task.deployments[batch.deployments.clone()]
            .iter()
            .any(|deployment| deployment.state != DeploymentState::Succeeded)
    })
}
