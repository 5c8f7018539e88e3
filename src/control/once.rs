//! Idempotency keys of requests.

use actix_web::HttpRequest;
use deployctl::wire::task::Task;

use super::problem::Fault;
use crate::actors::Refused;
use crate::store::{Snapshot, StoreError};
use crate::task::TaskId;

/// The key of a request.
pub fn key(request: &HttpRequest) -> Result<Option<String>, Fault> {
    let mut headers = request.headers().get_all("Idempotency-Key");
    let Some(header) = headers.next() else { return Ok(None) };
    if headers.next().is_some() {
        return Err(Fault::BadRequest("the request has several Idempotency-Key headers; send one".into()));
    }
    let key = header.to_str().ok().filter(|key| !key.trim().is_empty() && key.len() <= 256);
    let text = "the Idempotency-Key is not 1 to 256 printable characters";
    key.map(|key| Some(key.to_string())).ok_or_else(|| Fault::BadRequest(text.into()))
}

/// A task with its key.
pub fn keyed(snapshot: &Snapshot, task: Task) -> Result<Task, StoreError> {
    Ok(Task { idempotency_key: snapshot.key_of_task(TaskId(task.id))?, ..task })
}

/// Why there is no such task: with the key of one that was deleted, as long as the key is kept.
pub fn no_such_task(snapshot: &Snapshot, id: TaskId) -> Result<Fault, StoreError> {
    Ok(match snapshot.key_of_task(id)? {
        Some(key) => Fault::Deleted(id, key),
        None => Refused::NoSuchTask(id).into(),
    })
}
