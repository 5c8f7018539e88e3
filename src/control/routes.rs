//! All calls of the socket on one page, each with who may make it.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, Responder, web};
use deployctl::wire::{Counts, Info};

use super::peer::{Peer, Role, caller};
use super::problem::Fault;
use super::{ControlState, backup, convert, events, logs, plans, repositories, services, tasks};
use crate::task::state::TaskState;

/// A call.
pub struct Route {
    /// Its method.
    pub method: &'static str,
    /// Its path; parts in braces are parameters.
    pub path: &'static str,
    /// Who may make it.
    pub role: Role,
    /// What it does.
    pub summary: &'static str,
}

const fn route(method: &'static str, path: &'static str, role: Role, summary: &'static str) -> Route {
    Route { method, path, role, summary }
}

/// All calls.
pub const ROUTES: [Route; 29] = [
    route("GET", "/v1/info", Role::Viewer, "Version, uptime, runtimes, counts"),
    route("GET", "/v1/openapi.json", Role::Viewer, "This document"),
    route("POST", "/v1/plans/check", Role::Viewer, "Everything that is wrong with a plan"),
    route("POST", "/v1/plans", Role::Operator, "Store the next revision of a plan"),
    route("GET", "/v1/plans", Role::Viewer, "All plans"),
    route("GET", "/v1/plans/{name}", Role::Viewer, "One plan"),
    route("DELETE", "/v1/plans/{name}", Role::Operator, "Delete a plan"),
    route("POST", "/v1/tasks", Role::Operator, "Execute a plan"),
    route("GET", "/v1/tasks", Role::Viewer, "The tasks, newest first"),
    route("GET", "/v1/tasks/{id}", Role::Viewer, "One task and what it waits for"),
    route("DELETE", "/v1/tasks/{id}", Role::Operator, "Delete a task"),
    route("GET", "/v1/tasks/{id}/report", Role::Viewer, "The report of a task"),
    route("GET", "/v1/tasks/{id}/logs", Role::Viewer, "What builds, hooks and operations said"),
    route("POST", "/v1/tasks/{id}/stop", Role::Operator, "Break off after what is being deployed now"),
    route("POST", "/v1/tasks/{id}/pause", Role::Operator, "Hold back what comes after"),
    route("POST", "/v1/tasks/{id}/resume", Role::Operator, "Go on"),
    route("GET", "/v1/events", Role::Viewer, "All events, as a stream"),
    route("GET", "/v1/services", Role::Viewer, "The catalog, with what its containers are doing"),
    route("GET", "/v1/services/{id}", Role::Viewer, "One service, by id or name"),
    route("GET", "/v1/services/{id}/logs", Role::Viewer, "The last lines of its containers"),
    route("POST", "/v1/services/reload", Role::Admin, "Read the catalog anew"),
    route("GET", "/v1/repositories", Role::Viewer, "The built-in repositories"),
    route("POST", "/v1/repositories", Role::Operator, "Create a built-in repository"),
    route("DELETE", "/v1/repositories/{name}", Role::Operator, "Delete a built-in repository"),
    // Environments of services stand in it.
    route("GET", "/v1/backup", Role::Admin, "The whole store, as a file"),
    // What the list above has under one path is served by one resource; HEAD is not offered.
    route("GET", "/v1", Role::Viewer, "The calls, as text"),
    route("GET", "/", Role::Viewer, "The calls, as text"),
    route("GET", "/v1/", Role::Viewer, "The calls, as text"),
    route("GET", "/healthz", Role::Viewer, "Answers when the daemon is up"),
];

/// A plan's largest body.
const MAX_PLAN: usize = crate::plan::parse::MAX_BYTES + 1;
/// The largest JSON body.
const MAX_JSON: usize = 64 << 10;

/// Connects paths and handlers.
pub fn configure(app: &mut web::ServiceConfig) {
    let resource = |path: &str| web::resource(path).default_service(web::to(not_allowed));
    app.app_data(web::PayloadConfig::new(MAX_PLAN))
        .app_data(
            web::JsonConfig::default().limit(MAX_JSON).content_type_required(false).error_handler(json_error),
        )
        .app_data(web::QueryConfig::default().error_handler(|error, _| bad_request(&error.to_string())))
        .app_data(web::PathConfig::default().error_handler(|error, _| bad_request(&error.to_string())))
        .service(resource("/v1/info").route(web::get().to(info)))
        .service(resource("/v1/openapi.json").route(web::get().to(openapi)))
        .service(resource("/v1/plans/check").route(web::post().to(plans::check)))
        .service(resource("/v1/plans").route(web::post().to(plans::create)).route(web::get().to(plans::list)))
        .service(
            resource("/v1/plans/{name}")
                .route(web::get().to(plans::show))
                .route(web::delete().to(plans::delete)),
        )
        .service(
            resource("/v1/tasks").route(web::post().to(tasks::execute)).route(web::get().to(tasks::list)),
        )
        .service(
            resource("/v1/tasks/{id}")
                .route(web::get().to(tasks::show))
                .route(web::delete().to(tasks::delete)),
        )
        .service(resource("/v1/tasks/{id}/report").route(web::get().to(tasks::report)))
        .service(resource("/v1/tasks/{id}/logs").route(web::get().to(logs::of_task)))
        .service(resource("/v1/tasks/{id}/stop").route(web::post().to(tasks::stop)))
        .service(resource("/v1/tasks/{id}/pause").route(web::post().to(tasks::pause)))
        .service(resource("/v1/tasks/{id}/resume").route(web::post().to(tasks::resume)))
        .service(resource("/v1/events").route(web::get().to(events::stream)))
        .service(resource("/v1/services").route(web::get().to(services::list)))
        .service(resource("/v1/services/reload").route(web::post().to(services::reload)))
        .service(resource("/v1/services/{id}").route(web::get().to(services::show)))
        .service(resource("/v1/services/{id}/logs").route(web::get().to(services::logs)))
        .service(
            resource("/v1/repositories")
                .route(web::get().to(repositories::list))
                .route(web::post().to(repositories::create)),
        )
        .service(resource("/v1/repositories/{name}").route(web::delete().to(repositories::delete)))
        .service(resource("/v1/backup").route(web::get().to(backup::backup)))
        .service(resource("/healthz").route(web::get().to(HttpResponse::Ok)))
        .service(web::resource(["/", "/v1", "/v1/"]).route(web::get().to(overview)))
        .default_service(web::to(not_found));
}

/// Before every handler: is the caller known, and may they do this?
pub async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let role = request.request().conn_data::<Peer>().and_then(|peer| peer.role);
    let pattern = request.match_pattern();
    let needed = needed(request.method(), pattern.as_deref());
    match role {
        Some(role) if role >= needed => next.call(request).await,
        Some(role) => Err(Fault::NotPermitted(format!(
            "this needs the role {}, and you have {}; ask an administrator of this host",
            needed.name(),
            role.name()
        ))
        .into()),
        None => Err(Fault::NotPermitted(
            "you may not use deployd: you are in none of the groups of `access` in its configuration".into(),
        )
        .into()),
    }
}

fn needed(method: &Method, pattern: Option<&str>) -> Role {
    let route = ROUTES.iter().find(|route| Some(route.path) == pattern && route.method == method.as_str());
    // What does not exist needs no more than reading: it answers 404 or 405.
    route.map_or(Role::Viewer, |route| route.role)
}

async fn not_found() -> Result<HttpResponse, Fault> {
    Err(Fault::NotFound("there is nothing at this address; GET /v1/openapi.json lists what there is".into()))
}

async fn not_allowed() -> Result<HttpResponse, Fault> {
    Err(Fault::MethodNotAllowed)
}

fn bad_request(text: &str) -> Error {
    Fault::BadRequest(text.to_string()).into()
}

fn json_error(error: actix_web::error::JsonPayloadError, _: &HttpRequest) -> Error {
    use actix_web::error::JsonPayloadError as E;
    match error {
        E::Overflow { .. } | E::OverflowKnownLength { .. } => {
            Fault::TooLarge(format!("the body is larger than {MAX_JSON} bytes")).into()
        }
        error => bad_request(&format!("the body is not what is expected: {error}")),
    }
}

async fn openapi() -> impl Responder {
    HttpResponse::Ok().content_type("application/json").body(include_str!("openapi.json"))
}

async fn overview() -> impl Responder {
    let lines: Vec<_> = ROUTES
        .iter()
        .map(|route| format!("{:6} {:28} {}", route.method, route.path, route.summary))
        .collect();
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(lines.join("\n") + "\n")
}

async fn info(state: web::Data<ControlState>, request: HttpRequest) -> Result<web::Json<Info>, Fault> {
    let snapshot = state.store.snapshot()?;
    let (tasks, plans) = snapshot.counts()?;
    let active = [TaskState::Running, TaskState::Stopping, TaskState::Pausing];
    let mut running = 0;
    for id in snapshot.open_tasks()? {
        running += u64::from(snapshot.task_summary(id)?.is_some_and(|task| active.contains(&task.state)));
    }
    let role = request.conn_data::<Peer>().and_then(|peer| peer.role).map_or("none", Role::name);
    Ok(web::Json(Info {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at: convert::time(state.started),
        uptime: u64::try_from((crate::clock::now().0 - state.started.0) / 1_000_000).unwrap_or(0),
        instance: state.store.instance().into(),
        runtimes: vec!["process".into()],
        counts: Counts {
            services: state.commander.catalog().services().len() as u64,
            plans,
            tasks,
            active: running,
        },
        draining: state.commander.is_draining(),
        caller: convert::caller(caller(&request)?),
        role: role.into(),
    }))
}
