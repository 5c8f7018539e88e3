//! The control socket: HTTP and JSON on a Unix domain socket.
//!
//! Reading goes to the store's snapshots and waits for nobody; commands go to the plan supervisor.
//! Who calls is taken from the kernel, once for each connection.

mod backup;
mod body;
pub mod convert;
mod events;
mod followups;
mod history;
pub mod listen;
mod logs;
mod metrics;
pub mod peer;
mod places;
mod plans;
pub mod problem;
mod repositories;
pub mod routes;
mod serve;
mod services;
mod tasks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::actors::Commander;
use crate::store::Store;
use crate::task::Timestamp;

pub use peer::{Access, Role};
pub use serve::serve;

/// What all handlers share.
pub struct ControlState {
    /// Commands.
    pub commander: Arc<dyn Commander>,
    /// Reads.
    pub store: Store,
    /// Who may do what.
    pub access: Access,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where the tasks' logs are.
    pub tasks_dir: PathBuf,
    /// When the daemon started.
    pub started: Timestamp,
    /// The runtimes that work here and now.
    pub runtimes: Box<dyn Fn() -> Vec<&'static str> + Send + Sync>,
    /// The same, by the clock that nobody sets.
    pub up_since: Instant,
}
