//! Rows without a store: for tests that have nothing but bytes.

use super::row::event::{EntryV1, JournalV1};
use super::row::plan::PlanV1;
use super::row::task::TaskV1;
use super::row::{decode, encode};
use crate::task::Timestamp;
use crate::task::event::Event;
use crate::task::summary::TaskSummary;

/// Reads `bytes` as each kind of row and takes what can be read into the domain; what comes out
/// is those, written again.
pub fn reread(bytes: &[u8]) -> Vec<Vec<u8>> {
    let entry = decode(bytes).ok().and_then(entry).map(|row| encode(&row));
    let task = decode(bytes).ok().map(|row: TaskV1| encode(&TaskV1::from(&TaskSummary::from(row))));
    let plan = decode(bytes).ok().map(|row: PlanV1| encode(&row));
    [entry, task, plan].into_iter().flatten().collect()
}

fn entry(row: EntryV1) -> Option<EntryV1> {
    let (seq, at) = (row.seq, Timestamp(row.at));
    match row.event {
        JournalV1::Task(event) => Some(EntryV1::of_task(seq, at, &Event::try_from(event).ok()?)),
        JournalV1::Host(event) => Some(EntryV1::of_host(seq, at, event.into())),
    }
}

/// The row of a task's first event.
pub fn row_of_event(event: &Event) -> Vec<u8> {
    encode(&EntryV1::of_task(1, Timestamp(0), event))
}
