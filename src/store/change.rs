//! What can be changed in the store, and what a commit tells of it.

use crate::task::event::Event;
use crate::task::host_event::HostEvent;
use crate::task::record::Record;
use crate::task::request::Keyed;
use crate::task::summary::TaskSummary;
use crate::task::{Caller, TaskId, Timestamp};

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    /// A task begins. The store gives it its number.
    CreateTask {
        /// When.
        at: Timestamp,
        /// [`Event::Started`].
        event: Event,
        /// The request, if it came with a key: a repeated one gets this task.
        key: Option<Keyed>,
    },
    /// Something happened to a task.
    Append {
        /// Which.
        task: TaskId,
        /// The number of this event: one more than the last one's.
        n: u64,
        /// When.
        at: Timestamp,
        /// What.
        event: Event,
        /// The task after it.
        summary: TaskSummary,
        /// What it leaves beside the journal.
        records: Vec<Record>,
    },
    /// A task is forgotten; that it was is not.
    DeleteTask {
        /// Which.
        task: TaskId,
        /// When.
        at: Timestamp,
        /// Who; `None`: it was older than the retention.
        by: Option<Caller>,
    },
    /// The next revision of a plan, unless its text is the newest one's, or the request was made before. The store gives
    /// it its number.
    PutPlan {
        /// The plan.
        name: String,
        /// When.
        at: Timestamp,
        /// Who.
        by: Caller,
        /// Its comment.
        comment: Option<String>,
        /// Its items.
        items: u32,
        /// Its batches.
        batches: u32,
        /// The file.
        text: Vec<u8>,
        /// The request, if it came with a key.
        key: Option<Keyed>,
    },
    /// All revisions of a plan are forgotten; their numbers are not used again.
    DeletePlan {
        /// The plan.
        name: String,
        /// When.
        at: Timestamp,
        /// Who.
        by: Caller,
    },
    /// Idempotency keys that were kept long enough are forgotten.
    ForgetKeys {
        /// The time now.
        now: Timestamp,
    },
    /// Something happened to the host.
    Host {
        /// When.
        at: Timestamp,
        /// What.
        event: HostEvent,
    },
}

impl Change {
    /// The name of the event that it becomes in the journal.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::CreateTask { event, .. } | Self::Append { event, .. } => event.name(),
            Self::DeleteTask { .. } => "task.deleted",
            Self::PutPlan { .. } => "plan.created",
            Self::DeletePlan { .. } => "plan.deleted",
            Self::ForgetKeys { .. } => "keys.forgotten",
            Self::Host { event, .. } => event.name(),
        }
    }
}

/// What a commit gave numbers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// The task that was created.
    pub task: Option<TaskId>,
    /// The revision of the plan.
    pub revision: Option<u32>,
    /// What became of a plan that was to be stored.
    pub put: Put,
    /// The last entry of the journal.
    pub seq: u64,
}

/// What became of a plan that was to be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Put {
    /// It is a new revision.
    #[default]
    Stored,
    /// Its text is that of the newest revision: that one stands for it.
    Unchanged,
    /// The same request has stored a revision before.
    Repeated,
    /// Its key names another request: nothing was stored.
    KeyReused,
}
