//! Tasks.

use serde::{Deserialize, Serialize};

use super::Caller;

/// `POST /v1/tasks`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Execute {
    /// The plan's name.
    pub plan: String,
    /// Its revision; the newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// Only show what would be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `POST /v1/tasks/{id}/stop`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stop {
    /// Cut downloads, builds and health waits: what is cut is INTERRUPTED, the task STOPPED.
    #[serde(default)]
    pub now: bool,
}

/// `POST /v1/tasks/{id}/resume`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resume {
    /// Resume although containers differ from what the task left.
    #[serde(default)]
    pub force: bool,
}

/// A task, without its deployments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// The plan's name.
    pub plan: String,
    /// The plan's revision.
    pub revision: u32,
    /// The plan's comment.
    pub comment: Option<String>,
    /// `RUNNING`, `STOPPING`, `PAUSING`, `SUCCEEDED`, `FAILED`, `STOPPED`, `PAUSED`, `INTERRUPTED`.
    pub state: String,
    /// Why, for programs: `failing`, `deploymentFailed`, `stoppedByUser`, `pausedByUser`,
    /// `daemonDied`, `daemonShutDown`, `actorCrashed`, `storeFailed`.
    pub reason: Option<String>,
    /// Who executed it.
    pub created_by: Caller,
    /// When it was executed.
    pub started_at: String,
    /// When it came to rest.
    pub finished_at: Option<String>,
    /// Since when it is in this state.
    pub since: String,
    /// How far it is.
    pub progress: Progress,
    /// The commands that are possible now: `stop`, `pause`, `resume`, `delete`.
    pub possible: Vec<String>,
    /// Warnings for whoever executes or resumes: paused tasks over the same services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Deployments by state.
    pub deployments: DeploymentCounts,
    /// Operations.
    pub operations: OperationCounts,
}

/// Deployments by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeploymentCounts {
    /// All.
    pub total: u32,
    /// Not begun.
    pub pending: u32,
    /// Going on.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Failed.
    pub failed: u32,
    /// Held back for good.
    pub skipped: u32,
    /// Cut by a fault.
    pub interrupted: u32,
}

/// Operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperationCounts {
    /// All.
    pub total: u32,
    /// Ended well.
    pub done: u32,
}

/// `GET /v1/tasks`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Give this as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `GET /v1/tasks/{id}`: one task, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskStatus {
    /// The task.
    #[serde(flatten)]
    pub task: Task,
    /// The batches in the order of their execution.
    pub batches: Vec<Batch>,
    /// What the task waits for: the deployments that are going on.
    pub waiting_for: Vec<Waiting>,
    /// While it drains: when it should be quiet, by half of what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_at: Option<String>,
    /// While it drains: when it should be quiet, by nine of ten of what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_by: Option<String>,
}

/// The deployments of one priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Batch {
    /// The priority.
    pub priority: i64,
    /// Its deployments by state.
    pub deployments: DeploymentCounts,
}

/// A deployment that is going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Waiting {
    /// The service's id.
    pub service_id: u64,
    /// The service's name.
    pub service: String,
    /// How it is deployed.
    pub deployment: String,
    /// What it does: `preparing`, `hook preDeploy`, or the containers that are being worked on.
    pub doing: String,
    /// Since when.
    pub since: String,
    /// How long that usually takes; absent when it was never seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<Usual>,
    /// How far its download, build or hook is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
}

/// What a deployment does before or after it touches containers. Not kept: it is as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preparation {
    /// `awaitDownload`, `download`, `awaitBuild`, `build`, `hook`.
    pub stage: String,
    /// Since when.
    pub since: String,
    /// How many bytes of a download have come.
    pub bytes: u64,
    /// How many there are, if the server has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What a build or hook printed last, cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

/// How long a deployment usually takes, by the last ones of this service and way that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usual {
    /// Half of them took no longer, in milliseconds.
    pub p50: u64,
    /// Nine of ten took no longer, in milliseconds.
    pub p90: u64,
    /// How many they were.
    pub samples: u64,
}

/// `POST /v1/tasks` with `dryRun`: what would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DryRun {
    /// The plan's name.
    pub plan: String,
    /// Its revision.
    pub revision: u32,
    /// How long all of it should take; absent when nothing of it was ever seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The batches in the order of their execution.
    pub batches: Vec<DryRunBatch>,
    /// What would fail now: conflicts, missing releases, …
    pub problems: Vec<String>,
}

/// How long something should take, by what was seen on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Expected {
    /// By the half of what was seen, in milliseconds.
    pub p50: u64,
    /// By nine of ten, in milliseconds.
    pub p90: u64,
    /// How many deployments were never seen, and are not counted in.
    pub unseen: u64,
}

/// A batch that would be executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DryRunBatch {
    /// The priority.
    pub priority: i64,
    /// The service that should take longest, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dominated_by: Option<String>,
    /// How long it should take: as its longest deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The deployments, all at the same time.
    pub deployments: Vec<DryRunDeployment>,
}

/// A deployment that would be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DryRunDeployment {
    /// The service's id.
    pub service_id: u64,
    /// The service's name.
    pub service: String,
    /// How it would be deployed.
    pub deployment: String,
    /// `SEQUENTIAL` or `PARALLEL`.
    pub container_exec_method: String,
    /// From where a new release would come: the package's address, or branch and repository. Absent when
    /// this way of deployment brings none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The commit that would be built: the plan's, else the branch's tip now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The new release, where its name is known before: the package is pinned, or the commit was built.
    pub to_release: Option<String>,
    /// Neither a download nor a build would be needed.
    #[serde(default)]
    pub is_here: bool,
    /// How long it usually takes; absent when it was never seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<Usual>,
    /// The containers, in order.
    pub containers: Vec<DryRunContainer>,
}

/// A container that would be dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DryRunContainer {
    /// Its name.
    pub container: String,
    /// Whether it would be found running: as it is now, and as the batches before would leave it.
    pub running: bool,
    /// The release with which it would be found.
    pub from_release: Option<String>,
    /// The release that it would get, where that is known before; `null` also when it keeps its own.
    pub to_release: Option<String>,
    /// Nothing would be done to it.
    #[serde(default)]
    pub unchanged: bool,
    /// What would be done: `start`, `stop`, `restart`, `leave alone: already running`, …
    pub action: String,
}
