//! Following tasks.

use super::args::Output;
use super::event::in_words;
use super::exit::{self, Failure};
use super::live;
use super::render;
use super::terminal::Terminal;
use crate::client::{Client, ClientError, RECONNECT, RECONNECTS};
use crate::wire::event::Event;
use crate::wire::task::TaskStatus;

/// For so many seconds one request waits for a task.
const WAIT: u32 = 30;

/// Follows a task until it rests: as a picture on a terminal, else a line for each event after number
/// `after`. Ctrl-C leaves the task alone.
pub async fn watch(
    id: u64,
    after: u64,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    if terminal.is_live && output == Output::Table {
        return live::watch(id, client, terminal).await;
    }
    tokio::select! {
        code = follow(id, after, client, output, terminal) => code,
        _ = tokio::signal::ctrl_c() => {
            terminal.note(&goes_on(id));
            Ok(exit::CTRL_C)
        }
    }
}

/// What is said after Ctrl-C.
pub fn goes_on(id: u64) -> String {
    format!("task {id} goes on; `deployctl watch {id}` follows it again, `deployctl stop {id}` stops it")
}

async fn follow(
    id: u64,
    after: u64,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    // Events may come after the one that ends it: a paused task that was resumed has several ends.
    let mut state = status(id, client).await?.task.state;
    let mut events = client.events(Some(id), after, true);
    let mut last = last_seq(id, client).await?;
    if last <= after && is_resting(&state) {
        return Ok(exit::of_state(&state));
    }
    loop {
        let Some(event) = events.next().await? else { return Ok(exit::of_state(&state)) };
        show(&event, output, terminal)?;
        if event.seq < last {
            continue;
        }
        if let Some(new) = task_state(&event) {
            state = new.to_string();
        }
        if is_resting(&state) {
            // Has it been resumed in between? Then there is more.
            last = last_seq(id, client).await?;
            if last > event.seq {
                continue;
            }
            if output == Output::Table {
                let task = status(id, client).await?.task;
                let took = render::duration(Some(&task.started_at), task.finished_at.as_deref());
                let services = render::progress(&task);
                terminal.line(&format!(
                    "task {id} is {}: {services} services in {took}",
                    terminal.state(&state)
                ))?;
            }
            return Ok(exit::of_state(&state));
        }
    }
}

fn show(event: &Event, output: Output, terminal: &mut Terminal) -> Result<(), Failure> {
    if !terminal.item(output, event)?
        && let Some(words) = in_words(event)
    {
        let at = render::clock(&event.at, terminal.is_terminal);
        terminal.line(&format!("{at}  {words}"))?;
    }
    Ok(())
}

fn task_state(event: &Event) -> Option<&str> {
    event.kind.starts_with("task.").then(|| event.details.get("state")?.as_str()).flatten()
}

fn is_resting(state: &str) -> bool {
    !matches!(state, "RUNNING" | "STOPPING" | "PAUSING")
}

async fn status(id: u64, client: &Client) -> Result<TaskStatus, ClientError> {
    client.get(&format!("/v1/tasks/{id}")).await
}

/// The place of the last event that a task has now.
pub async fn last_seq(id: u64, client: &Client) -> Result<u64, ClientError> {
    let mut events = client.events(Some(id), 0, false);
    let mut last = 0;
    while let Some(event) = events.next().await? {
        last = event.seq;
    }
    Ok(last)
}

/// Waits until a task rests; its state. It goes on over restarts of the daemon.
pub async fn until_rest(id: u64, client: &Client) -> Result<String, ClientError> {
    let (mut reached, mut lost) = (false, 0);
    loop {
        match client.get::<TaskStatus>(&format!("/v1/tasks/{id}?wait={WAIT}")).await {
            Ok(status) if is_resting(&status.task.state) => return Ok(status.task.state),
            Ok(_) => (reached, lost) = (true, 0),
            Err(ClientError::Cut(_) | ClientError::NotReachable { .. }) if reached && lost < RECONNECTS => {
                lost += 1;
                tokio::time::sleep(RECONNECT).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until a task rests; the exit code says how, and so does a document if one is wanted.
pub async fn wait(id: u64, client: &Client, output: Output, terminal: &mut Terminal) -> Result<u8, Failure> {
    tokio::select! {
        state = until_rest(id, client) => {
            let code = exit::of_state(&state?);
            if output != Output::Table {
                terminal.item(output, &status(id, client).await?.task)?;
            }
            Ok(code)
        }
        _ = tokio::signal::ctrl_c() => Ok(exit::CTRL_C),
    }
}

/// All events, one JSON object a line (or as YAML).
pub async fn events(
    follow: bool,
    task: Option<u64>,
    after: u64,
    client: &Client,
    output: Output,
    terminal: &mut Terminal,
) -> Result<u8, Failure> {
    let output = if output == Output::Yaml { output } else { Output::Json };
    let mut events = client.events(task, after, follow);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(exit::CTRL_C),
        };
        let Some(event) = event else { return Ok(0) };
        show(&event, output, terminal)?;
    }
}
