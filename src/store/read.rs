//! Reading: from a snapshot, waiting for nobody.

use std::ops::Bound;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::StoreError;
use super::row::event::{EntryV1, JournalV1};
use super::row::plan::PlanV1;
use super::row::task::TaskV1;
use super::row::{Row, decode};
use super::tables::{EVENTS, FEED, HOST_EVENTS, KEYS, OPEN_TASKS, PLANS, REVISIONS, STATES, TASKS};
use crate::task::event::Event;
use crate::task::host_event::HostEvent;
use crate::task::state::TaskState;
use crate::task::summary::TaskSummary;
use crate::task::{Caller, Task, TaskId, Timestamp};

/// The store at one moment.
pub struct Snapshot {
    pub(super) transaction: ReadTransaction,
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place among all entries.
    pub seq: u64,
    /// Its number among its task's events; 0 for the host's.
    pub n: u64,
    /// Its task.
    pub task: Option<TaskId>,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: JournalEvent,
}

/// What happened, to a task or to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// To a task.
    Task(Event),
    /// To the host.
    Host(HostEvent),
}

/// One revision of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanInfo {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u32,
    /// When it was stored.
    pub at: Timestamp,
    /// By whom.
    pub by: Caller,
    /// Its comment.
    pub comment: Option<String>,
    /// Its items.
    pub items: u32,
    /// Its batches.
    pub batches: u32,
    /// The file.
    pub text: Vec<u8>,
}

impl Snapshot {
    pub(super) fn take(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { transaction: database.begin_read().map_err(read)? })
    }

    /// What lists show of a task.
    pub fn task_summary(&self, id: TaskId) -> Result<Option<TaskSummary>, StoreError> {
        let tasks = self.transaction.open_table(TASKS).map_err(read)?;
        let Some(row) = tasks.get(id.0).map_err(read)? else { return Ok(None) };
        Ok(Some(row_of::<TaskV1>("tasks", &id, row.value())?.into()))
    }

    /// Tasks in one of these states (empty: in any), newest first, older than `before`, at most `limit`.
    pub fn task_summaries(
        &self,
        states: &[TaskState],
        before: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<TaskSummary>, StoreError> {
        let tasks = self.transaction.open_table(TASKS).map_err(read)?;
        let mut found = Vec::new();
        for entry in tasks.range(..before.map_or(u64::MAX, |id| id.0)).map_err(read)?.rev() {
            if found.len() == limit {
                break;
            }
            let (id, row) = entry.map_err(read)?;
            let summary: TaskSummary = row_of::<TaskV1>("tasks", &id.value(), row.value())?.into();
            if states.is_empty() || states.contains(&summary.state) {
                found.push(summary);
            }
        }
        Ok(found)
    }

    /// The tasks that are not over, oldest first.
    pub fn open_tasks(&self) -> Result<Vec<TaskId>, StoreError> {
        let open = self.transaction.open_table(OPEN_TASKS).map_err(read)?;
        let range = open.range::<u64>(..).map_err(read)?;
        range.map(|entry| Ok(TaskId(entry.map_err(read)?.0.value()))).collect()
    }

    /// Tasks that are over and beyond what is kept, oldest first, at most `limit`: those of more
    /// than `keep` tasks, and those that came to rest before `oldest`.
    pub fn outdated(
        &self,
        keep: u64,
        oldest: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        let tasks = self.transaction.open_table(TASKS).map_err(read)?;
        let mut excess = tasks.len().map_err(read)?.saturating_sub(keep);
        let mut found = Vec::new();
        for entry in tasks.range::<u64>(..).map_err(read)? {
            let (id, row) = entry.map_err(read)?;
            let summary: TaskSummary = row_of::<TaskV1>("tasks", &id.value(), row.value())?.into();
            if !summary.state.is_final() {
                continue;
            }
            let too_old = oldest.is_some_and(|oldest| summary.changed_at < oldest);
            if found.len() == limit || !(excess > 0 || too_old) {
                break;
            }
            excess = excess.saturating_sub(1);
            found.push(summary.id);
        }
        Ok(found)
    }

    /// How many tasks are in each state.
    pub fn states(&self) -> Result<Vec<(TaskState, u64)>, StoreError> {
        let states = self.transaction.open_table(STATES).map_err(read)?;
        let count =
            |state: TaskState| Ok(states.get(state.name()).map_err(read)?.map_or(0, |count| count.value()));
        TaskState::ALL.into_iter().map(|state| Ok((state, count(state)?))).collect()
    }

    /// The summaries of the tasks that are not over.
    pub fn open_summaries(&self) -> Result<Vec<TaskSummary>, StoreError> {
        self.open_tasks()?.into_iter().filter_map(|id| self.task_summary(id).transpose()).collect()
    }

    /// How many tasks, and how many plans there are.
    pub fn counts(&self) -> Result<(u64, u64), StoreError> {
        let tasks = self.transaction.open_table(TASKS).map_err(read)?.len().map_err(read)?;
        let plans = self.transaction.open_table(REVISIONS).map_err(read)?.len().map_err(read)?;
        Ok((tasks, plans))
    }

    /// A task: the fold of its events.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        Ok(self.task_with_events(id)?.map(|(task, _)| task))
    }

    /// A task and its events.
    pub fn task_with_events(&self, id: TaskId) -> Result<Option<(Task, Vec<StoredEvent>)>, StoreError> {
        let events = self.task_events(id, 0, usize::MAX)?;
        let mut folded: Option<Task> = None;
        for stored in &events {
            let JournalEvent::Task(event) = &stored.event else { continue };
            let applied = match &mut folded {
                Some(task) => task.apply(event, stored.at),
                None => Task::begin(id, event, stored.at).map(|task| folded = Some(task)),
            };
            applied.map_err(|why| StoreError::Journal { task: id, n: stored.n, why })?;
        }
        Ok(folded.map(|task| (task, events)))
    }

    /// The events of a task after number `after`.
    pub fn task_events(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let events = self.transaction.open_table(EVENTS).map_err(read)?;
        let range = events
            .range((Bound::Excluded((id.0, after)), Bound::Included((id.0, u64::MAX))))
            .map_err(read)?;
        range
            .take(limit)
            .map(|entry| {
                let (key, row) = entry.map_err(read)?;
                let (task, n) = key.value();
                stored("events", &format_args!("({task}, {n})"), Some(id), n, row.value())
            })
            .collect()
    }

    /// Entries after `after` in their order: of one task, or all.
    pub fn feed(
        &self,
        after: u64,
        task: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if let Some(task) = task {
            return self.task_events(task, self.last_n_up_to(task, after)?, limit);
        }
        let feed = self.transaction.open_table(FEED).map_err(read)?;
        let events = self.transaction.open_table(EVENTS).map_err(read)?;
        let host = self.transaction.open_table(HOST_EVENTS).map_err(read)?;
        let mut found = Vec::new();
        for entry in feed.range((Bound::Excluded(after), Bound::Unbounded)).map_err(read)?.take(limit) {
            let (seq, place) = entry.map_err(read)?;
            let (seq, (task, n)) = (seq.value(), place.value());
            let missing = || StoreError::Row {
                table: "feed",
                key: seq.to_string(),
                why: "what it names is missing".into(),
            };
            found.push(if task == 0 {
                let row = host.get(seq).map_err(read)?.ok_or_else(missing)?;
                stored("host_events", &seq, None, 0, row.value())?
            } else {
                let row = events.get((task, n)).map_err(read)?.ok_or_else(missing)?;
                stored("events", &format_args!("({task}, {n})"), Some(TaskId(task)), n, row.value())?
            });
        }
        Ok(found)
    }

    /// The number of a task's last event whose place is not after `seq`: its events' places ascend.
    fn last_n_up_to(&self, task: TaskId, seq: u64) -> Result<u64, StoreError> {
        if seq == 0 {
            return Ok(0);
        }
        let events = self.transaction.open_table(EVENTS).map_err(read)?;
        let last = events.range((task.0, 0)..=(task.0, u64::MAX)).map_err(read)?.next_back();
        let Some(last) = last else { return Ok(0) };
        let (mut low, mut high) = (0, last.map_err(read)?.0.value().1);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let row = events.get((task.0, middle)).map_err(read)?;
            let place = match row {
                Some(row) => row_of::<EntryV1>("events", &middle, row.value())?.seq,
                None => u64::MAX,
            };
            if place <= seq {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    /// One revision of a plan; the newest when `revision` is `None`.
    pub fn plan(&self, name: &str, revision: Option<u32>) -> Result<Option<PlanInfo>, StoreError> {
        let plans = self.transaction.open_table(PLANS).map_err(read)?;
        let range = match revision {
            Some(revision) => (name, revision)..=(name, revision),
            None => (name, 0)..=(name, u32::MAX),
        };
        let Some(entry) = plans.range(range).map_err(read)?.next_back() else { return Ok(None) };
        let (key, row) = entry.map_err(read)?;
        Ok(Some(plan_info(name, key.value().1, row.value())?))
    }

    /// The newest revision of each plan, by name, without its text: all of them together may be large.
    pub fn plans(&self) -> Result<Vec<PlanInfo>, StoreError> {
        let revisions = self.transaction.open_table(REVISIONS).map_err(read)?;
        let mut found = Vec::new();
        for entry in revisions.range::<&str>(..).map_err(read)? {
            let (name, _) = entry.map_err(read)?;
            let plan = self.plan(name.value(), None)?;
            found.extend(plan.map(|plan| PlanInfo { text: Vec::new(), ..plan }));
        }
        Ok(found)
    }

    /// The task that a request with this idempotency key has started, if it is still there.
    pub fn task_of_key(&self, key: &str) -> Result<Option<TaskId>, StoreError> {
        let keys = self.transaction.open_table(KEYS).map_err(read)?;
        let Some(entry) = keys.get(key).map_err(read)? else { return Ok(None) };
        let id = TaskId(entry.value().0);
        Ok(self.task_summary(id)?.map(|summary| summary.id))
    }
}

pub(super) fn stored(
    table: &'static str,
    key: &impl ToString,
    task: Option<TaskId>,
    n: u64,
    bytes: &[u8],
) -> Result<StoredEvent, StoreError> {
    let row: EntryV1 = row_of(table, key, bytes)?;
    let event =
        match row.event {
            JournalV1::Task(event) => {
                JournalEvent::Task(event.try_into().map_err(|error: super::row::RowError| {
                    StoreError::Row { table, key: key.to_string(), why: error.to_string() }
                })?)
            }
            JournalV1::Host(event) => JournalEvent::Host(event.into()),
        };
    Ok(StoredEvent { seq: row.seq, n, task, at: Timestamp(row.at), event })
}

fn plan_info(name: &str, revision: u32, bytes: &[u8]) -> Result<PlanInfo, StoreError> {
    let row: PlanV1 = row_of("plans", &format!("({name}, {revision})"), bytes)?;
    Ok(PlanInfo {
        name: name.to_string(),
        revision,
        at: Timestamp(row.at),
        by: row.by.into(),
        comment: row.comment,
        items: row.items,
        batches: row.batches,
        text: row.text,
    })
}

pub(super) fn row_of<R: Row>(
    table: &'static str,
    key: &impl ToString,
    bytes: &[u8],
) -> Result<R, StoreError> {
    decode(bytes).map_err(|error| StoreError::Row { table, key: key.to_string(), why: error.to_string() })
}

pub(super) fn read(error: impl std::fmt::Display) -> StoreError {
    StoreError::Read(error.to_string())
}
