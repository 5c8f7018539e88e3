//! The connections of the control socket: each is served in a task of its own, all of them on one thread.
//!
//! actix-web's own server accepts on another thread, and has a timer for as long as it is there. Here, what serves is
//! made for the first connection and dropped soon after the last one: a daemon that nobody talks to does nothing.

use std::fmt::Debug;
use std::io;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::places::Places;
use super::{ControlState, peer, routes};

/// The head of a request has to come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever is not served any more has to hang up within this time.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(1);
/// So long does what serves outlive the last connection, for the next one.
const KEPT: Duration = Duration::from_secs(5);
/// So long may answers take that are on their way when the daemon ends.
const GRACE: Duration = Duration::from_secs(5);
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end` is cancelled; open streams are ended first.
///
/// # Errors
/// When the listener can't be used.
pub async fn serve(listener: UnixListener, state: ControlState, end: CancellationToken) -> io::Result<()> {
    let arbiter = actix_rt::Arbiter::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    arbiter.spawn_fn(move || {
        actix_rt::spawn(async move { drop(tell.send(accept(listener, state, end).await)) });
    });
    let served =
        told.await.unwrap_or_else(|_| Err(io::Error::other("the thread of the control socket has ended")));
    arbiter.stop();
    served
}

async fn accept(listener: UnixListener, state: ControlState, end: CancellationToken) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let places = Arc::new(Places::of_this_process());
    let state = web::Data::new(state);
    let mut connections = JoinSet::new();
    let mut service = None;
    let mut quiet_since = Instant::now();
    loop {
        let is_quiet = connections.is_empty();
        let accepted = tokio::select! {
            () = end.cancelled() => break,
            Some(ended) = connections.join_next() => {
                note(ended);
                quiet_since = Instant::now();
                continue;
            }
            () = sleep_until(quiet_since + KEPT), if is_quiet && service.is_some() => {
                service = None;
                continue;
            }
            accepted = listener.accept(), if connections.len() < places.all() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = match service.take() {
                    Some(serving) => serving,
                    None => Rc::new(service_of(&state, &places, &end).await?),
                };
                let its = Rc::clone(service.insert(serving));
                connections.spawn_local(async move {
                    if let Err(error) = its.call((stream, None)).await {
                        tracing::debug!(?error, "a connection to the control socket has ended badly");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the control socket");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    timeout(GRACE, all).await.ok();
    Ok(())
}

/// How a connection ends is its caller's to notice; a panic is ours.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection to the control socket has panicked");
    }
}

/// What serves a connection.
async fn service_of(
    state: &web::Data<ControlState>,
    places: &Arc<Places>,
    end: &CancellationToken,
) -> io::Result<impl Service<(UnixStream, Option<std::net::SocketAddr>), Response = (), Error: Debug> + use<>>
{
    let app = App::new()
        .app_data(state.clone())
        .app_data(web::Data::new(end.clone()))
        .configure(routes::configure)
        .wrap(actix_web::middleware::from_fn(routes::admit));
    let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
    let (access, places, end) = (state.access.clone(), places.clone(), end.clone());
    let factory = HttpService::build()
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(HANG_UP_TIMEOUT)
        // Else an idle event stream would not notice that its reader is gone.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || end.clone().cancelled_owned())
        .on_connect_ext(move |stream: &UnixStream, data| peer::on_connect(stream, data, &access, &places))
        .h1(map_config(app, |()| AppConfig::default()));
    let service = factory.new_service(()).await;
    service.map_err(|()| io::Error::other("the routes of the control socket can't be served"))
}
