//! Plans.

use serde::{Deserialize, Serialize};

use super::Caller;
use super::problem::PlanError;

/// One revision of a stored plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// 1, 2, 3, …; never used again.
    pub revision: u32,
    /// The plan's comment.
    pub comment: Option<String>,
    /// When it was stored.
    pub created_at: String,
    /// By whom.
    pub created_by: Caller,
    /// How many items it has.
    pub items: u32,
    /// How many batches they form.
    pub batches: u32,
    /// The YAML, where one plan is shown (not in lists).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `GET /v1/plans`: the newest revision of each, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanList {
    /// The plans.
    pub plans: Vec<Plan>,
}

/// `POST /v1/plans/check`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanCheck {
    /// Whether the plan has no mistakes.
    pub valid: bool,
    /// All of its mistakes, in the order of the file.
    pub errors: Vec<PlanError>,
    /// How many items it has (0 when it is not valid).
    pub items: u32,
    /// How many batches they form (0 when it is not valid).
    pub batches: u32,
}
