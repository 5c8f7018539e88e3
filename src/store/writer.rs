//! The only writer: a thread that puts whatever waits into one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use redb::{Database, ReadableTable, Table, WriteTransaction};
use tokio::sync::watch;

use super::file::{self, Place};
use super::queue::Queue;
use super::row::event::EntryV1;
use super::row::plan::PlanV1;
use super::row::task::TaskV1;
use super::row::{decode, encode};
use super::tables::{
    COUNTERS, EVENTS, FEED, HOST_EVENTS, KEYS, OPEN_TASKS, PLANS, REVISIONS, STATES, TASKS, counter,
};
use super::{Change, Committed, Request, StoreError};
use crate::crashpoint::{self, Side};
use crate::metrics::Metrics;
use crate::task::event::Event;
use crate::task::host_event::HostEvent;
use crate::task::state::TaskState;
use crate::task::summary::TaskSummary;
use crate::task::{Task, TaskId, Timestamp};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Who is told what.
pub struct Tell<'a> {
    /// The last durable entry of the journal.
    pub durable: &'a watch::Sender<u64>,
    /// That a commit has failed.
    pub failed: &'a watch::Sender<bool>,
    /// How long a commit took.
    pub metrics: &'a Metrics,
}

/// Writes until the queue is closed or a commit fails.
pub fn run(database: &Arc<Database>, place: Option<&Place>, queue: &Queue, tell: &Tell<'_>) {
    while let Some(group) = queue.next_group() {
        if group.iter().all(|request| request.changes.is_empty()) {
            let nothing = Committed { seq: *tell.durable.borrow(), ..Committed::default() };
            for request in group {
                request.done.send(Ok(nothing)).ok();
            }
            continue;
        }
        let begun = Instant::now();
        let written = std::panic::catch_unwind(AssertUnwindSafe(|| write(database, place, &group)));
        let error = match written {
            Ok(Ok((answers, seq))) => {
                tell.metrics.commit(begun.elapsed());
                tell.durable.send_replace(seq);
                for (request, answer) in group.into_iter().zip(answers) {
                    request.done.send(Ok(answer)).ok();
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its writer panicked".to_string(),
        };
        tracing::error!(%error, "cannot write to the store");
        if let Some(place) = place {
            file::note_failure(place.path(), &error);
        }
        tell.failed.send_replace(true);
        for request in group {
            request.done.send(Err(StoreError::CommitUnknown(error.clone()))).ok();
        }
        queue.abandon();
        return;
    }
}

/// One transaction for all requests; answers in their order, and the last entry.
fn write(
    database: &Database,
    place: Option<&Place>,
    group: &[Request],
) -> Result<(Vec<Committed>, u64), Failure> {
    let transaction = database.begin_write()?;
    let mut writing = Writing::begin(&transaction)?;
    let mut answers = Vec::with_capacity(group.len());
    for request in group {
        let mut answer = Committed::default();
        for change in &request.changes {
            writing.apply(change, &mut answer)?;
        }
        answer.seq = writing.seq;
        answers.push(answer);
    }
    let seq = writing.finish()?;
    let what = || group.iter().flat_map(|request| &request.changes).map(Change::name);
    crashpoint::commit(Side::Before, what());
    transaction.commit()?;
    // What was written to a file without a name is lost with the daemon.
    place.map_or(Ok(()), Place::check)?;
    crashpoint::commit(Side::After, what());
    Ok((answers, seq))
}

struct Writing<'a> {
    transaction: &'a WriteTransaction,
    /// What every change writes to is opened once.
    events: Table<'a, (u64, u64), &'static [u8]>,
    feed: Table<'a, u64, (u64, u64)>,
    seq: u64,
    last_task: u64,
    /// Each task's summary is written once, however many of its events there are.
    summaries: BTreeMap<u64, TaskSummary>,
}

impl<'a> Writing<'a> {
    fn begin(transaction: &'a WriteTransaction) -> Result<Self, Failure> {
        let counters = transaction.open_table(COUNTERS)?;
        let read =
            |name| -> Result<u64, Failure> { Ok(counters.get(name)?.map_or(0, |value| value.value())) };
        let (seq, last_task) = (read(counter::SEQ)?, read(counter::TASK)?);
        drop(counters);
        let (events, feed) = (transaction.open_table(EVENTS)?, transaction.open_table(FEED)?);
        Ok(Self { transaction, events, feed, seq, last_task, summaries: BTreeMap::new() })
    }

    fn finish(self) -> Result<u64, Failure> {
        let mut tasks = self.transaction.open_table(TASKS)?;
        let mut open = self.transaction.open_table(OPEN_TASKS)?;
        let mut states = self.transaction.open_table(STATES)?;
        for (id, summary) in &self.summaries {
            let before = state_of(tasks.insert(id, &*encode(&TaskV1::from(summary)))?)?;
            if before != Some(summary.state) {
                if let Some(before) = before {
                    count(&mut states, before, -1)?;
                }
                count(&mut states, summary.state, 1)?;
            }
            // Writing what is there already would write its page anew.
            let was_open = before.is_some_and(|before| !before.is_final());
            match (was_open, !summary.state.is_final()) {
                (true, false) => drop(open.remove(id)?),
                (false, true) => drop(open.insert(id, ())?),
                _ => {}
            }
        }
        let mut counters = self.transaction.open_table(COUNTERS)?;
        counters.insert(counter::SEQ, self.seq)?;
        counters.insert(counter::TASK, self.last_task)?;
        Ok(self.seq)
    }

    fn apply(&mut self, change: &Change, answer: &mut Committed) -> Result<(), Failure> {
        match change {
            Change::CreateTask { at, event, key } => {
                answer.task = Some(self.create_task(*at, event, key.as_deref())?);
            }
            Change::Append { task, n, at, event, summary, records } => {
                self.append(*task, *n, *at, event)?;
                for record in records {
                    super::records::write(self.transaction, *task, self.seq, record)?;
                }
                self.summaries.insert(task.0, summary.clone());
            }
            Change::DeleteTask { task, at, by } => {
                self.delete_task(*task)?;
                self.host(*at, HostEvent::TaskDeleted { task: *task, by: by.clone() })?;
            }
            Change::PutPlan { name, at, by, comment, items, batches, text } => {
                let row = PlanV1 {
                    at: at.0,
                    by: by.clone().into(),
                    comment: comment.clone(),
                    items: *items,
                    batches: *batches,
                    text: text.clone(),
                };
                let revision = self.put_plan(name, &row)?;
                answer.revision = Some(revision);
                self.host(*at, HostEvent::PlanCreated { name: name.clone(), revision, by: by.clone() })?;
            }
            Change::DeletePlan { name, at, by } => {
                let mut plans = self.transaction.open_table(PLANS)?;
                plans.retain_in((&**name, 0)..=(&**name, u32::MAX), |_, _| false)?;
                drop(plans);
                self.host(*at, HostEvent::PlanDeleted { name: name.clone(), by: by.clone() })?;
            }
            Change::Host { at, event } => self.host(*at, event.clone())?,
        }
        Ok(())
    }

    fn create_task(&mut self, at: Timestamp, event: &Event, key: Option<&str>) -> Result<TaskId, Failure> {
        self.last_task += 1;
        let id = TaskId(self.last_task);
        let task = Task::begin(id, event, at)?;
        self.append(id, 1, at, event)?;
        self.summaries.insert(id.0, TaskSummary::of(&task, 1));
        if let Some(key) = key {
            self.transaction.open_table(KEYS)?.insert(key, (id.0, at.0))?;
        }
        Ok(id)
    }

    fn append(&mut self, task: TaskId, n: u64, at: Timestamp, event: &Event) -> Result<(), Failure> {
        self.seq += 1;
        let row = encode(&EntryV1::of_task(self.seq, at, event));
        if self.events.insert((task.0, n), &*row)?.is_some() {
            return Err(format!("event {n} of task {task} is there already").into());
        }
        self.feed.insert(self.seq, (task.0, n))?;
        Ok(())
    }

    fn host(&mut self, at: Timestamp, event: HostEvent) -> Result<(), Failure> {
        self.seq += 1;
        let row = encode(&EntryV1::of_host(self.seq, at, event));
        self.transaction.open_table(HOST_EVENTS)?.insert(self.seq, &*row)?;
        self.feed.insert(self.seq, (0, 0))?;
        Ok(())
    }

    fn delete_task(&mut self, task: TaskId) -> Result<(), Failure> {
        let range = (task.0, 0)..=(task.0, u64::MAX);
        let mut needs = BTreeSet::new();
        for entry in self.events.range(range.clone())? {
            let entry: EntryV1 = decode(entry?.1.value())?;
            self.feed.remove(entry.seq)?;
            needs.extend(entry.event.need());
        }
        self.events.retain_in(range, |_, _| false)?;
        if let Some(before) = state_of(self.transaction.open_table(TASKS)?.remove(task.0)?)? {
            count(&mut self.transaction.open_table(STATES)?, before, -1)?;
        }
        self.transaction.open_table(OPEN_TASKS)?.remove(task.0)?;
        super::records::forget_needs(self.transaction, task, needs)?;
        self.summaries.remove(&task.0);
        Ok(())
    }

    fn put_plan(&self, name: &str, row: &PlanV1) -> Result<u32, Failure> {
        let mut revisions = self.transaction.open_table(REVISIONS)?;
        let revision = revisions.get(name)?.map_or(0, |last| last.value()) + 1;
        revisions.insert(name, revision)?;
        self.transaction.open_table(PLANS)?.insert((name, revision), &*encode(row))?;
        Ok(revision)
    }
}

/// The state of the task whose row this was.
fn state_of(row: Option<redb::AccessGuard<'_, &'static [u8]>>) -> Result<Option<TaskState>, Failure> {
    Ok(row.map(|row| decode::<TaskV1>(row.value())).transpose()?.map(|row| row.state()))
}

/// Counts the tasks in a state.
fn count(states: &mut Table<'_, &'static str, u64>, state: TaskState, by: i64) -> Result<(), Failure> {
    let before = states.get(state.name())?.map_or(0, |count| count.value());
    let after = before.checked_add_signed(by).ok_or("there are fewer tasks than are counted")?;
    states.insert(state.name(), after)?;
    Ok(())
}
