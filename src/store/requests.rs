//! Requests by their idempotency keys: written with what they did, in the same commit.

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableError, WriteTransaction};

use super::StoreError;
use super::read::{Snapshot, read, row_of};
use super::row::request::RequestV1;
use super::row::task::TaskV1;
use super::row::{decode, encode};
use super::tables::{KEYS, REQUESTS, TASK_KEYS, TASKS};
use crate::task::request::{Call, FirstRequest, Keyed, RequestKey};
use crate::task::summary::TaskSummary;
use crate::task::{TaskId, Timestamp};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Requests = ReadOnlyTable<(u32, &'static str, &'static str), &'static [u8]>;

fn place(key: &RequestKey) -> (u32, &str, &str) {
    (key.uid, key.call.name(), &key.key)
}

/// Keeps a request with what it did.
pub fn keep(transaction: &WriteTransaction, keyed: &Keyed, first: &FirstRequest) -> Result<(), Failure> {
    let first = FirstRequest { fingerprint: Some(keyed.fingerprint), ..first.clone() };
    write(transaction, &keyed.key, &first)
}

fn write(transaction: &WriteTransaction, key: &RequestKey, first: &FirstRequest) -> Result<(), Failure> {
    transaction.open_table(REQUESTS)?.insert(place(key), &*encode(&RequestV1::from(first)))?;
    if let Some(task) = first.task {
        transaction.open_table(TASK_KEYS)?.insert(task.0, (key.uid, &*key.key))?;
    }
    Ok(())
}

/// The first request with this key, as this transaction sees it.
pub fn first(transaction: &WriteTransaction, key: &RequestKey) -> Result<Option<FirstRequest>, Failure> {
    let requests = transaction.open_table(REQUESTS)?;
    let row = requests.get(place(key))?;
    Ok(row.map(|row| decode::<RequestV1>(row.value())).transpose()?.map(Into::into))
}

/// A task is deleted: from now on its key is kept for a limited time.
pub fn task_is_deleted(transaction: &WriteTransaction, task: TaskId, at: Timestamp) -> Result<(), Failure> {
    let key = {
        let keys = transaction.open_table(TASK_KEYS)?;
        let Some(row) = keys.get(task.0)? else { return Ok(()) };
        let (uid, key) = row.value();
        RequestKey { uid, call: Call::Execute, key: key.to_string() }
    };
    let found = first(transaction, &key)?.filter(|first| first.task == Some(task));
    found.map_or(Ok(()), |first| write(transaction, &key, &FirstRequest { deleted_at: Some(at), ..first }))
}

/// Forgets the keys that were kept long enough.
pub fn forget(transaction: &WriteTransaction, now: Timestamp) -> Result<(), Failure> {
    let mut requests = transaction.open_table(REQUESTS)?;
    let mut keys = transaction.open_table(TASK_KEYS)?;
    let mut gone = Vec::new();
    for entry in requests.range::<(u32, &str, &str)>(..)? {
        let (place, row) = entry?;
        let first: FirstRequest = decode::<RequestV1>(row.value())?.into();
        if first.is_outdated(now) {
            let (uid, call, key) = place.value();
            gone.push(((uid, call.to_string(), key.to_string()), first.task));
        }
    }
    for ((uid, call, key), task) in gone {
        requests.remove((uid, &*call, &*key))?;
        if let Some(task) = task {
            keys.remove(task.0)?;
        }
    }
    Ok(())
}

/// Takes over the keys of a version that kept a task's number with each and nothing else. A key whose task is gone was
/// of no account to it, and its user is not known.
pub fn take_over(database: &Database) -> Result<(), Failure> {
    let reading = database.begin_read()?;
    match reading.open_table(KEYS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        keys => {
            if keys?.first()?.is_none() {
                return Ok(());
            }
        }
    }
    drop(reading);
    let transaction = database.begin_write()?;
    {
        let mut keys = transaction.open_table(KEYS)?;
        for entry in keys.range::<&str>(..)? {
            let (key, value) = entry?;
            let (task, at) = value.value();
            let Some(row) = transaction.open_table(TASKS)?.get(task)?.map(|row| row.value().to_vec()) else {
                continue;
            };
            let task: TaskSummary = decode::<TaskV1>(&row)?.into();
            let (uid, key) = (task.created_by.uid, key.value().to_string());
            let first = FirstRequest {
                at: Timestamp(at),
                plan: task.plan,
                revision: task.revision,
                task: Some(task.id),
                deleted_at: None,
                fingerprint: None,
            };
            write(&transaction, &RequestKey { uid, call: Call::Execute, key }, &first)?;
        }
        keys.retain(|_, _| false)?;
    }
    transaction.commit()?;
    Ok(())
}

impl Snapshot {
    /// The first request with this key, if the key is still kept.
    pub fn first_request(&self, key: &RequestKey) -> Result<Option<FirstRequest>, StoreError> {
        let Some(requests) = self.requests()? else { return Ok(None) };
        let row = requests.get(place(key)).map_err(read)?;
        row.map(|row| Ok(row_of::<RequestV1>("requests", &key.key, row.value())?.into())).transpose()
    }

    /// The idempotency key that a task was started with, also after it was deleted, as long as the key is kept.
    pub fn key_of_task(&self, task: TaskId) -> Result<Option<String>, StoreError> {
        let keys = match self.transaction.open_table(TASK_KEYS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(read)?,
        };
        Ok(keys.get(task.0).map_err(read)?.map(|row| row.value().1.to_string()))
    }

    /// Whether there are keys that were kept long enough.
    pub fn has_outdated_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        let mut found = false;
        self.each_request(|first| found |= first.is_outdated(now))?;
        Ok(found)
    }

    /// Reads every request once.
    pub(super) fn verify_requests(&self) -> Result<(), StoreError> {
        self.each_request(drop)
    }

    fn each_request(&self, mut work: impl FnMut(FirstRequest)) -> Result<(), StoreError> {
        let Some(requests) = self.requests()? else { return Ok(()) };
        for entry in requests.range::<(u32, &str, &str)>(..).map_err(read)? {
            let (place, row) = entry.map_err(read)?;
            let (uid, call, key) = place.value();
            work(
                row_of::<RequestV1>("requests", &format_args!("({uid}, {call}, {key})"), row.value())?.into(),
            );
        }
        Ok(())
    }

    /// `None`: an earlier version wrote the store, and no request with a key has come since.
    fn requests(&self) -> Result<Option<Requests>, StoreError> {
        match self.transaction.open_table(REQUESTS) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            table => table.map(Some).map_err(read),
        }
    }
}
