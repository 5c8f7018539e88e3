//! What a list of tasks shows of a task.

use super::state::TaskState;
use super::{Caller, Progress, Reason, Task, TaskId, Timestamp};

/// A task without its deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSummary {
    /// Its number.
    pub id: TaskId,
    /// The plan's name.
    pub plan: String,
    /// The plan's revision.
    pub revision: u32,
    /// The plan's comment.
    pub comment: Option<String>,
    /// Its state.
    pub state: TaskState,
    /// Why it is in this state.
    pub reason: Option<Reason>,
    /// Who executed it.
    pub created_by: Caller,
    /// When it was executed.
    pub started_at: Timestamp,
    /// When it came to rest.
    pub finished_at: Option<Timestamp>,
    /// Since when it is in this state.
    pub changed_at: Timestamp,
    /// How far it is.
    pub progress: Progress,
    /// How many events it has.
    pub events: u64,
}

impl TaskSummary {
    /// The summary of a task that has `events` events.
    pub fn of(task: &Task, events: u64) -> Self {
        Self {
            id: task.id,
            plan: task.plan.clone(),
            revision: task.revision,
            comment: task.comment.clone(),
            state: task.state,
            reason: task.reason,
            created_by: task.created_by.clone(),
            started_at: task.started_at,
            finished_at: task.finished_at,
            changed_at: task.changed_at,
            progress: task.progress(),
            events,
        }
    }
}
