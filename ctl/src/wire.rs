//! The wire: what the daemon and its clients say to each other, as JSON.
//!
//! These types are the contract of the socket. They are neither the daemon's domain nor its rows
//! on disk, so that each of the three can change without the others. Times are RFC 3339 in UTC
//! with microseconds. Unknown members are ignored by clients, so members may be added.

pub mod event;
pub mod history;
pub mod plan;
pub mod problem;
pub mod report;
pub mod service;
pub mod task;

use serde::{Deserialize, Serialize};

/// Who sent a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// User name.
    pub user: String,
    /// Process id, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The program of that process, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// `GET /v1/info`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Info {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: String,
    /// Seconds since then.
    pub uptime: u64,
    /// The id of the store: another store, another id.
    pub instance: String,
    /// The runtimes that work here.
    pub runtimes: Vec<String>,
    /// What there is.
    pub counts: Counts,
    /// Whether the daemon is shutting down and takes no new work.
    pub draining: bool,
    /// The caller, as the daemon sees it.
    pub caller: Caller,
    /// What the caller may do: `admin`, `operator`, `viewer`.
    pub role: String,
}

/// What there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Services in the catalog.
    pub services: u64,
    /// Plans (not their revisions).
    pub plans: u64,
    /// Tasks that are kept.
    pub tasks: u64,
    /// Tasks that are active.
    pub active: u64,
}
