//! Tasks: execute, list, status, logs, and the commands.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

use super::args::{Execute, Ids, Output};
use super::exit::{self, Failure};
use super::terminal::{Terminal, printable};
use super::{plans, preview, render, watch};
use crate::client::{Client, ClientError};
use crate::wire::problem::code;
use crate::wire::task::{self, DryRun, Task, TaskList, TaskStatus};

pub async fn execute(
    execute: Execute,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let (plan, revision) = match (&execute.file, &execute.plan) {
        (Some(file), _) => {
            let plan = plans::store(file, execute.name.clone(), client, terminal).await?;
            (plan.name, Some(plan.revision))
        }
        (None, Some(plan)) => {
            let (name, revision) = plans::name_and_revision(plan)?;
            (name.to_string(), revision)
        }
        (None, None) => return Err(Failure::Other("give a plan's name, or a file by -f".into())),
    };
    let request = task::Execute { plan, revision, dry_run: execute.dry_run };
    if execute.dry_run {
        let dry: DryRun = client.post("/v1/tasks", &request).await?;
        if !terminal.document(output, &dry)? {
            preview::show(&dry, terminal)?;
        }
        return Ok(u8::from(!dry.problems.is_empty()));
    }
    let key = execute.idempotency_key.as_deref();
    let task = start(&request, key, execute.wait, client, terminal).await?;
    for warning in &task.warnings {
        terminal.note(&printable(&format!("warning: {warning}")));
    }
    // A document comes at the end, when there is something to wait for.
    if output == Output::Table {
        terminal.line(&task.id.to_string())?;
    }
    if execute.watch {
        watch::watch(task.id, 0, client, output, terminal).await
    } else if execute.wait {
        watch::wait(task.id, client, output, terminal).await
    } else {
        terminal.document(output, &task)?;
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
    let own = || std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
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

pub async fn list(
    states: &[String],
    limit: usize,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let states: Vec<_> = states.iter().map(|state| plans::escape(state)).collect();
    let list: TaskList = client.get(&format!("/v1/tasks?limit={limit}&state={}", states.join(","))).await?;
    if terminal.document(output, &list)? {
        return Ok(0);
    }
    if list.tasks.is_empty() && states.is_empty() {
        terminal.note("no tasks yet; `deployctl execute -f release.yaml --watch` starts one");
        return Ok(0);
    }
    table(&list.tasks, terminal)?;
    Ok(0)
}

/// Tasks, a line each.
pub fn table(tasks: &[Task], terminal: &mut Terminal) -> Result<(), Failure> {
    let local = terminal.is_terminal;
    let row = |task: &Task| {
        vec![
            task.id.to_string(),
            format!("{}@{}", task.plan, task.revision),
            task.state.clone(),
            task.reason.clone().unwrap_or_default(),
            render::progress(task),
            render::time(&task.started_at, local),
            render::duration(Some(&task.started_at), task.finished_at.as_deref()),
            task.created_by.user.clone(),
        ]
    };
    let rows = tasks.iter().map(row).collect();
    terminal.table(&["TASK", "PLAN", "STATE", "REASON", "SERVICES", "STARTED", "TOOK", "BY"], rows)?;
    Ok(())
}

pub async fn status(
    id: u64,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let status: TaskStatus = client.get(&format!("/v1/tasks/{id}")).await?;
    if terminal.document(output, &status)? {
        return Ok(0);
    }
    let (task, local) = (&status.task, terminal.is_terminal);
    render::head(task, terminal)?;
    let took = render::duration(Some(&task.started_at), task.finished_at.as_deref());
    let by = printable(&task.created_by.user);
    terminal.line(&format!("  started {} by {by}, {took}", render::time(&task.started_at, local)))?;
    let operations = &task.progress.operations;
    let services = render::progress(task);
    terminal.line(&format!("  services {services}, containers {}/{}", operations.done, operations.total))?;
    for batch in &status.batches {
        let counts = &batch.deployments;
        terminal.line(&format!(
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
        let since = render::duration(Some(&waiting.since), None);
        let usual = waiting.usual.map(usually).unwrap_or_default();
        let text = format!(
            "  waiting for {} ({}): {}, since {since}{usual}",
            waiting.service, waiting.deployment, waiting.doing
        );
        terminal.line(&printable(&text))?;
    }
    if let (Some(at), Some(by)) = (&status.quiet_at, &status.quiet_by) {
        let (at, by) = (render::clock(at, local), render::clock(by, local));
        terminal.line(&format!("  should be quiet at {at}, 9 of 10 times by {by}"))?;
    }
    let possible = if task.possible.is_empty() {
        "nothing, it has to come to rest".into()
    } else {
        task.possible.join(", ")
    };
    terminal.line(&format!("  possible: {possible}"))?;
    Ok(0)
}

fn usually(usual: task::Usual) -> String {
    let (p50, p90) = (render::millis(usual.p50), render::millis(usual.p90));
    format!("; usually {p50}, 9 of 10 within {p90} ({} seen)", usual.samples)
}

pub async fn logs(
    id: u64,
    service: Option<&str>,
    follow: bool,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let service = service.map(|service| format!("&service={}", plans::escape(service))).unwrap_or_default();
    let body = client.text(&format!("/v1/tasks/{id}/logs?follow={follow}{service}")).await?;
    copy(body, output, terminal).await
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

/// stop, pause, resume, delete: of all tasks; the first failure decides the exit code. `force` is
/// resume's `--force` and stop's `--now`. As documents there is one for each task.
pub async fn command(
    verb: &str,
    ids: &Ids,
    force: bool,
    watched: bool,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let mut code = 0;
    for &id in &ids.ids {
        // What happened before is known to whoever resumes.
        let after = if watched { watch::last_seq(id, client).await.unwrap_or(0) } else { 0 };
        let done = one(verb, id, force, client, terminal).await;
        let ended = match done {
            Ok(_) if watched => watch::watch(id, after, client, output, terminal).await,
            Ok(_) if ids.wait && verb != "delete" => watch::wait(id, client, output, terminal).await,
            Ok(answer) => terminal.item(output, &answer).map(|_| 0).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let ended = ended.unwrap_or_else(|failure| {
            failure.show(terminal);
            failure.code()
        });
        if code == 0 || ended == exit::CTRL_C {
            code = ended;
        }
    }
    Ok(code)
}

async fn one(
    verb: &str,
    id: u64,
    force: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<Value, Failure> {
    if verb == "delete" {
        client.bytes(Method::DELETE, &format!("/v1/tasks/{id}"), Vec::new()).await?;
        return Ok(json!({ "task": id, "deleted": true }));
    }
    let path = format!("/v1/tasks/{id}/{verb}");
    let task: Task = if verb == "resume" {
        client.post(&path, &task::Resume { force }).await?
    } else if verb == "stop" {
        client.post(&path, &task::Stop { now: force }).await?
    } else {
        client.call(Method::POST, &path, Vec::new()).await?
    };
    for warning in &task.warnings {
        terminal.note(&printable(&format!("warning: {warning}")));
    }
    terminal.note(&printable(&format!("task {id} is {}", task.state)));
    Ok(json!(task))
}
