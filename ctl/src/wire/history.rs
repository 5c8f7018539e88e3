//! Who did what.

use serde::{Deserialize, Serialize};

/// `GET /v1/history`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// What was done to containers.
    pub changes: Vec<Entry>,
}

/// What a task did to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// Its event's place among all events.
    pub seq: u64,
    /// When.
    pub at: String,
    /// The service's id.
    pub service_id: u64,
    /// The service's name, if it is still in the catalog.
    pub service: Option<String>,
    /// The container.
    pub container: String,
    /// How: `START`, `STOP`, …
    pub deployment: String,
    /// `SUCCEEDED` or `FAILED`.
    pub state: String,
    /// The release before.
    pub from_release: Option<String>,
    /// The release since.
    pub release: Option<String>,
    /// The task.
    pub task: u64,
    /// Who executed it.
    pub user: String,
}
