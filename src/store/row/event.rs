//! Events, as the journal keeps them.

use bincode::{Decode, Encode};

use super::host_event::HostV1;
use super::incarnation::IncarnationV1;
use super::service::SpecV1;
use super::{Row, RowError};
use crate::task::deployment::{Hook, Pin};
use crate::task::event::{Definition, Event};
use crate::task::host_event::HostEvent;
use crate::task::operation::{Done, Evidence, OperationEnd, Settled};
use crate::task::{Caller, Failure, Reason, Timestamp};

/// An entry of the journal.
#[derive(Debug, Encode, Decode)]
pub struct EntryV1 {
    /// Its place among all entries.
    pub seq: u64,
    /// Microseconds since the epoch.
    pub at: i64,
    /// What happened.
    pub event: JournalV1,
}

impl Row for EntryV1 {}

/// What happened, to a task or to the host.
#[derive(Debug, Encode, Decode)]
pub enum JournalV1 {
    /// To a task.
    Task(EventV1),
    /// To the host.
    Host(HostV1),
}

#[derive(Debug, Encode, Decode)]
pub struct CallerV1 {
    uid: u32,
    user: String,
    pid: Option<i32>,
    program: Option<String>,
}

#[derive(Debug, Encode, Decode)]
pub enum EventV1 {
    Started { by: CallerV1, definition: DefinitionV1 },
    StopRequested { by: CallerV1 },
    CutRequested { by: CallerV1 },
    PauseRequested { by: CallerV1 },
    Resumed { by: CallerV1, force: bool },
    DeploymentBegun { deployment: u64 },
    CommitPinned { deployment: u64, commit: String },
    ArtifactPinned { deployment: u64, pin: PinV1 },
    ReleasePrepared { deployment: u64, release: String },
    HookDone { deployment: u64, post: bool },
    Noted { deployment: u64, note: String },
    OperationBegun { deployment: u64, operation: u64, evidence: EvidenceV1, to_release: Option<String> },
    OperationEnded { deployment: u64, operation: u64, end: EndV1 },
    DeploymentEnded { deployment: u64, failure: Option<FailureV1> },
    DeploymentCut { deployment: u64 },
    Interrupted { reason: ReasonV1 },
    Completed,
    Failed,
    Drained,
}

#[derive(Debug, Encode, Decode)]
pub struct DefinitionV1 {
    plan: String,
    revision: u32,
    comment: Option<String>,
    deployments: Vec<SpecV1>,
}

#[derive(Debug, Encode, Decode)]
pub struct PinV1 {
    source: String,
    sha256: String,
    bytes: u64,
    commit: Option<String>,
}

#[derive(Debug, Encode, Decode)]
pub struct EvidenceV1 {
    incarnation: Option<IncarnationV1>,
    release: Option<String>,
}

#[derive(Debug, Encode, Decode)]
pub struct EndV1 {
    result: ResultV1,
    detail: String,
    settled: Option<SettledV1>,
}

#[derive(Debug, Encode, Decode)]
enum ResultV1 {
    Changed(Option<IncarnationV1>),
    Unchanged,
    Failed(FailureV1),
}

#[derive(Debug, Encode, Decode)]
enum SettledV1 {
    FoundDone,
    Completed,
}

#[derive(Debug, Encode, Decode)]
pub struct FailureV1 {
    code: String,
    message: String,
    log: Vec<String>,
}

#[derive(Debug, Clone, Copy, Encode, Decode)]
pub enum ReasonV1 {
    Failing,
    DeploymentFailed,
    StoppedByUser,
    PausedByUser,
    DaemonDied,
    DaemonShutDown,
    ActorCrashed,
    StoreFailed,
}

impl JournalV1 {
    /// The artifact that a plan out of the task could need because of this event.
    pub fn need(self) -> Option<String> {
        match self {
            Self::Task(EventV1::ArtifactPinned { pin, .. }) => Some(pin.sha256),
            Self::Task(EventV1::OperationBegun { evidence, .. }) => evidence.release,
            _ => None,
        }
    }
}

impl EntryV1 {
    /// The row of a task's event.
    pub fn of_task(seq: u64, at: Timestamp, event: &Event) -> Self {
        Self { seq, at: at.0, event: JournalV1::Task(event.into()) }
    }

    /// The row of a host's event.
    pub fn of_host(seq: u64, at: Timestamp, event: HostEvent) -> Self {
        Self { seq, at: at.0, event: JournalV1::Host(event.into()) }
    }
}

impl From<&Event> for EventV1 {
    fn from(event: &Event) -> Self {
        match event.clone() {
            Event::Started { by, definition } => {
                Self::Started { by: by.into(), definition: (&definition).into() }
            }
            Event::StopRequested { by } => Self::StopRequested { by: by.into() },
            Event::CutRequested { by } => Self::CutRequested { by: by.into() },
            Event::DeploymentCut { deployment } => Self::DeploymentCut { deployment: deployment as u64 },
            Event::PauseRequested { by } => Self::PauseRequested { by: by.into() },
            Event::Resumed { by, force } => Self::Resumed { by: by.into(), force },
            Event::DeploymentBegun { deployment } => Self::DeploymentBegun { deployment: deployment as u64 },
            Event::CommitPinned { deployment, commit } => {
                Self::CommitPinned { deployment: deployment as u64, commit }
            }
            Event::ArtifactPinned { deployment, pin } => {
                Self::ArtifactPinned { deployment: deployment as u64, pin: pin.into() }
            }
            Event::ReleasePrepared { deployment, release } => {
                Self::ReleasePrepared { deployment: deployment as u64, release }
            }
            Event::HookDone { deployment, hook } => {
                Self::HookDone { deployment: deployment as u64, post: hook == Hook::PostDeploy }
            }
            Event::Noted { deployment, note } => Self::Noted { deployment: deployment as u64, note },
            Event::OperationBegun { deployment, operation, evidence, to_release } => Self::OperationBegun {
                deployment: deployment as u64,
                operation: operation as u64,
                evidence: evidence.into(),
                to_release,
            },
            Event::OperationEnded { deployment, operation, end } => Self::OperationEnded {
                deployment: deployment as u64,
                operation: operation as u64,
                end: end.into(),
            },
            Event::DeploymentEnded { deployment, result } => {
                Self::DeploymentEnded { deployment: deployment as u64, failure: result.err().map(Into::into) }
            }
            Event::Interrupted { reason } => Self::Interrupted { reason: reason.into() },
            Event::Completed => Self::Completed,
            Event::Failed => Self::Failed,
            Event::Drained => Self::Drained,
        }
    }
}

impl TryFrom<EventV1> for Event {
    type Error = RowError;

    fn try_from(row: EventV1) -> Result<Self, RowError> {
        Ok(match row {
            EventV1::Started { by, definition } => {
                Self::Started { by: by.into(), definition: definition.try_into()? }
            }
            EventV1::StopRequested { by } => Self::StopRequested { by: by.into() },
            EventV1::CutRequested { by } => Self::CutRequested { by: by.into() },
            EventV1::DeploymentCut { deployment } => Self::DeploymentCut { deployment: index(deployment)? },
            EventV1::PauseRequested { by } => Self::PauseRequested { by: by.into() },
            EventV1::Resumed { by, force } => Self::Resumed { by: by.into(), force },
            EventV1::DeploymentBegun { deployment } => {
                Self::DeploymentBegun { deployment: index(deployment)? }
            }
            EventV1::CommitPinned { deployment, commit } => {
                Self::CommitPinned { deployment: index(deployment)?, commit }
            }
            EventV1::ArtifactPinned { deployment, pin } => {
                Self::ArtifactPinned { deployment: index(deployment)?, pin: pin.into() }
            }
            EventV1::ReleasePrepared { deployment, release } => {
                Self::ReleasePrepared { deployment: index(deployment)?, release }
            }
            EventV1::HookDone { deployment, post } => {
                let hook = if post { Hook::PostDeploy } else { Hook::PreDeploy };
                Self::HookDone { deployment: index(deployment)?, hook }
            }
            EventV1::Noted { deployment, note } => Self::Noted { deployment: index(deployment)?, note },
            EventV1::OperationBegun { deployment, operation, evidence, to_release } => Self::OperationBegun {
                deployment: index(deployment)?,
                operation: index(operation)?,
                evidence: evidence.into(),
                to_release,
            },
            EventV1::OperationEnded { deployment, operation, end } => Self::OperationEnded {
                deployment: index(deployment)?,
                operation: index(operation)?,
                end: end.into(),
            },
            EventV1::DeploymentEnded { deployment, failure } => Self::DeploymentEnded {
                deployment: index(deployment)?,
                result: failure.map_or(Ok(()), |failure| Err(failure.into())),
            },
            EventV1::Interrupted { reason } => Self::Interrupted { reason: reason.into() },
            EventV1::Completed => Self::Completed,
            EventV1::Failed => Self::Failed,
            EventV1::Drained => Self::Drained,
        })
    }
}

fn index(index: u64) -> Result<usize, RowError> {
    usize::try_from(index).map_err(|_| RowError::Decode(format!("{index} is no index")))
}

impl From<&Definition> for DefinitionV1 {
    fn from(definition: &Definition) -> Self {
        Self {
            plan: definition.plan.clone(),
            revision: definition.revision,
            comment: definition.comment.clone(),
            deployments: definition.deployments.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<DefinitionV1> for Definition {
    type Error = RowError;

    fn try_from(row: DefinitionV1) -> Result<Self, RowError> {
        let deployments = row.deployments.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { plan: row.plan, revision: row.revision, comment: row.comment, deployments })
    }
}

/// Joins two types of the same members, both ways.
macro_rules! same_members {
    ($domain:ident, $row:ident, { $($member:ident),+ }) => {
        impl From<$domain> for $row {
            fn from(value: $domain) -> Self {
                let $domain { $($member),+ } = value;
                Self { $($member),+ }
            }
        }
        impl From<$row> for $domain {
            fn from(row: $row) -> Self {
                let $row { $($member),+ } = row;
                Self { $($member),+ }
            }
        }
    };
}

/// Joins two enums of the same plain variants, both ways.
macro_rules! same_variants {
    ($domain:ident, $row:ident, { $($variant:ident),+ }) => {
        impl From<$domain> for $row {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant),+ }
            }
        }
        impl From<$row> for $domain {
            fn from(row: $row) -> Self {
                match row { $($row::$variant => Self::$variant),+ }
            }
        }
    };
}

same_members!(Caller, CallerV1, { uid, user, pid, program });
same_members!(Pin, PinV1, { source, sha256, bytes, commit });

same_members!(Failure, FailureV1, { code, message, log });
same_variants!(Settled, SettledV1, { FoundDone, Completed });
same_variants!(Reason, ReasonV1, {
    Failing, DeploymentFailed, StoppedByUser, PausedByUser, DaemonDied, DaemonShutDown, ActorCrashed, StoreFailed
});

impl From<Evidence> for EvidenceV1 {
    fn from(evidence: Evidence) -> Self {
        Self { incarnation: evidence.incarnation.map(Into::into), release: evidence.release }
    }
}

impl From<EvidenceV1> for Evidence {
    fn from(row: EvidenceV1) -> Self {
        Self { incarnation: row.incarnation.map(Into::into), release: row.release }
    }
}

impl From<OperationEnd> for EndV1 {
    fn from(end: OperationEnd) -> Self {
        let result = match end.result {
            Ok(Done::Changed(incarnation)) => ResultV1::Changed(incarnation.map(Into::into)),
            Ok(Done::Unchanged) => ResultV1::Unchanged,
            Err(failure) => ResultV1::Failed(failure.into()),
        };
        Self { result, detail: end.detail, settled: end.settled.map(Into::into) }
    }
}

impl From<EndV1> for OperationEnd {
    fn from(row: EndV1) -> Self {
        let result = match row.result {
            ResultV1::Changed(incarnation) => Ok(Done::Changed(incarnation.map(Into::into))),
            ResultV1::Unchanged => Ok(Done::Unchanged),
            ResultV1::Failed(failure) => Err(failure.into()),
        };
        Self { result, detail: row.detail, settled: row.settled.map(Into::into) }
    }
}
