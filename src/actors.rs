//! The actors: one for each owner of mutable state.
//!
//! ```text
//! plan supervisor ─ owns the catalog, the tasks that are active, admission
//!   └ task        ─ owns the course of one task: which batch, when to rest
//!       └ batch   ─ owns the places of the deployments that are going on
//!           └ deployment ─ owns the steps of one deployment
//! ```
//!
//! A parent asks its children and awaits; a child only tells its parent. What the rest of the
//! program wants of them goes through [`Commander`].

pub mod batch;
pub mod commander;
pub mod deployment;
pub mod guard;
pub mod ledger;
pub mod plan_supervisor;
pub mod prefetch;
pub mod preview;
pub mod stored_plan;
pub mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::{Catalog, ServiceId};
pub use crate::executor::{ContainerView, Preparation};
use crate::mistake::{FileMistake, Mistake};
pub use crate::task::command::Command;
use crate::task::drift::Drift;
use crate::task::state::{Refusal, TaskState};
use crate::task::{Caller, TaskId, Timestamp};
pub use preview::Preview;

/// What can be asked of the plan supervisor. (A trait, so that the socket is tested without one.)
#[async_trait]
pub trait Commander: Send + Sync + 'static {
    /// The catalog as it is now.
    fn catalog(&self) -> Arc<Catalog>;
    /// Checks a plan as [`Commander::put_plan`] would, without storing it: how many items and batches.
    async fn check_plan(&self, text: Vec<u8>) -> Result<PlanSize, Refused>;
    /// Stores the next revision of a plan.
    async fn put_plan(&self, name: String, text: Vec<u8>, by: Caller) -> Result<StoredPlan, Refused>;
    /// Deletes all revisions of a plan. Tasks keep what they need of it.
    async fn delete_plan(&self, name: String, by: Caller) -> Result<(), Refused>;
    /// Executes a plan.
    async fn execute(&self, execute: Execute) -> Result<Started, Refused>;
    /// What executing it would do.
    async fn dry_run(&self, plan: String, revision: Option<u32>) -> Result<Preview, Refused>;
    /// Stops, pauses, resumes or deletes a task.
    async fn command(&self, task: TaskId, command: Command, by: Caller) -> Result<Commanded, Refused>;
    /// Reads the catalog anew: all or nothing.
    async fn reload(&self, by: Option<Caller>) -> Result<Reloaded, Refused>;
    /// Creates a built-in repository.
    async fn create_repository(&self, name: String, by: Caller) -> Result<Repository, Refused>;
    /// Deletes one.
    async fn delete_repository(&self, name: String, by: Caller) -> Result<(), Refused>;
    /// The built-in repositories.
    async fn repositories(&self) -> Result<Vec<Repository>, Refused>;
    /// Each container of a service, as it is now.
    async fn containers(&self, service: ServiceId) -> Result<Vec<ContainerView>, Refused>;
    /// The last `lines` lines of output of each container of a service: (container, line).
    async fn service_logs(&self, service: ServiceId, lines: usize) -> Result<Vec<(String, String)>, Refused>;
    /// How large all artifacts are.
    async fn artifact_bytes(&self) -> Result<u64, Refused>;
    /// What the deployments of a task are about before they touch a container, by their index.
    fn preparations(&self, task: TaskId) -> BTreeMap<usize, Preparation>;
    /// The active task that holds a service.
    fn holder(&self, service: ServiceId) -> Option<TaskId>;
    /// Whether the daemon is shutting down.
    fn is_draining(&self) -> bool;
}

/// How large a checked plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanSize {
    /// Its items.
    pub items: u32,
    /// Its batches.
    pub batches: u32,
}

/// A plan that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPlan {
    /// Its revision.
    pub revision: u32,
    /// Its size.
    pub size: PlanSize,
}

/// What to execute.
#[derive(Debug, Clone)]
pub struct Execute {
    /// The plan's name.
    pub plan: String,
    /// Its revision; the newest when absent.
    pub revision: Option<u32>,
    /// A repeated call with this key returns the first one's task.
    pub idempotency_key: Option<String>,
    /// Who.
    pub by: Caller,
}

/// A task that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its number.
    pub task: TaskId,
    /// It was started by an earlier call with the same idempotency key.
    pub repeated: bool,
    /// Paused or interrupted tasks over the same services.
    pub warnings: Vec<String>,
}

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commanded {
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What a reload did to the catalog, by service names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// How many services there are now.
    pub services: usize,
    /// New ones.
    pub added: Vec<String>,
    /// Those that differ.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
}

/// A built-in repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Its branches.
    pub branches: Vec<String>,
}

/// An active task that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The service that it holds.
    pub service: ServiceId,
    /// Its number.
    pub task: TaskId,
    /// Its state.
    pub state: TaskState,
    /// Who executed it.
    pub user: String,
    /// Since when it runs.
    pub since: Timestamp,
}

/// Why a command was not carried out. Nothing has changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// No such task.
    #[error("there is no task {0}; `deployctl list` shows the tasks")]
    NoSuchTask(TaskId),
    /// No such plan.
    #[error("there is no plan {0}; `deployctl plan list` shows the plans")]
    NoSuchPlan(String),
    /// No such revision.
    #[error(
        "plan {name} has no revision {revision}; its newest is {newest}: `deployctl plan show {name}@{newest}`"
    )]
    NoSuchRevision {
        /// The plan.
        name: String,
        /// The revision asked for.
        revision: u32,
        /// The newest one.
        newest: u32,
    },
    /// No such service.
    #[error("there is no service {0} in the catalog; `deployctl service list` shows the services")]
    NoSuchService(String),
    /// No such repository.
    #[error("there is no repository {0}; `deployctl repo list` shows the repositories")]
    NoSuchRepository(String),
    /// It exists.
    #[error("{0} exists already; choose another name, or delete that one first")]
    Exists(String),
    /// A name that can't be used.
    #[error("{0}")]
    BadName(String),
    /// The task's state forbids it.
    #[error(transparent)]
    NotPossible(#[from] Refusal),
    /// A task's state forbids a plan out of it.
    #[error("cannot make a plan out of task {task}, which is {state}: {why}")]
    NoPlan {
        /// The task.
        task: TaskId,
        /// Its state.
        state: TaskState,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// A plan out of a task would be empty.
    #[error("{0}")]
    NothingToDo(String),
    /// Containers are not as the task left or found them.
    #[error(
        "cannot resume task {task}: {}; look at what differs, then `deployctl resume {task} --force`, or stop it",
        drifted(.drifts)
    )]
    Drifted {
        /// The task.
        task: TaskId,
        /// What differs.
        drifts: Vec<Drift>,
    },
    /// Active tasks hold the services.
    #[error("{}", conflict_text(.0))]
    Conflict(Vec<Holder>),
    /// The plan has mistakes.
    #[error("the plan is not valid: {}", mistakes(.0))]
    PlanInvalid(Vec<Mistake>),
    /// The catalog has mistakes; the one before stays in force.
    #[error(
        "the catalog is not valid; nothing was changed: mend its files (`deployd check`), then `deployctl service reload`"
    )]
    CatalogInvalid(Vec<FileMistake>),
    /// The daemon is shutting down.
    #[error("deployd is shutting down and takes no new work; try again when it is back")]
    Draining,
    /// The store failed, or a part of the daemon is gone.
    #[error("{0}")]
    Unavailable(String),
    /// Something on the host failed.
    #[error("{0}")]
    Host(String),
}

/// How many, and the first of them: whoever reads no further knows where to begin.
fn mistakes(mistakes: &[Mistake]) -> String {
    match mistakes {
        [] => "see its mistakes by `deployctl plan check`".into(),
        [only] => format!("{only}; mend it and store it again"),
        [first, rest @ ..] => format!("{first} (and {} more); mend them and store it again", rest.len()),
    }
}

fn drifted(drifts: &[Drift]) -> String {
    let mut places: Vec<_> = drifts.iter().map(|drift| (drift.service, &drift.container)).collect();
    places.dedup();
    match places.len() {
        1 => "1 container is not as the task left or found it".into(),
        count => format!("{count} containers are not as the task left or found them"),
    }
}

fn conflict_text(holders: &[Holder]) -> String {
    let Some(first) = holders.first() else { return "another task holds a service of this plan".into() };
    format!(
        "service {} is being released by task {} of {} ({}); wait for it (`deployctl watch {}`), or stop it",
        first.service, first.task, first.user, first.state, first.task
    )
}
