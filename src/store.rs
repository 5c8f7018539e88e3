//! The store: one redb file, one writer.
//!
//! Everything that has to be durable goes through [`Store::commit`] to a thread of its own, which
//! puts whatever is waiting into one transaction (group commit): a commit costs one sync, whatever
//! it carries. Reading takes a snapshot and waits for nobody.
//!
//! An error from a commit means *unknown*: the transaction may still be durable. Then nothing more
//! is written, [`Store::failed`] says so, and the daemon ends; the truth is read from the disk at
//! its next start.

mod backup;
mod change;
mod epoch;
mod error;
mod file;
mod ground;
mod lock;
mod open;
mod overlay;
mod queue;
mod read;
mod records;
mod requests;
mod reread;
mod row;
mod session;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::Database;
use tokio::sync::{oneshot, watch};

use queue::Queue;

use crate::metrics::Metrics;

pub use change::{Change, Committed, Put};
pub use epoch::{Ownership, Restored};
pub use error::StoreError;
pub use lock::StateLock;
pub use open::{Integrity, VERDICT, verify, verify_with_backend};
pub use queue::Expectation;
pub use read::{JournalEvent, PlanInfo, Snapshot, StoredEvent};
#[doc(hidden)]
pub use reread::{reread, row_of_event};

/// A handle; clones share the store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` once it is closed.
    database: RwLock<Option<Arc<Database>>>,
    /// The file that gets a seal when it is closed in good order.
    sealed: Option<PathBuf>,
    queue: Arc<Queue>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    durable: watch::Receiver<u64>,
    failed: watch::Receiver<bool>,
    backups: Mutex<()>,
    /// The file; `None` on a backend of a test.
    path: Option<PathBuf>,
    metrics: Arc<Metrics>,
    instance: String,
    number: String,
    epoch: u64,
    restored: Option<Restored>,
}

impl Drop for Inner {
    /// The writer ends, when it has written what is queued.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Who waits for a change.
pub enum Urgency {
    /// Nobody yet: it goes to disk with what is committed next, or soon.
    Noted,
    /// Somebody.
    Awaited,
    /// Somebody, as was said before.
    Expected(Expectation),
}

/// Changes that are made together or not at all.
struct Request {
    changes: Vec<Change>,
    /// Somebody waits for it.
    urgent: bool,
    done: oneshot::Sender<Result<Committed, StoreError>>,
}

impl Store {
    /// Queues changes at once, in the order of the calls, and resolves when they are on disk.
    pub fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send + use<> {
        self.queue(changes, Urgency::Awaited)
    }

    /// Resolves when all that was queued before is on disk; from now on somebody waits for it.
    pub fn flush(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let flushed = self.queue(Vec::new(), Urgency::Awaited);
        async move { flushed.await.map(drop) }
    }

    /// As [`Self::commit`], as urgent as is said.
    pub fn queue(
        &self,
        changes: Vec<Change>,
        urgency: Urgency,
    ) -> impl Future<Output = Result<Committed, StoreError>> + Send + use<> {
        let (done, told) = oneshot::channel();
        let (urgent, fulfils) = match urgency {
            Urgency::Noted => (false, None),
            Urgency::Awaited => (true, None),
            Urgency::Expected(expectation) => (true, Some(expectation)),
        };
        let sent = self.inner.queue.push(Request { changes, urgent, done }, fulfils);
        async move {
            if !sent {
                return Err(StoreError::Closed);
            }
            told.await.unwrap_or_else(|_| Err(StoreError::CommitUnknown("its writer has ended".into())))
        }
    }

    /// Something is about to be queued with [`Urgency::Expected`]: what others wait for is kept for it a moment.
    pub fn expect(&self) -> Expectation {
        Expectation::of(&self.inner.queue)
    }

    /// The store as it is now.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let database = self.inner.database.read().unwrap_or_else(PoisonError::into_inner);
        Snapshot::take(database.as_ref().ok_or(StoreError::Closed)?)
    }

    /// The last durable entry of the journal, as it grows.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.durable.clone()
    }

    /// Becomes true when a commit has failed.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.inner.failed.clone()
    }

    /// Whether the daemon before this one ended because this store failed, and could still say so.
    pub fn had_failed(&self) -> bool {
        self.inner.path.as_ref().is_some_and(|path| file::failure_of(path).exists())
    }

    /// What [`Self::had_failed`] says has been recorded.
    pub fn forget_failure(&self) {
        let Some(note) = self.inner.path.as_ref().map(|path| file::failure_of(path)) else { return };
        if let Err(error) = std::fs::remove_file(&note)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %note.display(), %error, "cannot remove the note of a store that failed");
        }
    }

    /// What is counted while this store is open.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The identity of the daemon that this store belongs to: everything that it makes on the host carries it.
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// The store's own number, 16 hex digits: what versions without identities have marked everything with.
    pub fn number(&self) -> &str {
        &self.inner.number
    }

    /// The epoch of its history, from 1.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// The history that this one has taken the place of, if opening it has begun an epoch.
    pub fn restored(&self) -> Option<&Restored> {
        self.inner.restored.as_ref()
    }

    /// Writes what is queued, ends the writer and closes the file. Later commits and snapshots are refused.
    pub fn close(&self) {
        self.inner.queue.close();
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = writer.is_some_and(|writer| writer.join().is_ok());
        let database = self.inner.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = database.and_then(Arc::into_inner).is_some_and(|database| database.close().is_ok());
        if ended
            && closed
            && !*self.inner.failed.borrow()
            && let Some(path) = &self.inner.sealed
            && let Err(error) = file::seal(path)
        {
            tracing::debug!(%error, "the store has no seal; the next start reads all of it");
        }
    }
}
