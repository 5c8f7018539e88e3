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
mod file;
mod ground;
mod lock;
mod open;
mod overlay;
mod queue;
mod read;
mod records;
mod reread;
mod row;
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
use crate::task::event::Event;
use crate::task::host_event::HostEvent;
use crate::task::record::Record;
use crate::task::summary::TaskSummary;
use crate::task::{Caller, Illegal, TaskId, Timestamp};

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

/// One change.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all changes are of the largest kind")]
pub enum Change {
    /// A task begins. The store gives it its number.
    CreateTask {
        /// When.
        at: Timestamp,
        /// [`Event::Started`].
        event: Event,
        /// A repeated request with this key gets this task.
        key: Option<String>,
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
    /// The next revision of a plan. The store gives it its number.
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
    const fn name(&self) -> &'static str {
        match self {
            Self::CreateTask { event, .. } | Self::Append { event, .. } => event.name(),
            Self::DeleteTask { .. } => "task.deleted",
            Self::PutPlan { .. } => "plan.created",
            Self::DeletePlan { .. } => "plan.deleted",
            Self::Host { event, .. } => event.name(),
        }
    }
}

/// What a commit gave numbers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// The task that was created.
    pub task: Option<TaskId>,
    /// The revision that was stored.
    pub revision: Option<u32>,
    /// The last entry of the journal.
    pub seq: u64,
}

/// Why the store can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another daemon holds the state directory.
    #[error(
        "cannot use {path}: another deployd holds it ({holder}); stop that one, or use another state directory"
    )]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// "process 17".
        holder: String,
    },
    /// The file can't be opened or is damaged. It was left as it is.
    #[error(
        "cannot open the store {path}: {why}; it was left untouched: restore a backup in its place, \
         or move it and {} away to begin with an empty one", file::mark_of(.path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The check of an existing file has refused it, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The file is none that the store may be kept in.
    #[error("cannot use the store {path}: {why}")]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// There was a store, and it is gone.
    #[error(
        "the store {path} is missing: restore a backup in its place, or remove {mark} to begin with an \
         empty one"
    )]
    Gone {
        /// The file.
        path: PathBuf,
        /// What says that it was there.
        mark: PathBuf,
    },
    /// A newer deployd has written it.
    #[error(
        "cannot open the store {path}: it has layout {found}, this deployd knows {known}; run the newer version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// A row can't be read.
    #[error(
        "cannot read row {key} of table {table}: {why}; restore a backup, or run the version that wrote it"
    )]
    Row {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The events of a task contradict each other.
    #[error(
        "the journal of task {task} is corrupt at event {n}: {why}; restore a backup, and keep this store for a report of the defect"
    )]
    Journal {
        /// The task.
        task: TaskId,
        /// The event.
        n: u64,
        /// What is wrong.
        why: Illegal,
    },
    /// A commit failed: whether it is durable is unknown.
    #[error(
        "cannot write to the store: {0}; whether the last change is durable is unknown, so deployd ends: see the disk, and start it again"
    )]
    CommitUnknown(String),
    /// The store is closed.
    #[error("the store is closed, deployd is ending; try again when it is back")]
    Closed,
    /// The system refused.
    #[error("cannot {what} {path}: {source}; see that its disk is writable and has room")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A backup can't be made.
    #[error("cannot copy the store: {0}; is there room for it in the state directory?")]
    Copy(String),
    /// redb failed while reading.
    #[error("cannot read the store: {0}; see the disk, and deployd's log")]
    Read(String),
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

    /// The id of this store: 16 hex digits, made with it.
    pub fn instance(&self) -> &str {
        &self.inner.instance
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
