//! The deeds: what a deployment and its operations do to the host.
//!
//! An executor takes the evidence before a deed, asks the domain which deeds remain
//! ([`crate::task::evidence`]), and carries them out with the runtime, the artifacts and the
//! probes. It decides nothing about tasks and records nothing: that is the actors' part.

mod board;
mod commands;
mod container;
mod deeds;
mod environment;
mod foresee;
mod hook;
mod operate;
mod prepare;
mod tasklog;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::artifact::ArtifactStore;
use crate::artifact::build::Builder;
use crate::artifact::fetch::{Fetcher, Limits};
use crate::artifact::git::Git;
use crate::artifact::releases::Releases;
use crate::catalog::{Container, Service};
use crate::plan::Way;
use crate::plan::check::Policy;
use crate::runtime::Runtime;
use crate::spawn::command::Commands;
use crate::task::{Failure, TaskId};

pub use board::{Board, Preparation};
pub use container::{ContainerView, Looked};
pub use deeds::Deeds;
pub use foresee::{Foreseen, NewRelease};
pub use prepare::Resolved;
pub use tasklog::TaskLogs;

/// Everything through which the host is touched.
pub struct Executor {
    /// The store's id: part of every operation's id.
    pub instance: String,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Hooks and health checks; as units where systemd runs.
    pub commands: Arc<dyn Commands>,
    /// Health checks of containers that are processes.
    pub processes: Arc<dyn Commands>,
    /// Packages and outputs of builds.
    pub artifacts: Arc<ArtifactStore>,
    /// Downloads.
    pub fetcher: Fetcher,
    /// Repositories.
    pub git: Arc<Git>,
    /// Builds.
    pub builder: Arc<Builder>,
    /// Unpacked artifacts, and which one a container has.
    pub releases: Arc<Releases>,
    /// What builds, hooks and operations say.
    pub logs: TaskLogs,
    /// What may be unpacked.
    pub limits: Limits,
    /// Which repositories may be built.
    pub policy: Policy,
    /// Where services live: `<state>/services`.
    pub services_dir: PathBuf,
    /// One deed at a time for each container.
    pub deeds: Deeds,
    /// What deployments are about before they touch a container.
    pub board: Board,
    /// Places for downloads.
    pub downloads: Arc<Semaphore>,
    /// Places for builds.
    pub builds: Arc<Semaphore>,
}

/// One deployment, as the executor needs it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The task.
    pub task: TaskId,
    /// The deployment's index.
    pub deployment: usize,
    /// The service as the task knows it.
    pub service: Arc<Service>,
    /// How it is deployed.
    pub way: Way,
    /// Ends the deeds that wait: downloads, builds, health checks. What is cut is in doubt.
    pub cancel: CancellationToken,
}

/// One operation, as the executor needs it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its deployment.
    pub subject: Subject,
    /// The container.
    pub container: Container,
    /// The operation's id: what a started process carries.
    pub id: String,
    /// The release to switch to; `None`: the container keeps the one it has.
    pub release: Option<String>,
    /// What ran when the operation first began, if a crash has left it in doubt.
    pub in_doubt: Option<crate::task::operation::Evidence>,
}

/// Why a deed did not come to its end.
#[derive(Debug)]
pub enum Halt {
    /// It failed.
    Failed(Failure),
    /// It was cut off by the cancellation token: whether it was done is in doubt.
    Cut,
    /// What was to carry it out is gone, and with it the answer: whether it was done is in doubt.
    Lost(String),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A failure without output.
pub(crate) fn failure(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.into(), message: message.into(), log: Vec::new() }
}
