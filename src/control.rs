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
mod services;
mod tasks;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer, web};
use tokio_util::sync::CancellationToken;

use crate::actors::Commander;
use crate::store::Store;
use crate::task::Timestamp;

pub use peer::{Access, Role};
use places::Places;

/// The head of a request has to come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Serves until `end` is cancelled; open streams are ended first.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: UnixListener, state: ControlState, end: CancellationToken) -> io::Result<()> {
    let access = state.access.clone();
    let places = Arc::new(Places::of_this_process());
    let max_connections = places.all();
    let state = web::Data::new(state);
    let streams_end = web::Data::new(end.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(streams_end.clone())
            .configure(routes::configure)
            .wrap(actix_web::middleware::from_fn(routes::admit))
    })
    .workers(1)
    .disable_signals()
    // Else an idle event stream would not notice that its reader is gone.
    .h1_allow_half_closed(false)
    .max_connections(max_connections)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(5)
    .on_connect(move |io, data| peer::on_connect(io, data, &access, &places))
    .listen_uds(listener)?
    .run();
    let handle = server.handle();
    let stopping = actix_rt::spawn(async move {
        end.cancelled().await;
        handle.stop(true).await;
    });
    let served = server.await;
    stopping.abort();
    served
}
