//! The event stream: server-sent events that continue without a gap.
//!
//! A reader pulls: what it has not read waits in the store, not in memory, so that a slow reader
//! costs nothing and holds up nobody.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ControlState;
use super::convert::Names;
use super::problem::Fault;
use crate::actors::Refused;
use crate::store::{Store, StoreError};
use crate::task::TaskId;

/// How many entries are read at once.
const CHUNK: usize = 256;
/// A sign of life for whoever is between us and the reader.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub struct Query {
    task: Option<u64>,
    after: Option<u64>,
    follow: Option<bool>,
}

/// `GET /v1/events`
pub async fn stream(
    state: web::Data<ControlState>,
    end: web::Data<CancellationToken>,
    request: HttpRequest,
    query: web::Query<Query>,
) -> Result<HttpResponse, Fault> {
    let last = request.headers().get("Last-Event-ID").and_then(|id| id.to_str().ok());
    let last = match last {
        Some(id) => Some(id.parse().map_err(|_| {
            Fault::BadRequest("Last-Event-ID is no number; send the id of the last event that came".into())
        })?),
        None => query.after,
    };
    let task = query.task.map(TaskId);
    if let Some(task) = task
        && state.store.snapshot()?.task_summary(task)?.is_none()
    {
        return Err(Refused::NoSuchTask(task).into());
    }
    let reader = Reader {
        store: state.store.clone(),
        grown: state.store.watch(),
        end: end.get_ref().clone(),
        after: last.unwrap_or(0),
        task,
        follow: query.follow.unwrap_or(true),
        names: Names::default(),
        ready: VecDeque::from([Bytes::from_static(b"retry: 1000\n\n")]),
    };
    let body = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), reader))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        .streaming(body))
}

struct Reader {
    store: Store,
    grown: watch::Receiver<u64>,
    end: CancellationToken,
    after: u64,
    task: Option<TaskId>,
    follow: bool,
    names: Names,
    ready: VecDeque<Bytes>,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            // Marked as seen before reading: what comes in between wakes us again.
            self.grown.borrow_and_update();
            match self.read() {
                Ok(true) => continue,
                Ok(false) if self.follow => {}
                Ok(false) => return None,
                Err(error) => {
                    tracing::error!(%error, "an event stream was ended");
                    return None;
                }
            }
            tokio::select! {
                () = self.end.cancelled() => return None,
                grown = self.grown.changed() => grown.ok()?,
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": \n\n")),
            }
        }
    }

    /// Reads what has come since; false when nothing has.
    fn read(&mut self) -> Result<bool, StoreError> {
        let snapshot = self.store.snapshot()?;
        let entries = snapshot.feed(self.after, self.task, CHUNK)?;
        let Some(last) = entries.last() else { return Ok(false) };
        self.after = last.seq;
        let mut text = String::new();
        for entry in &entries {
            let event = self.names.event(entry, &snapshot)?;
            let data = serde_json::to_string(&event).unwrap_or_default();
            write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", entry.seq, event.kind).ok();
        }
        self.ready.push_back(text.into());
        Ok(true)
    }
}
