//! What is kept beside the journal.

use bincode::{Decode, Encode};

use super::Row;
use super::incarnation::IncarnationV1;
use super::service::{WayV1, service_id};
use crate::task::record::{ContainerChange, Origin};
use crate::task::{TaskId, Timestamp};

/// How a release was made.
#[derive(Debug, Encode, Decode)]
pub struct ReleaseV1 {
    way: WayV1,
    sha256: String,
    task: u64,
}

impl Row for ReleaseV1 {}

impl From<&Origin> for ReleaseV1 {
    fn from(origin: &Origin) -> Self {
        Self { way: (&origin.way).into(), sha256: origin.sha256.clone(), task: origin.task.0 }
    }
}

impl From<ReleaseV1> for Origin {
    fn from(row: ReleaseV1) -> Self {
        Self { way: row.way.into(), sha256: row.sha256, task: TaskId(row.task) }
    }
}

/// What a task did to a container.
#[derive(Debug, Encode, Decode)]
pub struct ChangeV1 {
    service: u64,
    container: String,
    task: u64,
    at: i64,
    user: String,
    way: String,
    done: bool,
    from_release: Option<String>,
    release: Option<String>,
    incarnation: Option<IncarnationV1>,
}

impl Row for ChangeV1 {}

impl From<&ContainerChange> for ChangeV1 {
    fn from(change: &ContainerChange) -> Self {
        let change = change.clone();
        Self {
            service: change.service.get(),
            container: change.container,
            task: change.task.0,
            at: change.at.0,
            user: change.user,
            way: change.way,
            done: change.done,
            from_release: change.from_release,
            release: change.release,
            incarnation: change.incarnation.map(Into::into),
        }
    }
}

impl TryFrom<ChangeV1> for ContainerChange {
    type Error = super::RowError;

    fn try_from(row: ChangeV1) -> Result<Self, super::RowError> {
        Ok(Self {
            service: service_id(row.service)?,
            container: row.container,
            task: TaskId(row.task),
            at: Timestamp(row.at),
            user: row.user,
            way: row.way,
            done: row.done,
            from_release: row.from_release,
            release: row.release,
            incarnation: row.incarnation.map(Into::into),
        })
    }
}
