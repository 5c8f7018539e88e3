//! Errors: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};

/// What went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `about:blank`: the `code` tells problems apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable name for programs: see [`code`].
    pub code: String,
    /// What, where, why, and what to do next.
    pub detail: String,
    /// The state that forbids it, where a task's state is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What is possible instead, where a task's state is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub possible: Option<Vec<String>>,
    /// What differs, for `drifted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Vec<Difference>>,
    /// The task that is in the way, for `conflict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Vec<Conflict>>,
    /// All mistakes of a plan or of the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<PlanError>>,
}

/// The stable codes of [`Problem::code`].
pub mod code {
    /// The plan is not valid; `errors` has all its mistakes. (422)
    pub const PLAN_INVALID: &str = "planInvalid";
    /// The catalog is not valid; `errors` has all its mistakes. (422)
    pub const CATALOG_INVALID: &str = "catalogInvalid";
    /// No such task, plan, service, repository or route. (404)
    pub const NOT_FOUND: &str = "notFound";
    /// The state does not allow it; `state` and `possible` say more. (409)
    pub const NOT_POSSIBLE: &str = "notPossible";
    /// An active task holds a service; `conflicts` names it. (409)
    pub const CONFLICT: &str = "conflict";
    /// It exists already. (409)
    pub const EXISTS: &str = "exists";
    /// The caller may not do that. (403)
    pub const NOT_PERMITTED: &str = "notPermitted";
    /// Containers are not as the task left or found them; `differences` names them. (409)
    pub const DRIFTED: &str = "drifted";
    /// There is nothing that a plan could do. (409)
    pub const NOTHING_TO_DO: &str = "nothingToDo";
    /// The request is malformed. (400)
    pub const BAD_REQUEST: &str = "badRequest";
    /// The method is not offered there. (405)
    pub const METHOD_NOT_ALLOWED: &str = "methodNotAllowed";
    /// The body is too large. (413)
    pub const TOO_LARGE: &str = "tooLarge";
    /// The daemon is shutting down or its store has failed. (503)
    pub const UNAVAILABLE: &str = "unavailable";
    /// A defect of the daemon. (500)
    pub const INTERNAL: &str = "internal";
}

/// How a container differs from what a task left or found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    /// The service's id.
    pub service_id: u64,
    /// Its name.
    pub service: String,
    /// The container.
    pub container: String,
    /// `release`, `incarnation` or `runState`.
    pub what: String,
    /// As it was left or found.
    pub expected: String,
    /// As it is.
    pub found: String,
    /// The task that has changed it; absent: by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Who executed that task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A task that is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Conflict {
    /// The service that it holds.
    pub service_id: u64,
    /// Its number.
    pub task: u64,
    /// Its state.
    pub state: String,
    /// Who executed it.
    pub user: String,
    /// Since when it runs.
    pub since: String,
}

/// A mistake in a plan or in a file of the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanError {
    /// The file, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The key's path: `deployPlanItems[2].deployment`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// "did you mean `priority`?"
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}
