//! Tasks: execute, list, status, logs, and the commands.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

use super::args::{Execute, Output};
use super::exit::{self, Failure};
use super::session::Session;
use super::terminal::Terminal;
use super::{plans, preview, render, watch};
use crate::client::{Client, ClientError};
use crate::view::text::printable;
use crate::view::{report as facts, time};
use crate::wire::problem::code;
use crate::wire::task::{self, DryRun, Task, TaskList, TaskStatus};
use crate::wire::words::Verb;

/// Maximum number of containers of a deployment that `status` names.
const MAX_WAITS: usize = 10;

pub async fn execute(execute: Execute, session: &mut Session<'_>) -> Result<u8, Failure> {
    let (plan, revision) = match (&execute.file, &execute.plan) {
        (Some(file), _) => {
            let plan = plans::create(file, execute.name.clone(), session.client, session.terminal).await?;
            (plan.name, Some(plan.revision))
        }
        (None, Some(plan)) => {
            let (name, revision) = plans::name_and_revision(plan)?;
            (name.to_string(), revision)
        }
        (None, None) => return Err(Failure::Other("give a plan's name, or a file by -f".into())),
    };
    let request = task::Execute { plan, revision, dry_run: execute.dry_run, rebuild: execute.rebuild };
    if execute.dry_run {
        let dry: DryRun = session.client.post("/v1/tasks", &request).await?;
        if !session.terminal.document(session.output, &dry)? {
            preview::show(&dry, session.terminal)?;
        }
        return Ok(u8::from(!dry.problems.is_empty()));
    }
    let key = execute.idempotency_key.as_deref();
    let task = start(&request, key, execute.wait, session.client, session.terminal).await?;
    for warning in &task.warnings {
        session.terminal.note(&printable(&format!("warning: {warning}")));
    }
    // A document comes at the end, when there is something to wait for.
    if session.output == Output::Table {
        session.terminal.line(&task.id.to_string())?;
    }
    if execute.watch {
        watch::watch(task.id, 0, session).await
    } else if execute.wait {
        watch::wait(task.id, session).await
    } else {
        session.terminal.document(session.output, &task)?;
        Ok(0)
    }
}

/// Executes; with `wait`, as soon as the tasks that hold its services have come to rest. Who has waited does
/// not lose its place by a restart of the daemon: it asks again, by a key that lets nothing be executed twice.
async fn start(
    request: &task::Execute,
    key: Option<&str>,
    wait: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<Task, Failure> {
    if !wait {
        return Ok(client.post_once("/v1/tasks", key, request).await?);
    }
    let own = || {
        let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        format!("deployctl-{}", uuid.trim())
    };
    let key = key.map_or_else(own, str::to_string);
    let mut holder = None;
    let mut lost = None;
    loop {
        let failure = match turn(request, key.trim(), holder, client).await {
            Ok(Turn::Started(task)) => return Ok(*task),
            Ok(Turn::Held(conflict)) => {
                holder = Some(conflict.task);
                lost = None;
                let text = format!("waiting for task {}: {}", conflict.task, printable(&conflict.detail));
                terminal.note(&text);
                continue;
            }
            Err(failure) => failure,
        };
        let since = *lost.get_or_insert_with(Instant::now);
        if holder.is_none() || since.elapsed() > RESTART || !is_restart(&failure) {
            return Err(failure.into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How long a daemon that is started anew may take.
const RESTART: Duration = Duration::from_secs(30);

/// What came of one try.
enum Turn {
    Started(Box<Task>),
    Held(Held),
}

struct Held {
    task: u64,
    detail: String,
}

/// Waits for the holder, and tries.
async fn turn(
    request: &task::Execute,
    key: &str,
    holder: Option<u64>,
    client: &Client,
) -> Result<Turn, ClientError> {
    if let Some(holder) = holder {
        watch::until_rest(holder, client).await?;
    }
    match client.post_once("/v1/tasks", Some(key), request).await {
        Ok(task) => Ok(Turn::Started(Box::new(task))),
        Err(ClientError::Problem(problem)) if problem.code == code::CONFLICT => {
            match problem.conflicts.iter().flatten().next().map(|conflict| conflict.task) {
                Some(task) => Ok(Turn::Held(Held { task, detail: problem.detail.clone() })),
                None => Err(ClientError::Problem(problem)),
            }
        }
        Err(error) => Err(error),
    }
}

/// Whether this is what a client sees of a daemon that is started anew.
fn is_restart(error: &ClientError) -> bool {
    match error {
        ClientError::NotReachable { .. } | ClientError::Cut(_) => true,
        ClientError::Problem(problem) => problem.code == code::UNAVAILABLE,
        ClientError::Protocol(_) => false,
    }
}

pub async fn list(states: &[String], limit: usize, session: &mut Session<'_>) -> Result<u8, Failure> {
    let states: Vec<_> = states.iter().map(|state| plans::escape(state)).collect();
    let list: TaskList =
        session.client.get(&format!("/v1/tasks?limit={limit}&state={}", states.join(","))).await?;
    if session.terminal.document(session.output, &list)? {
        return Ok(0);
    }
    if list.tasks.is_empty() && states.is_empty() {
        session.terminal.note("no tasks yet; `deployctl execute -f release.yaml --watch` starts one");
        return Ok(0);
    }
    table(&list.tasks, session.terminal)?;
    Ok(0)
}

/// Tasks, a line each.
pub fn table(tasks: &[Task], terminal: &mut Terminal) -> Result<(), Failure> {
    let local = terminal.is_terminal;
    let row = |task: &Task| {
        vec![
            task.id.to_string(),
            format!("{}@{}", task.plan, task.revision),
            task.state.to_string(),
            task.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
            facts::progress(task),
            time::time(&task.started_at, local),
            time::duration(Some(&task.started_at), task.finished_at.as_deref()),
            task.created_by.user.clone(),
        ]
    };
    let rows = tasks.iter().map(row).collect();
    terminal.table(&["TASK", "PLAN", "STATE", "REASON", "SERVICES", "STARTED", "TOOK", "BY"], rows)?;
    Ok(())
}

pub async fn status(id: u64, session: &mut Session<'_>) -> Result<u8, Failure> {
    let status: TaskStatus = session.client.get(&format!("/v1/tasks/{id}")).await?;
    if session.terminal.document(session.output, &status)? {
        return Ok(0);
    }
    let (task, local) = (&status.task, session.terminal.is_terminal);
    render::head(task, session.terminal)?;
    let took = time::duration(Some(&task.started_at), task.finished_at.as_deref());
    let by = printable(&task.created_by.user);
    session.terminal.line(&format!("  started {} by {by}, {took}", time::time(&task.started_at, local)))?;
    let operations = &task.progress.operations;
    let services = facts::progress(task);
    session
        .terminal
        .line(&format!("  services {services}, containers {}/{}", operations.done, operations.total))?;
    if let Some(key) = &task.idempotency_key {
        session.terminal.line(&format!("  idempotency key {}", printable(key)))?;
    }
    for batch in &status.batches {
        let counts = &batch.deployments;
        session.terminal.line(&format!(
            "  batch of priority {}: {} of {} succeeded, {} running, {} failed, {} skipped, {} interrupted",
            batch.priority,
            counts.succeeded,
            counts.total,
            counts.running,
            counts.failed,
            counts.skipped,
            counts.interrupted
        ))?;
    }
    for waiting in &status.waiting_for {
        let since = time::duration(Some(&waiting.since), None);
        let usual = waiting.usual.map(usually).unwrap_or_default();
        let text = format!(
            "  waiting for {} ({}): {}, since {since}{usual}",
            waiting.service, waiting.deployment, waiting.doing
        );
        session.terminal.line(&printable(&text))?;
        for operation in waiting.operations.iter().take(MAX_WAITS) {
            session.terminal.line(&printable(&format!("    {}", operation_wait(operation))))?;
        }
        if let Some(more) = waiting.operations.len().checked_sub(MAX_WAITS).filter(|more| *more > 0) {
            session.terminal.line(&format!("    and {more} more"))?;
        }
    }
    if let (Some(at), Some(by)) = (&status.quiet_at, &status.quiet_by) {
        let (at, by) = (time::clock(at, local), time::clock(by, local));
        session.terminal.line(&format!("  should be quiet at {at}, 9 of 10 times by {by}"))?;
    }
    let possible = if task.possible.is_empty() {
        "nothing, it has to come to rest".into()
    } else {
        task.possible.iter().map(Verb::as_str).collect::<Vec<_>>().join(", ")
    };
    session.terminal.line(&format!("  possible: {possible}"))?;
    Ok(0)
}

/// `redis: stop for 12 s; redis-server.service is deactivating (stop-sigterm): saving the final RDB snapshot`
fn operation_wait(wait: &task::OperationWait) -> String {
    let took = time::duration(Some(&wait.since), None);
    let mut text = format!("{}: {} for {took}", wait.container, wait.doing);
    if let Some(unit) = &wait.unit {
        text.push_str(&format!("; {} is {} ({})", unit.name, unit.active_state, unit.sub_state));
        if let Some(job) = &unit.waiting_job {
            text.push_str(&format!(", and its {job} job waits for other jobs (systemctl list-jobs)"));
        }
        if !unit.status_text.is_empty() {
            text.push_str(&format!(": {}", unit.status_text));
        }
    }
    text
}

fn usually(usual: task::Usual) -> String {
    let (p50, p90) = (time::millis(usual.p50), time::millis(usual.p90));
    format!("; usually {p50}, 9 of 10 within {p90} ({} seen)", usual.samples)
}

pub async fn logs(
    id: u64,
    service: Option<&str>,
    follow: bool,
    session: &mut Session<'_>,
) -> Result<u8, Failure> {
    let service = service.map(|service| format!("&service={}", plans::escape(service))).unwrap_or_default();
    let body = session.client.text(&format!("/v1/tasks/{id}/logs?follow={follow}{service}")).await?;
    copy(body, session.output, session.terminal).await
}

/// Copies a text, line by line and escaped; as documents, each has a `line`.
pub async fn copy(
    mut body: hyper::body::Incoming,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Cut(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            copy_line(&line, output, terminal)?;
        }
    }
    if !rest.is_empty() {
        copy_line(&rest, output, terminal)?;
    }
    Ok(0)
}

fn copy_line(line: &[u8], output: Output, terminal: &mut Terminal) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    if !terminal.item(output, &json!({ "line": text }))? {
        let parts: Vec<_> = text.split('\t').map(printable).collect();
        terminal.line(&parts.join("\t"))?;
    }
    Ok(())
}

/// What a user asks of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Stop it; `now`: cut what waits.
    Stop {
        /// Cut downloads, builds and health waits.
        now: bool,
    },
    /// Pause it.
    Pause,
    /// Continue; `force`: although containers changed.
    Resume {
        /// Although containers changed.
        force: bool,
    },
    /// Forget it.
    Delete,
}

/// What a command does when its request was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Return at once.
    Return,
    /// Wait until the task rests; the exit code says how.
    Wait,
    /// Follow it until it rests.
    Watch,
}

impl Then {
    /// For `--wait`.
    pub const fn wait(wait: bool) -> Self {
        if wait { Self::Wait } else { Self::Return }
    }
}

/// Sends a request about each task. The first failure decides the exit code. As documents there is one for
/// each task.
pub async fn command(
    request: Request,
    ids: &[u64],
    then: Then,
    session: &mut Session<'_>,
) -> Result<u8, Failure> {
    let mut code = 0;
    for &id in ids {
        // A user who resumes a task knows what happened before.
        let after =
            if then == Then::Watch { watch::last_seq(id, session.client).await.unwrap_or(0) } else { 0 };
        let ended = match (send(request, id, session).await, then) {
            (Ok(_), Then::Watch) => watch::watch(id, after, session).await,
            (Ok(_), Then::Wait) => watch::wait(id, session).await,
            (Ok(answer), Then::Return) => {
                session.terminal.item(session.output, &answer).map(|_| 0).map_err(Failure::from)
            }
            (Err(failure), _) => Err(failure),
        };
        let ended = ended.unwrap_or_else(|failure| {
            failure.show(session.terminal);
            failure.code()
        });
        if code == 0 || ended == exit::CTRL_C {
            code = ended;
        }
    }
    Ok(code)
}

async fn send(request: Request, id: u64, session: &mut Session<'_>) -> Result<Value, Failure> {
    let (client, path) = (session.client, format!("/v1/tasks/{id}"));
    let task: Task = match request {
        Request::Delete => {
            client.bytes(Method::DELETE, &path, Vec::new()).await?;
            return Ok(json!({ "task": id, "deleted": true }));
        }
        Request::Resume { force } => client.post(&format!("{path}/resume"), &task::Resume { force }).await?,
        Request::Stop { now } => client.post(&format!("{path}/stop"), &task::Stop { now }).await?,
        Request::Pause => client.call(Method::POST, &format!("{path}/pause"), Vec::new()).await?,
    };
    for warning in &task.warnings {
        session.terminal.note(&printable(&format!("warning: {warning}")));
    }
    session.terminal.note(&printable(&format!("task {id} is {}", task.state)));
    Ok(json!(task))
}
