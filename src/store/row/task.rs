//! Summaries of tasks.

use bincode::{Decode, Encode};

use super::Row;
use super::event::{CallerV1, ReasonV1};
use crate::task::state::TaskState;
use crate::task::summary::TaskSummary;
use crate::task::{Progress, TaskId, Timestamp};

/// What lists show of a task.
#[derive(Debug, Encode, Decode)]
pub struct TaskV1 {
    id: u64,
    plan: String,
    revision: u32,
    comment: Option<String>,
    state: StateV1,
    reason: Option<ReasonV1>,
    created_by: CallerV1,
    started_at: i64,
    finished_at: Option<i64>,
    changed_at: i64,
    progress: [u32; 9],
    events: u64,
}

impl Row for TaskV1 {}

#[derive(Debug, Clone, Copy, Encode, Decode)]
enum StateV1 {
    Running,
    Stopping,
    Pausing,
    Succeeded,
    Failed,
    Stopped,
    Paused,
    Interrupted,
}

impl TaskV1 {
    /// The task's state.
    pub const fn state(&self) -> TaskState {
        match self.state {
            StateV1::Running => TaskState::Running,
            StateV1::Stopping => TaskState::Stopping,
            StateV1::Pausing => TaskState::Pausing,
            StateV1::Succeeded => TaskState::Succeeded,
            StateV1::Failed => TaskState::Failed,
            StateV1::Stopped => TaskState::Stopped,
            StateV1::Paused => TaskState::Paused,
            StateV1::Interrupted => TaskState::Interrupted,
        }
    }
}

impl From<&TaskSummary> for TaskV1 {
    fn from(summary: &TaskSummary) -> Self {
        let p = summary.progress;
        Self {
            id: summary.id.0,
            plan: summary.plan.clone(),
            revision: summary.revision,
            comment: summary.comment.clone(),
            state: match summary.state {
                TaskState::Running => StateV1::Running,
                TaskState::Stopping => StateV1::Stopping,
                TaskState::Pausing => StateV1::Pausing,
                TaskState::Succeeded => StateV1::Succeeded,
                TaskState::Failed => StateV1::Failed,
                TaskState::Stopped => StateV1::Stopped,
                TaskState::Paused => StateV1::Paused,
                TaskState::Interrupted => StateV1::Interrupted,
            },
            reason: summary.reason.map(Into::into),
            created_by: summary.created_by.clone().into(),
            started_at: summary.started_at.0,
            finished_at: summary.finished_at.map(|at| at.0),
            changed_at: summary.changed_at.0,
            progress: [
                p.total,
                p.pending,
                p.running,
                p.succeeded,
                p.failed,
                p.skipped,
                p.interrupted,
                p.operations,
                p.operations_done,
            ],
            events: summary.events,
        }
    }
}

impl From<TaskV1> for TaskSummary {
    fn from(row: TaskV1) -> Self {
        let [total, pending, running, succeeded, failed, skipped, interrupted, operations, operations_done] =
            row.progress;
        let state = row.state();
        Self {
            id: TaskId(row.id),
            plan: row.plan,
            revision: row.revision,
            comment: row.comment,
            state,
            reason: row.reason.map(Into::into),
            created_by: row.created_by.into(),
            started_at: Timestamp(row.started_at),
            finished_at: row.finished_at.map(Timestamp),
            changed_at: Timestamp(row.changed_at),
            progress: Progress {
                total,
                pending,
                running,
                succeeded,
                failed,
                skipped,
                interrupted,
                operations,
                operations_done,
            },
            events: row.events,
        }
    }
}
