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
}

impl HostEvent {
    /// All names.
    pub const NAMES: [&str; 8] = [
        "daemon.started",
        "daemon.stopped",
        "plan.created",
        "plan.deleted",
        "catalog.reloaded",
        "task.deleted",
        "repository.created",
        "repository.deleted",
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
        }
    }
}
