//! Events that belong to no task, or to one that is gone.

use super::{Caller, TaskId};

/// Something that happened to the daemon, its plans, its catalog or its repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// The daemon is up.
    DaemonStarted {
        /// Its version.
        version: String,
    },
    /// The daemon was shut down in order.
    DaemonStopped,
    /// A revision of a plan was stored.
    PlanCreated {
        /// The plan.
        name: String,
        /// The revision.
        revision: u32,
        /// Who.
        by: Caller,
    },
    /// A plan was deleted.
    PlanDeleted {
        /// The plan.
        name: String,
        /// Who.
        by: Caller,
    },
    /// The catalog was read anew.
    CatalogReloaded {
        /// How many services it has.
        services: u32,
        /// Who; `None`: a signal.
        by: Option<Caller>,
    },
    /// A task was deleted.
    TaskDeleted {
        /// Its number.
        task: TaskId,
        /// Who; `None`: it was older than the retention.
        by: Option<Caller>,
    },
    /// A repository was created.
    RepositoryCreated {
        /// Its name.
        name: String,
        /// Who.
        by: Caller,
    },
    /// A repository was deleted.
    RepositoryDeleted {
        /// Its name.
        name: String,
        /// Who.
        by: Caller,
    },
    /// An older history has taken the place of the one that was here: this entry is the first one of a new epoch.
    HistoryRestored {
        /// The epoch: 1 is the first one of all.
        epoch: u64,
        /// How it was noticed.
        cause: Cause,
        /// The last entry that both histories have.
        last: u64,
        /// This entry.
        first: u64,
        /// The first task that can be created in the epoch.
        first_task: TaskId,
    },
}

impl HostEvent {
    /// All names.
    pub const NAMES: [&str; 9] = [
        "daemon.started",
        "daemon.stopped",
        "plan.created",
        "plan.deleted",
        "catalog.reloaded",
        "task.deleted",
        "repository.created",
        "repository.deleted",
        "history.restored",
    ];

    /// The stable name in the event stream's JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::DaemonStarted { .. } => "daemon.started",
            Self::DaemonStopped => "daemon.stopped",
            Self::PlanCreated { .. } => "plan.created",
            Self::PlanDeleted { .. } => "plan.deleted",
            Self::CatalogReloaded { .. } => "catalog.reloaded",
            Self::TaskDeleted { .. } => "task.deleted",
            Self::RepositoryCreated { .. } => "repository.created",
            Self::RepositoryDeleted { .. } => "repository.deleted",
            Self::HistoryRestored { .. } => "history.restored",
        }
    }
}

/// How it was noticed that a store has another history than the one that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is a backup.
    Backup,
    /// The file is not the one that was used here last.
    Copy,
    /// It belonged to another state directory.
    OtherDirectory,
    /// The whole state directory is another one.
    ReplacedDirectory,
    /// An administrator said so.
    Requested,
}

impl Cause {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Copy => "copy",
            Self::OtherDirectory => "otherDirectory",
            Self::ReplacedDirectory => "replacedDirectory",
            Self::Requested => "requested",
        }
    }
}
