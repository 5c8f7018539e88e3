//! Epochs: a store that was restored or copied goes on with numbers that it has never given out.
//!
//! Its journal ends where the backup was made, but others know what came after that: readers of the event stream,
//! containers that carry the ids of operations, people who know a task by its number. So before anything else it draws
//! a new epoch, and entries and tasks go on far behind all that may have been given out before: by what is noted beside
//! the store, and by the clock, where that is lost as well.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase};

use super::StoreError;
use super::open::io_error;
use super::read::{Snapshot, read};
use super::row::encode;
use super::row::event::EntryV1;
use super::session::{Beside, Session};
use super::tables::{COUNTERS, EPOCHS, FEED, HOST_EVENTS, SCHEMA, counter, each_table};
use crate::random;
use crate::task::host_event::{Cause, HostEvent};
use crate::task::{TaskId, Timestamp};

/// 2026-01-01T00:00:00Z, in microseconds since 1970: numbers that come from the clock count from here.
const BEGIN: i64 = 1_767_225_600_000_000;
/// Numbers of entries that a second has.
const ENTRIES: u64 = 100_000;
/// Numbers of tasks that a second has.
const TASKS: u64 = 10;
/// No number comes from a clock that is wrong by centuries: JSON has 53 bits.
const HIGHEST: u64 = 1 << 52;

/// Whose a store is to be.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// The identity of its daemon: 32 hex digits.
    pub id: String,
    /// Why its directory has another history, if it has.
    pub cause: Option<Cause>,
    /// Now.
    pub at: Timestamp,
}

/// A history that another one has taken the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The epoch that has begun.
    pub epoch: u64,
    /// How it was noticed.
    pub cause: Cause,
    /// The last entry that both have.
    pub last: u64,
    /// The first entry of the new epoch.
    pub first: u64,
    /// The first task that can be created in it.
    pub first_task: TaskId,
}

/// A store, ready to be used.
#[derive(Default)]
pub struct Entered {
    /// What the store's own number was, in hex digits.
    pub number: u64,
    pub seq: u64,
    pub epoch: u64,
    pub session: Option<Session>,
    pub restored: Option<Restored>,
}

/// What a store says of itself.
struct Stored {
    instance: u64,
    owner: Option<u128>,
    epoch: u64,
    seq: u64,
    task: u64,
    session: Option<u64>,
    is_backup: bool,
}

/// Makes what is missing in a store that an older version has written, and reads what it says of itself: for those who
/// use a store without owning it.
pub fn visit(database: &Database) -> Result<Entered, StoreError> {
    let stored = Stored::read(database)?;
    let tables = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        each_table!(table => transaction.open_table(table)?);
        Ok(transaction.commit()?)
    };
    if database.begin_read().map_err(read)?.open_table(EPOCHS).is_err() {
        tables().map_err(unknown)?;
    }
    Ok(Entered { number: stored.instance, seq: stored.seq, epoch: stored.epoch, ..Entered::default() })
}

/// Enters a store as its owner: a new session in any case, and a new epoch if it has another history than its directory.
/// `was_used`: a store was here before.
pub fn enter(
    database: &Database,
    path: &Path,
    was_used: bool,
    ownership: &Ownership,
) -> Result<Entered, StoreError> {
    let (stored, beside) = (Stored::read(database)?, Beside::read(path)?);
    let owner = u128::from_str_radix(&ownership.id, 16).unwrap_or_default();
    let cause = stored.cause(&beside, path, was_used, owner, ownership);
    let draw = || random::number().map_err(|error| io_error("draw a random number for", path, error));
    let mut restored = None;
    let (mut seq, mut task, mut epoch, mut number) = (stored.seq, stored.task, stored.epoch, stored.instance);
    if let Some(cause) = cause {
        let reached = beside.reached();
        // The number before the first one was given to nothing: whoever goes on after it misses nothing.
        let first = stored.seq.max(reached.seq).max(of_clock(ownership.at, ENTRIES)) + 2;
        let first_task = (stored.task.max(reached.task) + 1).max(of_clock(ownership.at, TASKS));
        (seq, task, epoch) = (first, first_task - 1, stored.epoch.max(reached.epoch) + 1);
        restored = Some(Restored { epoch, cause, last: stored.seq, first, first_task: TaskId(first_task) });
        // Two daemons must not name the operations that a version without identities left to both of them alike.
        let was_here = stored.owner.map_or(was_used || !beside.is_empty(), |before| before == owner);
        number = if was_here && cause != Cause::OtherDirectory { number } else { draw()? };
    }
    let session = draw()?;
    let begun = Session::begin(path, session, seq, task, epoch)?;
    let entering = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        each_table!(table => transaction.open_table(table)?);
        {
            let mut counters = transaction.open_table(COUNTERS)?;
            let [high, low] = halves(owner);
            for (name, value) in [
                (counter::SCHEMA, SCHEMA),
                (counter::INSTANCE, number),
                (counter::OWNER_HIGH, high),
                (counter::OWNER_LOW, low),
                (counter::SESSION, session),
                (counter::EPOCH, epoch),
                (counter::SEQ, seq),
                (counter::TASK, task),
            ] {
                counters.insert(name, value)?;
            }
            counters.remove(counter::BACKUP)?;
        }
        if let Some(Restored { epoch, cause, last, first, first_task }) = restored.clone() {
            let event = HostEvent::HistoryRestored { epoch, cause, last, first, first_task };
            let row = encode(&EntryV1::of_host(first, ownership.at, event));
            transaction.open_table(HOST_EVENTS)?.insert(first, &*row)?;
            transaction.open_table(FEED)?.insert(first, (0, 0))?;
            transaction.open_table(EPOCHS)?.insert(epoch, (last, first))?;
        }
        Ok(transaction.commit()?)
    };
    entering().map_err(unknown)?;
    Session::confirm(path, session)?;
    forget_request(path)?;
    Ok(Entered { number, seq, epoch, session: Some(begun), restored })
}

impl Stored {
    fn read(database: &Database) -> Result<Self, StoreError> {
        let counters = database.begin_read().map_err(read)?.open_table(COUNTERS).map_err(read)?;
        let get = |name| -> Result<Option<u64>, StoreError> {
            Ok(counters.get(name).map_err(read)?.map(|value| value.value()))
        };
        let owner = get(counter::OWNER_HIGH)?.zip(get(counter::OWNER_LOW)?);
        Ok(Self {
            instance: get(counter::INSTANCE)?.unwrap_or_default(),
            owner: owner.map(|(high, low)| u128::from(high) << 64 | u128::from(low)),
            epoch: get(counter::EPOCH)?.unwrap_or(1),
            seq: get(counter::SEQ)?.unwrap_or_default(),
            task: get(counter::TASK)?.unwrap_or_default(),
            session: get(counter::SESSION)?,
            is_backup: get(counter::BACKUP)?.is_some(),
        })
    }

    /// Why this store has another history than the one that was used here last; `None`: it has not.
    fn cause(
        &self,
        beside: &Beside,
        path: &Path,
        was_used: bool,
        owner: u128,
        ownership: &Ownership,
    ) -> Option<Cause> {
        if self.is_backup {
            return Some(Cause::Backup);
        }
        if self.owner.is_some_and(|before| before != owner) {
            return Some(Cause::OtherDirectory);
        }
        if ownership.cause.is_some() {
            return ownership.cause;
        }
        if request_of(path).exists() {
            return Some(Cause::Requested);
        }
        // A version without sessions made it, and another one put it here.
        let is_strange = self.session.is_none() && !was_used && self.seq > 0;
        (is_strange || !beside.continues(path, self.session, self.seq)).then_some(Cause::Copy)
    }
}

fn halves(number: u128) -> [u64; 2] {
    let low = number & u128::from(u64::MAX);
    [u64::try_from(number >> 64).unwrap_or_default(), u64::try_from(low).unwrap_or_default()]
}

/// The number that a second has by the clock, of so many in each.
fn of_clock(at: Timestamp, each: u64) -> u64 {
    let micros = u64::try_from(at.0.saturating_sub(BEGIN)).unwrap_or_default();
    (micros / 1_000).saturating_mul(each).checked_div(1_000).unwrap_or_default().min(HIGHEST)
}

/// By this file beside the store an administrator says that it was restored in a way that leaves no trace: the
/// snapshot of a file system or of a virtual machine.
fn request_of(path: &Path) -> PathBuf {
    path.with_extension("redb.restored")
}

fn forget_request(path: &Path) -> Result<(), StoreError> {
    let request = request_of(path);
    match fs::remove_file(&request) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &request, error)),
        _ => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
fn unknown(error: redb::Error) -> StoreError {
    StoreError::CommitUnknown(error.to_string())
}

impl Snapshot {
    /// Where a reader of the journal has to go on who knows it up to `position`, if that entry is in no history of this
    /// store: it was lost when an older one was restored. `None`: nothing was lost on the way.
    pub fn go_on_after(&self, position: u64) -> Result<Option<u64>, StoreError> {
        let counters = self.transaction.open_table(COUNTERS).map_err(read)?;
        let end = counters.get(counter::SEQ).map_err(read)?.map_or(0, |seq| seq.value());
        let mut newest = 1;
        for row in self.transaction.open_table(EPOCHS).map_err(read)?.range::<u64>(..).map_err(read)? {
            let (last, first) = row.map_err(read)?.1.value();
            if position > last && position < first - 1 {
                return Ok(Some(first));
            }
            newest = first;
        }
        Ok((position > end).then_some(newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_clock_ascend_and_fit_into_json() {
        let second = |seconds: i64| Timestamp(BEGIN + seconds * 1_000_000);
        assert_eq!(of_clock(Timestamp(0), ENTRIES), 0);
        assert_eq!(of_clock(second(3), ENTRIES), 300_000);
        assert_eq!(of_clock(Timestamp(BEGIN + 250_000), TASKS), 2);
        assert_eq!(of_clock(Timestamp(i64::MAX), ENTRIES), HIGHEST);
        assert_eq!(halves(u128::MAX - 1), [u64::MAX, u64::MAX - 1]);
    }
}
