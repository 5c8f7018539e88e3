//! Old tasks are forgotten: those beyond `retention.tasks`, and those older than `retention.days`.
//!
//! Only what is over is forgotten, oldest first; a paused or interrupted task never is. That a task
//! was there stays in the journal. An artifact is kept as long as a release made of it is, and as long
//! as a task is kept that a plan could take back to it, or do again with it.

use std::io;
use std::time::Duration;

use crate::artifact::releases::SHORT;
use crate::blocking;
use crate::clock;
use crate::executor::Executor;
use crate::store::{Change, Store, StoreError};
use crate::task::{TaskId, Timestamp};

/// How many tasks are forgotten at once, so that nobody waits long for the store.
const AT_ONCE: usize = 256;
/// How long an artifact is kept that is in no release: it may be needed again soon.
const UNUSED_ARTIFACT: Duration = Duration::from_hours(24);

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How many tasks.
    pub tasks: u64,
    /// How long after they came to rest; `None`: as long as there are not too many.
    pub age: Option<Duration>,
}

/// Forgets what is not to be kept any more; returns how many tasks that were.
///
/// # Errors
/// When the store fails.
pub async fn prune_tasks(
    store: &Store,
    executor: &Executor,
    retention: Retention,
) -> Result<usize, StoreError> {
    let now = clock::now();
    let oldest = retention.age.map(|age| {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Timestamp(now.0.saturating_sub(age))
    });
    let doomed = store.snapshot()?.outdated(retention.tasks, oldest, AT_ONCE)?;
    let delete = |&task| Change::DeleteTask { task, at: now, by: None };
    if !doomed.is_empty() {
        store.commit(doomed.iter().map(delete).collect()).await?;
    }
    for &task in &doomed {
        remove_log(executor, task);
    }
    Ok(doomed.len())
}

/// Removes the logs of tasks that are gone: the daemon may have died between the two.
///
/// # Errors
/// When the store fails.
pub fn prune_logs(store: &Store, executor: &Executor) -> Result<(), StoreError> {
    // Listed first: a task is in the store before it has a log.
    let logged = executor.logs.tasks().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the logs of tasks");
        Vec::new()
    });
    let snapshot = store.snapshot()?;
    for task in logged {
        if snapshot.task_summary(task)?.is_none() {
            remove_log(executor, task);
        }
    }
    Ok(())
}

fn remove_log(executor: &Executor, task: TaskId) {
    if let Err(error) = executor.logs.remove(task) {
        tracing::warn!(%task, %error, "cannot remove the log of a task that is gone");
    }
}

/// Removes artifacts that nobody needs any more.
pub async fn prune_artifacts(store: &Store, executor: &Executor) {
    let store = store.clone();
    let (artifacts, releases) = (executor.artifacts.clone(), executor.releases.clone());
    let prune = move || {
        let known = releases.artifacts()?;
        let snapshot = store.snapshot().map_err(io::Error::other)?;
        artifacts.prune(UNUSED_ARTIFACT, |sha256| {
            // Of what can't be known it is assumed that it is needed.
            known.contains(&sha256[..SHORT]) || snapshot.is_needed(&sha256[..SHORT]).unwrap_or(true)
        })
    };
    match blocking::run(prune).await {
        Ok(0) => {}
        Ok(artifacts) => tracing::info!(artifacts, "artifacts that are in no release were removed"),
        Err(error) => tracing::warn!(%error, "cannot remove old artifacts"),
    }
}
