//! Plans out of tasks: what takes one back, and what one did not get done.

use actix_web::{HttpResponse, web};

use super::ControlState;
use super::problem::Fault;
use crate::actors::Refused;
use crate::plan::draft::Draft;
use crate::task::state::TaskState;
use crate::task::{TaskId, retry, rollback};

type State = web::Data<ControlState>;

/// `GET /v1/tasks/{id}/rollback-plan`
pub async fn rollback_plan(state: State, id: web::Path<u64>) -> Result<HttpResponse, Fault> {
    let (id, snapshot) = (TaskId(*id), state.store.snapshot()?);
    let task = snapshot.task(id)?.ok_or(Refused::NoSuchTask(id))?;
    if task.state.is_active() {
        let why = "what it will have changed is not known yet: wait until it rests";
        return Err(Refused::NoPlan { task: id, state: task.state, why }.into());
    }
    // A row that can't be read is the store's failure, not an unknown origin.
    let mut failed = None;
    let draft = rollback::rollback(&task, |service, release| {
        snapshot.origin(service, release).unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    });
    failed.map_or(Ok(()), Err)?;
    Ok(yaml(&draft.map_err(Refused::NothingToDo)?))
}

/// `GET /v1/tasks/{id}/retry-plan`
pub async fn retry_plan(state: State, id: web::Path<u64>) -> Result<HttpResponse, Fault> {
    let id = TaskId(*id);
    let task = state.store.snapshot()?.task(id)?.ok_or(Refused::NoSuchTask(id))?;
    let why = match task.state {
        TaskState::Succeeded | TaskState::Failed | TaskState::Stopped => None,
        TaskState::Paused | TaskState::Interrupted => Some("resume continues it, and repeats nothing"),
        TaskState::Running | TaskState::Stopping | TaskState::Pausing => Some("it is not over yet"),
    };
    if let Some(why) = why {
        return Err(Refused::NoPlan { task: id, state: task.state, why }.into());
    }
    Ok(yaml(&retry::retry(&task).map_err(Refused::NothingToDo)?))
}

fn yaml(draft: &Draft) -> HttpResponse {
    HttpResponse::Ok().content_type("application/yaml").body(draft.to_string())
}
