//! What a task does next: a pure function of what it is.

use super::Task;
use super::deployment::DeploymentState;
use super::event::Event;
use super::state::TaskState;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This deployment of the current batch may begin now, as soon as there is a place.
    Begin(usize),
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
    let progress = task.progress();
    if let Some(next) = may_begin(task).next() {
        Decision::Begin(next)
    } else if progress.running > 0 {
        Decision::Wait
    } else if task.has_failed() {
        Decision::Rest(Event::Failed)
    } else if progress.succeeded == progress.total {
        Decision::Rest(Event::Completed)
    } else {
        Decision::Rest(Event::Drained)
    }
}

/// The deployments that may begin now, all of one batch, in their order.
pub fn may_begin(task: &Task) -> impl Iterator<Item = usize> + '_ {
    let current = task.batches.get(task.standing.batch).filter(|_| task.state == TaskState::Running);
    let batch = current.map_or(0..0, |batch| batch.deployments.clone());
    let failing = task.has_failed();
    (batch.start.max(task.standing.waiting)..batch.end).filter(move |&index| {
        match task.deployments[index].state {
            DeploymentState::Interrupted => true,
            DeploymentState::Pending => !failing,
            _ => false,
        }
    })
}

/// The deployments of later batches whose preparation may begin now, in the order of their turns.
pub fn may_prepare(task: &Task) -> Vec<usize> {
    if !task.goes_forward() {
        return Vec::new();
    }
    let batches = task.batches.iter().skip(task.standing.batch + 1);
    let later = batches.flat_map(|batch| batch.deployments.clone());
    later.filter(|&index| task.deployments[index].is_to_be_prepared()).collect()
}
