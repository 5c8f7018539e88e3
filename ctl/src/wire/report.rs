//! The report of a task.

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::task::{Task, Usual};

/// `GET /v1/tasks/{id}/report`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// The task.
    pub task: Task,
    /// Its deployments, batch after batch.
    pub deployments: Vec<Deployment>,
    /// All its events.
    pub events: Vec<Event>,
}

/// One service of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deployment {
    /// The service's id.
    pub service_id: u64,
    /// The service's name.
    pub service: String,
    /// Larger is earlier.
    pub priority: i64,
    /// `START`, `STOP`, `RESTART`, `HTTP_UPLOAD_DEPLOY`, `COMPILE_DEPLOY`.
    pub deployment: String,
    /// `SEQUENTIAL` or `PARALLEL`.
    pub container_exec_method: String,
    /// The labels that chose the containers; empty: all.
    pub labels: Vec<String>,
    /// `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED`, `SKIPPED`, `INTERRUPTED`.
    pub state: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How long that usually took, by what was known when the task began; absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<Usual>,
    /// What was deployed.
    pub artifact: Option<Artifact>,
    /// The release made from it.
    pub release: Option<String>,
    /// One for each chosen container.
    pub operations: Vec<Operation>,
    /// Remarks: "branch main has moved since …".
    pub notes: Vec<String>,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// What was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Artifact {
    /// Where it came from, credentials masked.
    pub source: String,
    /// Its hash, lower-case hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The commit it was built from.
    pub commit: Option<String>,
}

/// One container of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operation {
    /// The container's name.
    pub container: String,
    /// As for deployments, and `UNCHANGED`.
    pub state: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// The release before.
    pub from_release: Option<String>,
    /// The release after.
    pub to_release: Option<String>,
    /// For people: "healthy after 0.4 s".
    pub detail: String,
    /// `foundDone` or `completed`, when a crash had left it in doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Failure {
    /// A stable name for programs.
    pub code: String,
    /// What, where, why, and what to do next.
    pub message: String,
    /// The last lines of the output that explains it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}
