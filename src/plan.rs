//! The release plan: what a user wrote, checked against the catalog.
//!
//! `parse` turns YAML into a [`parse::RawPlan`] with the position of every key,
//! `check` turns that into a [`Plan`] or into *all* the mistakes at once, and
//! `draft` writes plans: those that take a task back, or repeat what it left undone.

mod address;
pub mod check;
pub mod draft;
pub mod parse;

use crate::address::Address;
use crate::catalog::{Label, ServiceId};

/// A plan without mistakes: every service is in the catalog, every label
/// chooses a container, every way of release has what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The user's remark, if any.
    pub comment: Option<String>,
    /// The items in the order in which they are written.
    pub items: Vec<Item>,
}

/// One service, one way to deploy it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The service, which is in the catalog.
    pub service: ServiceId,
    /// Larger is earlier; equal priorities form one batch.
    pub priority: i64,
    /// How the service is deployed.
    pub way: Way,
    /// How its containers are worked through.
    pub order: ContainerOrder,
    /// The labels that choose containers; empty chooses all.
    pub labels: Vec<Label>,
}

/// The five ways to deploy a service, each with what only it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Start what does not run.
    Start,
    /// Stop what runs.
    Stop,
    /// Stop, then start.
    Restart,
    /// Deploy a package that is fetched over HTTP.
    HttpUpload {
        /// Where the package is.
        uri: Address,
        /// What it must hash to, when the plan says so (lower-case hex).
        sha256: Option<String>,
    },
    /// Build from a Git repository, then deploy.
    Compile {
        /// The repository as written in the plan.
        repository: Address,
        /// The branch.
        branch: String,
        /// The commit, 7 to 40 hex digits; the branch's tip when absent.
        commit: Option<String>,
    },
}

impl Way {
    /// The spelling of the plan file.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Stop => "STOP",
            Self::Restart => "RESTART",
            Self::HttpUpload { .. } => "HTTP_UPLOAD_DEPLOY",
            Self::Compile { .. } => "COMPILE_DEPLOY",
        }
    }

    /// Whether a new release has to be made before a container is touched.
    pub const fn needs_artifact(&self) -> bool {
        matches!(self, Self::HttpUpload { .. } | Self::Compile { .. })
    }
}

/// How the containers of one service are worked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContainerOrder {
    /// One after another in the catalog's order; the first failure ends it.
    #[default]
    Sequential,
    /// All at the same time.
    Parallel,
}

impl ContainerOrder {
    /// The spelling of the plan file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "SEQUENTIAL",
            Self::Parallel => "PARALLEL",
        }
    }
}
