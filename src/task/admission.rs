//! Which task may run beside which: one active task at a time per service.
//!
//! The reservation is part of a task's state (an active task holds its services), so it can't leak.

use std::collections::HashMap;

use super::Task;
use super::state::TaskState;
use crate::catalog::ServiceId;

/// Why a plan can't be executed, or a task resumed, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The service that is taken.
    pub service: ServiceId,
    /// The active task that holds it.
    pub holder: &'a Task,
}

/// What admission found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission<'a> {
    /// The services that active tasks hold; empty means admitted.
    pub conflicts: Vec<Conflict<'a>>,
    /// PAUSED and INTERRUPTED tasks over the same services: they reserve nothing, but the user should know.
    pub resting: Vec<&'a Task>,
}

/// Judges whether a task over `services` may become active beside `others`.
pub fn admit<'a>(services: &[ServiceId], others: impl IntoIterator<Item = &'a Task>) -> Admission<'a> {
    let wanted: HashMap<ServiceId, ()> = services.iter().map(|&service| (service, ())).collect();
    let mut admission = Admission::default();
    for task in others {
        let shared = task.services().find(|service| wanted.contains_key(service));
        match (shared, task.state) {
            (Some(service), state) if state.is_active() => {
                admission.conflicts.push(Conflict { service, holder: task });
            }
            (Some(_), TaskState::Paused | TaskState::Interrupted) => admission.resting.push(task),
            _ => {}
        }
    }
    admission
}
