//! The catalog, with what its containers are doing, and the built-in repositories.

use serde::{Deserialize, Serialize};

/// `GET /v1/services`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceList {
    /// The services, by id.
    pub services: Vec<Service>,
}

/// A service of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Service {
    /// Its id.
    pub service_id: u64,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// `process`, …
    pub runtime: String,
    /// Its containers, in the catalog's order.
    pub containers: Vec<Container>,
    /// The active task that holds it.
    pub task: Option<u64>,
}

/// A container and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// `running`, `stopped`, `exited`, `unknown`.
    pub state: String,
    /// The process id of what runs.
    pub pid: Option<i32>,
    /// Since when it runs.
    pub since: Option<String>,
    /// The release it points to.
    pub release: Option<String>,
    /// The release that what runs was started from.
    pub running_release: Option<String>,
    /// For people: "exited with status 3".
    pub detail: String,
}

/// `POST /v1/services/reload`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reloaded {
    /// How many services the catalog has now.
    pub services: u64,
    /// Names of services that are new.
    pub added: Vec<String>,
    /// Names of services that differ.
    pub changed: Vec<String>,
    /// Names of services that are gone.
    pub removed: Vec<String>,
}

/// `GET /v1/repositories`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RepositoryList {
    /// The built-in repositories, by name.
    pub repositories: Vec<Repository>,
}

/// A built-in repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Repository {
    /// Its name: what plans write as `compileRepoPath`.
    pub name: String,
    /// Where to push to on this host.
    pub path: String,
    /// Its branches.
    pub branches: Vec<String>,
}

/// `POST /v1/repositories`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateRepository {
    /// Its name.
    pub name: String,
}
