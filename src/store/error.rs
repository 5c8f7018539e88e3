//! Why the store can't be used, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::file;
use crate::task::{Illegal, TaskId};

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
