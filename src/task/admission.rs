//! Which task may run beside which: one active task at a time per service.
//!
//! A claim is part of a task's state (an active task holds its services), so it can't leak.

use std::collections::HashSet;

use super::state::TaskState;
use super::{Task, TaskId, Timestamp};
use crate::catalog::ServiceId;

/// The services of a task.
pub type Services = HashSet<ServiceId>;

/// What a task that is not over holds, or held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// Its state: active ones hold their services, PAUSED and INTERRUPTED ones only warn.
    pub state: TaskState,
    /// Who executed it.
    pub user: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// Its services.
    pub services: Services,
}

impl From<&Task> for Claim {
    fn from(task: &Task) -> Self {
        Self {
            task: task.id,
            state: task.state,
            user: task.created_by.user.clone(),
            since: task.started_at,
            services: task.services().collect(),
        }
    }
}

/// What admission found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission<'a> {
    /// Services that active tasks hold; empty means admitted.
    pub conflicts: Vec<(ServiceId, &'a Claim)>,
    /// PAUSED and INTERRUPTED tasks over the same services: the user should know.
    pub resting: Vec<&'a Claim>,
}

/// Judges whether `task` (`None`: one that is yet to be) over `services` may become active beside `claims`.
pub fn admit<'a>(
    task: Option<TaskId>,
    services: &Services,
    claims: impl IntoIterator<Item = &'a Claim>,
) -> Admission<'a> {
    let mut admission = Admission::default();
    for claim in claims.into_iter().filter(|claim| Some(claim.task) != task) {
        let Some(&shared) = claim.services.intersection(services).min() else { continue };
        if claim.state.is_active() {
            admission.conflicts.push((shared, claim));
        } else if !claim.state.is_final() {
            admission.resting.push(claim);
        }
    }
    admission
}
