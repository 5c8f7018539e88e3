//! Events of the host, as the journal keeps them.

use bincode::{Decode, Encode};

use super::event::CallerV1;
use crate::task::TaskId;
use crate::task::host_event::HostEvent;

#[derive(Debug, Encode, Decode)]
pub enum HostV1 {
    DaemonStarted { version: String },
    DaemonStopped,
    PlanCreated { name: String, revision: u32, by: CallerV1 },
    PlanDeleted { name: String, by: CallerV1 },
    CatalogReloaded { services: u32, by: Option<CallerV1> },
    TaskDeleted { task: u64, by: Option<CallerV1> },
    RepositoryCreated { name: String, by: CallerV1 },
    RepositoryDeleted { name: String, by: CallerV1 },
}

impl From<HostEvent> for HostV1 {
    fn from(event: HostEvent) -> Self {
        match event {
            HostEvent::DaemonStarted { version } => Self::DaemonStarted { version },
            HostEvent::DaemonStopped => Self::DaemonStopped,
            HostEvent::PlanCreated { name, revision, by } => {
                Self::PlanCreated { name, revision, by: by.into() }
            }
            HostEvent::PlanDeleted { name, by } => Self::PlanDeleted { name, by: by.into() },
            HostEvent::CatalogReloaded { services, by } => {
                Self::CatalogReloaded { services, by: by.map(Into::into) }
            }
            HostEvent::TaskDeleted { task, by } => Self::TaskDeleted { task: task.0, by: by.map(Into::into) },
            HostEvent::RepositoryCreated { name, by } => Self::RepositoryCreated { name, by: by.into() },
            HostEvent::RepositoryDeleted { name, by } => Self::RepositoryDeleted { name, by: by.into() },
        }
    }
}

impl From<HostV1> for HostEvent {
    fn from(row: HostV1) -> Self {
        match row {
            HostV1::DaemonStarted { version } => Self::DaemonStarted { version },
            HostV1::DaemonStopped => Self::DaemonStopped,
            HostV1::PlanCreated { name, revision, by } => Self::PlanCreated { name, revision, by: by.into() },
            HostV1::PlanDeleted { name, by } => Self::PlanDeleted { name, by: by.into() },
            HostV1::CatalogReloaded { services, by } => {
                Self::CatalogReloaded { services, by: by.map(Into::into) }
            }
            HostV1::TaskDeleted { task, by } => {
                Self::TaskDeleted { task: TaskId(task), by: by.map(Into::into) }
            }
            HostV1::RepositoryCreated { name, by } => Self::RepositoryCreated { name, by: by.into() },
            HostV1::RepositoryDeleted { name, by } => Self::RepositoryDeleted { name, by: by.into() },
        }
    }
}
