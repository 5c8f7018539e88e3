//! Following tasks.

use super::args::Output;
use super::exit::{self, Failure};
use super::live;
use super::session::Session;
use super::terminal::Terminal;
use crate::client::{Client, ClientError, Events, RECONNECT, RECONNECTS};
use crate::view::event::in_words;
use crate::view::{report as facts, time};
use crate::wire::event::Event;
use crate::wire::task::TaskStatus;
use crate::wire::words::TaskState;

/// For so many seconds one request waits for a task.
const WAIT: u32 = 30;

/// Follows a task until it rests: as a picture on a terminal, else a line for each event after number
/// `after`. Ctrl-C leaves the task alone.
pub async fn watch(id: u64, after: u64, session: &mut Session<'_>) -> Result<u8, Failure> {
    if session.terminal.is_live && session.output == Output::Table {
        return live::watch(id, session.client, session.terminal).await;
    }
    tokio::select! {
        code = follow(id, after, session) => code,
        _ = tokio::signal::ctrl_c() => {
            session.terminal.note(&goes_on(id));
            Ok(exit::CTRL_C)
        }
    }
}

/// What is said after Ctrl-C.
pub fn goes_on(id: u64) -> String {
    format!("task {id} goes on; `deployctl watch {id}` follows it again, `deployctl stop {id}` stops it")
}

async fn follow(id: u64, after: u64, session: &mut Session<'_>) -> Result<u8, Failure> {
    // Events may come after the one that ends it: a paused task that was resumed has several ends.
    let mut state = status(id, session.client).await?.task.state;
    let mut events = session.client.events(Some(id), after, true);
    let mut last = last_seq(id, session.client).await?;
    if last <= after && state.is_at_rest() {
        return Ok(exit::of_state(&state));
    }
    loop {
        let event = events.next().await?;
        note_restored(&mut events, session.terminal);
        let Some(event) = event else { return Ok(exit::of_state(&state)) };
        show(&event, session.output, session.terminal)?;
        if event.seq < last {
            continue;
        }
        if let Some(new) = task_state(&event) {
            state = new;
        }
        if state.is_at_rest() {
            // Has it been resumed in between? Then there is more.
            last = last_seq(id, session.client).await?;
            if last > event.seq {
                continue;
            }
            if session.output == Output::Table {
                let task = status(id, session.client).await?.task;
                let took = time::duration(Some(&task.started_at), task.finished_at.as_deref());
                let services = facts::progress(&task);
                session.terminal.line(&format!(
                    "task {id} is {}: {services} services in {took}",
                    session.terminal.state(&state)
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
        let at = time::clock(&event.at, terminal.is_terminal);
        terminal.line(&format!("{at}  {words}"))?;
    }
    Ok(())
}

/// Tell the user that a restore lost a part of the history.
fn note_restored(events: &mut Events, terminal: &mut Terminal) {
    if let Some(restored) = events.restored() {
        terminal.note(&restored.to_string());
    }
}

fn task_state(event: &Event) -> Option<TaskState> {
    let state = event.kind.starts_with("task.").then(|| event.details.get("state")?.as_str()).flatten();
    state.map(TaskState::from)
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
pub async fn until_rest(id: u64, client: &Client) -> Result<TaskState, ClientError> {
    let (mut reached, mut lost) = (false, 0);
    loop {
        match client.get::<TaskStatus>(&format!("/v1/tasks/{id}?wait={WAIT}")).await {
            Ok(status) if status.task.state.is_at_rest() => return Ok(status.task.state),
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
pub async fn wait(id: u64, session: &mut Session<'_>) -> Result<u8, Failure> {
    tokio::select! {
        state = until_rest(id, session.client) => {
            let code = exit::of_state(&state?);
            if session.output != Output::Table {
                session.terminal.item(session.output, &status(id, session.client).await?.task)?;
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
    session: &mut Session<'_>,
) -> Result<u8, Failure> {
    let output = if session.output == Output::Yaml { session.output } else { Output::Json };
    let mut events = session.client.events(task, after, follow);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(exit::CTRL_C),
        };
        note_restored(&mut events, session.terminal);
        let Some(event) = event else { return Ok(0) };
        show(&event, output, session.terminal)?;
    }
}
