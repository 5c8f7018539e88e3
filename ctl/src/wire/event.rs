//! Events: the journal, as the event stream and the report show it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One event. `GET /v1/events` sends it as `id: <seq>`, `event: <type>`, `data: <this>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its place among all events of the daemon: ascending, without repetition.
    pub seq: u64,
    /// When it was recorded.
    pub at: String,
    /// `task.started`, `operation.ended`, `plan.created`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The task, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// What else there is to say; depends on the type. Common members: `by`, `serviceId`, `service`,
    /// `container`, `state`, `reason`, `detail`, `error`, `fromRelease`, `toRelease`.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}
