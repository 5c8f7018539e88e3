//! The check of a whole store: every row is read once, every task is folded.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::StoreError;
use super::read::{JournalEvent, Snapshot, StoredEvent, read, row_of, stored};
use super::row::task::TaskV1;
use super::tables::{EVENTS, FEED, HOST_EVENTS, TASKS};
use crate::task::state::TaskState;
use crate::task::{Task, TaskId};

/// How many entries are read at once when what is wrong is looked for.
const CHUNK: usize = 1024;

/// Places of entries in the journal: two lists are equal when count and sum are, in whatever order they
/// come. (Of damaged ones, one in 2^64 is taken for whole; and page checksums have been looked at before.)
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    count: u64,
    sum: u64,
}

impl Places {
    fn add(&mut self, seq: u64, task: u64, n: u64) {
        let mut hasher = DefaultHasher::new();
        (seq, task, n).hash(&mut hasher);
        self.count += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

impl Snapshot {
    /// Reads every row once.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        self.verify_states()?;
        let mut places = Places::default();
        self.verify_tasks(&mut places)?;
        let host = self.transaction.open_table(HOST_EVENTS).map_err(read)?;
        for entry in host.range::<u64>(..).map_err(read)? {
            let (seq, row) = entry.map_err(read)?;
            let entry = stored("host_events", &seq.value(), None, 0, row.value())?;
            places.add(entry.seq, 0, 0);
        }
        self.plans()?;
        self.verify_records()?;
        self.verify_feed(&places)
    }

    /// The summaries, and whether they are counted right.
    fn verify_states(&self) -> Result<(), StoreError> {
        let tasks = self.transaction.open_table(TASKS).map_err(read)?;
        let mut counted = [0; TaskState::ALL.len()];
        for entry in tasks.range::<u64>(..).map_err(read)? {
            let (id, row) = entry.map_err(read)?;
            let state = row_of::<TaskV1>("tasks", &id.value(), row.value())?.state();
            counted[TaskState::ALL.iter().position(|other| *other == state).unwrap_or_default()] += 1;
        }
        for ((state, count), counted) in self.states()?.into_iter().zip(counted) {
            if count != counted {
                let why = format!("it says {count}, and there are {counted}");
                return Err(StoreError::Row { table: "states", key: state.name().into(), why });
            }
        }
        Ok(())
    }

    /// The events of all tasks, folded.
    fn verify_tasks(&self, places: &mut Places) -> Result<(), StoreError> {
        let events = self.transaction.open_table(EVENTS).map_err(read)?;
        let mut folded: Option<Task> = None;
        for entry in events.range::<(u64, u64)>(..).map_err(read)? {
            let (key, row) = entry.map_err(read)?;
            let (id, n) = key.value();
            let entry = stored("events", &format_args!("({id}, {n})"), Some(TaskId(id)), n, row.value())?;
            places.add(entry.seq, id, n);
            let StoredEvent { event: JournalEvent::Task(event), at, .. } = entry else { continue };
            let applied = match folded.as_mut().filter(|task| task.id.0 == id) {
                Some(task) => task.apply(&event, at),
                None => Task::begin(TaskId(id), &event, at).map(|task| folded = Some(task)),
            };
            applied.map_err(|why| StoreError::Journal { task: TaskId(id), n, why })?;
        }
        Ok(())
    }

    /// Whether the feed names each of these places, and nothing else.
    fn verify_feed(&self, places: &Places) -> Result<(), StoreError> {
        let feed = self.transaction.open_table(FEED).map_err(read)?;
        let mut named = Places::default();
        for entry in feed.range::<u64>(..).map_err(read)? {
            let (seq, place) = entry.map_err(read)?;
            let (task, n) = place.value();
            named.add(seq.value(), task, n);
        }
        if named == *places {
            return Ok(());
        }
        // Which one it is is found the slow way.
        let mut after = 0;
        while let Some(last) = self.feed(after, None, CHUNK)?.last() {
            after = last.seq;
        }
        let (named, there) = (named.count, places.count);
        Err(StoreError::Read(format!("the feed names {named} entries, and there are {there}, or others")))
    }
}
