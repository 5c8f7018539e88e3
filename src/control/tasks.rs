//! Tasks.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use deployctl::wire::report::Report;
use deployctl::wire::task::{Execute, Resume, Stop, Task, TaskList, TaskStatus};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::body;
use super::peer::caller;
use super::problem::Fault;
use super::{ControlState, convert};
use crate::actors::{self, Command, Refused};
use crate::task::TaskId;
use crate::task::deployment::DeploymentSpec;
use crate::task::forecast::Forecast;
use crate::task::state::TaskState;

type State = web::Data<ControlState>;

/// A page of a list.
const PAGE: usize = 100;
const MAX_PAGE: usize = 10_000;
/// Whoever waits for a task is answered after this time, and asks again.
const MAX_WAIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
pub struct Filter {
    state: Option<String>,
    limit: Option<usize>,
    before: Option<u64>,
}

/// `POST /v1/tasks`
pub async fn execute(state: State, request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Fault> {
    let Execute { plan, revision, dry_run } = body::required(body).await?;
    if dry_run {
        let preview = state.commander.dry_run(plan.clone(), revision).await?;
        return Ok(HttpResponse::Ok().json(convert::dry_run(plan, preview)));
    }
    let idempotency_key = idempotency_key(&request)?;
    let execute = actors::Execute { plan, revision, idempotency_key, by: caller(&request)? };
    let started = state.commander.execute(execute).await?;
    let mut task = summary(&state, started.task)?;
    task.warnings = started.warnings;
    let mut answer = if started.repeated { HttpResponse::Ok() } else { HttpResponse::Created() };
    Ok(answer.insert_header(("Location", format!("/v1/tasks/{}", task.id))).json(task))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Fault> {
    let Some(header) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    let key = header.to_str().ok().filter(|key| !key.is_empty() && key.len() <= 256);
    let text = "the Idempotency-Key is not 1 to 256 printable characters";
    key.map(|key| Some(key.to_string())).ok_or_else(|| Fault::BadRequest(text.into()))
}

/// `GET /v1/tasks`
pub async fn list(state: State, filter: web::Query<Filter>) -> Result<web::Json<TaskList>, Fault> {
    let limit = filter.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let names = filter.state.as_deref().unwrap_or_default();
    let states = names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| {
            let known: Vec<_> = TaskState::ALL.iter().map(|state| state.name()).collect();
            let text = format!("`{}` is no state; states: {}", name.escape_debug(), known.join(", "));
            TaskState::from_name(&name.to_uppercase()).ok_or(Fault::BadRequest(text))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let found = state.store.snapshot()?.task_summaries(&states, filter.before.map(TaskId), limit)?;
    let next = (found.len() == limit).then(|| found.last().map(|task| task.id.0)).flatten();
    Ok(web::Json(TaskList { tasks: found.into_iter().map(convert::task).collect(), next }))
}

#[derive(Deserialize)]
pub struct Patience {
    wait: Option<u64>,
}

/// `GET /v1/tasks/{id}`
pub async fn show(
    state: State,
    end: web::Data<CancellationToken>,
    id: web::Path<u64>,
    patience: web::Query<Patience>,
) -> Result<web::Json<TaskStatus>, Fault> {
    let id = TaskId(*id);
    if let Some(seconds) = patience.wait {
        let patience = Duration::from_secs(seconds).min(MAX_WAIT);
        tokio::select! {
            rested = rests(&state, id) => rested?,
            () = tokio::time::sleep(patience) => {}
            () = end.cancelled() => {}
        }
    }
    let snapshot = state.store.snapshot()?;
    let task = snapshot.task(id)?.ok_or(Refused::NoSuchTask(id))?;
    // Without its history a task's state is still worth to be known.
    let usual = |spec: &DeploymentSpec| {
        Forecast::of(snapshot.durations(spec.service.id, &spec.way, u64::MAX).unwrap_or_default())
    };
    Ok(web::Json(convert::status(&task, usual, &state.commander.preparations(id))))
}

/// Resolves when a task has come to rest.
async fn rests(state: &State, id: TaskId) -> Result<(), Fault> {
    let mut grown = state.store.watch();
    loop {
        // Marked as seen before reading: what comes in between wakes us again.
        grown.borrow_and_update();
        let task = state.store.snapshot()?.task_summary(id)?.ok_or(Refused::NoSuchTask(id))?;
        if !task.state.is_active() || grown.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// `GET /v1/tasks/{id}/report`
pub async fn report(state: State, id: web::Path<u64>) -> Result<web::Json<Report>, Fault> {
    let id = TaskId(*id);
    let snapshot = state.store.snapshot()?;
    let (task, events) = snapshot.task_with_events(id)?.ok_or(Refused::NoSuchTask(id))?;
    let begun = events.first().map_or(0, |event| event.seq);
    let usual = |spec: &DeploymentSpec| {
        Forecast::of(snapshot.durations(spec.service.id, &spec.way, begun).unwrap_or_default())
    };
    Ok(web::Json(convert::report(&task, &events, usual)))
}

/// `POST /v1/tasks/{id}/stop`
pub async fn stop(
    state: State,
    request: HttpRequest,
    id: web::Path<u64>,
    body: web::Payload,
) -> Result<HttpResponse, Fault> {
    let wanted: Stop = body::json(body).await?.unwrap_or_default();
    command(&state, &request, *id, Command::Stop { now: wanted.now }).await
}

/// `POST /v1/tasks/{id}/pause`
pub async fn pause(state: State, request: HttpRequest, id: web::Path<u64>) -> Result<HttpResponse, Fault> {
    command(&state, &request, *id, Command::Pause).await
}

/// `POST /v1/tasks/{id}/resume`
pub async fn resume(
    state: State,
    request: HttpRequest,
    id: web::Path<u64>,
    body: web::Payload,
) -> Result<HttpResponse, Fault> {
    let wanted: Resume = body::json(body).await?.unwrap_or_default();
    command(&state, &request, *id, Command::Resume { force: wanted.force }).await
}

/// `DELETE /v1/tasks/{id}`
pub async fn delete(state: State, request: HttpRequest, id: web::Path<u64>) -> Result<HttpResponse, Fault> {
    state.commander.command(TaskId(*id), Command::Delete, caller(&request)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn command(
    state: &State,
    request: &HttpRequest,
    id: u64,
    command: Command,
) -> Result<HttpResponse, Fault> {
    let done = state.commander.command(TaskId(id), command, caller(request)?).await?;
    let mut task = summary(state, TaskId(id))?;
    task.warnings = done.warnings;
    Ok(HttpResponse::Accepted().json(task))
}

fn summary(state: &State, id: TaskId) -> Result<Task, Fault> {
    let found = state.store.snapshot()?.task_summary(id)?;
    Ok(convert::task(found.ok_or(Refused::NoSuchTask(id))?))
}
