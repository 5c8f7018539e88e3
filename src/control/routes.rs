//! All calls of the socket on one page, each with who may make it.

use std::future::ready;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, Responder, web};
use deployctl::wire::{Counts, Info};

use super::peer::{Peer, Role, caller};
use super::problem::Fault;
use super::{
    ControlState, backup, convert, events, followups, history, logs, metrics, plans, repositories, services,
    tasks,
};

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
    /// Its handler.
    serve: fn(actix_web::Route) -> actix_web::Route,
}

const fn route(
    method: &'static str,
    path: &'static str,
    role: Role,
    summary: &'static str,
    serve: fn(actix_web::Route) -> actix_web::Route,
) -> Route {
    Route { method, path, role, summary, serve }
}

/// All calls. What matches an earlier path is not looked for in the later ones.
#[rustfmt::skip]
pub const ROUTES: [Route; 33] = [
    route("GET", "/v1/info", Role::Viewer, "Version, uptime, runtimes, counts", |to| to.to(info)),
    route("GET", "/v1/openapi.json", Role::Viewer, "This document", |to| to.to(openapi)),
    route("POST", "/v1/plans/check", Role::Viewer, "Everything that is wrong with a plan", |to| to.to(plans::check)),
    route("POST", "/v1/plans", Role::Operator, "Store the next revision of a plan", |to| to.to(plans::create)),
    route("GET", "/v1/plans", Role::Viewer, "All plans", |to| to.to(plans::list)),
    route("GET", "/v1/plans/{name}", Role::Viewer, "One plan", |to| to.to(plans::show)),
    route("DELETE", "/v1/plans/{name}", Role::Operator, "Delete a plan", |to| to.to(plans::delete)),
    route("POST", "/v1/tasks", Role::Operator, "Execute a plan", |to| to.to(tasks::execute)),
    route("GET", "/v1/tasks", Role::Viewer, "The tasks, newest first", |to| to.to(tasks::list)),
    route("GET", "/v1/tasks/{id}", Role::Viewer, "One task and what it waits for", |to| to.to(tasks::show)),
    route("DELETE", "/v1/tasks/{id}", Role::Operator, "Delete a task", |to| to.to(tasks::delete)),
    route("GET", "/v1/tasks/{id}/report", Role::Viewer, "The report of a task", |to| to.to(tasks::report)),
    route("GET", "/v1/tasks/{id}/logs", Role::Viewer, "What builds, hooks and operations said", |to| to.to(logs::of_task)),
    route("POST", "/v1/tasks/{id}/stop", Role::Operator, "Break off after what is being deployed now", |to| to.to(tasks::stop)),
    route("POST", "/v1/tasks/{id}/pause", Role::Operator, "Hold back what comes after", |to| to.to(tasks::pause)),
    route("POST", "/v1/tasks/{id}/resume", Role::Operator, "Go on", |to| to.to(tasks::resume)),
    route("GET", "/v1/tasks/{id}/rollback-plan", Role::Viewer, "A plan that takes it back", |to| to.to(followups::rollback_plan)),
    route("GET", "/v1/tasks/{id}/retry-plan", Role::Viewer, "A plan of what it did not get done", |to| to.to(followups::retry_plan)),
    route("GET", "/v1/events", Role::Viewer, "All events, as a stream", |to| to.to(events::stream)),
    route("GET", "/v1/history", Role::Viewer, "What was done to containers, by which task, by whom", |to| to.to(history::list)),
    route("POST", "/v1/services/reload", Role::Admin, "Read the catalog anew", |to| to.to(services::reload)),
    route("GET", "/v1/services", Role::Viewer, "The catalog, with what its containers are doing", |to| to.to(services::list)),
    route("GET", "/v1/services/{id}", Role::Viewer, "One service, by id or name", |to| to.to(services::show)),
    route("GET", "/v1/services/{id}/logs", Role::Viewer, "The last lines of its containers", |to| to.to(services::logs)),
    route("GET", "/v1/repositories", Role::Viewer, "The built-in repositories", |to| to.to(repositories::list)),
    route("POST", "/v1/repositories", Role::Operator, "Create a built-in repository", |to| to.to(repositories::create)),
    route("DELETE", "/v1/repositories/{name}", Role::Operator, "Delete a built-in repository", |to| to.to(repositories::delete)),
    route("GET", "/metrics", Role::Viewer, "What is counted and measured, as OpenMetrics", |to| to.to(metrics::metrics)),
    // Environments of services stand in it.
    route("GET", "/v1/backup", Role::Admin, "The whole store, as a file", |to| to.to(backup::backup)),
    route("GET", "/v1", Role::Viewer, "The calls, as text", |to| to.to(overview)),
    route("GET", "/", Role::Viewer, "The calls, as text", |to| to.to(overview)),
    route("GET", "/v1/", Role::Viewer, "The calls, as text", |to| to.to(overview)),
    route("GET", "/healthz", Role::Viewer, "Answers when the daemon is up", |to| to.to(HttpResponse::Ok)),
];

/// Serves what the table says, and nothing else.
pub fn configure(app: &mut web::ServiceConfig) {
    app.app_data(web::QueryConfig::default().error_handler(|error, _| bad_request(&error.to_string())))
        .app_data(web::PathConfig::default().error_handler(|error, _| bad_request(&error.to_string())))
        .default_service(web::to(not_found));
    let mut served = Vec::new();
    for Route { path, .. } in &ROUTES {
        if served.contains(path) {
            continue;
        }
        served.push(*path);
        let calls = || ROUTES.iter().filter(|route| route.path == *path);
        let offered = calls().map(|route| route.method).collect::<Vec<_>>().join(", ");
        let not_allowed = move || ready(Err::<HttpResponse, _>(Fault::MethodNotAllowed(offered.clone())));
        let resource = web::resource(*path).default_service(web::to(not_allowed));
        app.service(calls().fold(resource, |resource, route| resource.route(guarded(route))));
    }
}

/// A call behind its role: whatever way a request has come here, it gets no further without.
fn guarded(route: &'static Route) -> actix_web::Route {
    let method = Method::from_bytes(route.method.as_bytes()).expect("the table has methods");
    let admit = |request, next| may(route.role, request, next);
    (route.serve)(web::method(method)).wrap(from_fn(admit))
}

/// Before a call: may they do this?
async fn may(
    needed: Role,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match role(&request) {
        Some(role) if role >= needed => next.call(request).await,
        Some(role) => Err(Fault::NotPermitted(format!(
            "this needs the role {}, and you have {}; ask an administrator of this host",
            needed.name(),
            role.name()
        ))
        .into()),
        None => Err(stranger()),
    }
}

/// Before everything, also what is not there: strangers get nothing.
pub async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match role(&request) {
        Some(_) => next.call(request).await,
        None => Err(stranger()),
    }
}

fn role(request: &ServiceRequest) -> Option<Role> {
    request.request().conn_data::<Peer>()?.role
}

fn stranger() -> Error {
    let text = "you may not use deployd: you are in none of the groups of `access` in its configuration; ask an administrator of this host";
    Fault::NotPermitted(text.into()).into()
}

async fn not_found() -> Result<HttpResponse, Fault> {
    Err(Fault::NotFound("there is nothing at this address; GET /v1/openapi.json lists what there is".into()))
}

fn bad_request(text: &str) -> Error {
    Fault::BadRequest(text.to_string()).into()
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
    let states = snapshot.states()?.into_iter();
    let active = states.filter(|(state, _)| state.is_active()).map(|(_, count)| count).sum();
    let role = request.conn_data::<Peer>().and_then(|peer| peer.role).map_or("none", Role::name);
    Ok(web::Json(Info {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at: convert::time(state.started),
        uptime: state.up_since.elapsed().as_secs(),
        instance: state.store.instance().into(),
        runtimes: (state.runtimes)().into_iter().map(Into::into).collect(),
        counts: Counts { services: state.commander.catalog().services().len() as u64, plans, tasks, active },
        draining: state.commander.is_draining(),
        caller: convert::caller(caller(&request)?),
        role: role.into(),
    }))
}
