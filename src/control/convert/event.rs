//! Events on the wire: with the names of what the journal knows by index.

use std::collections::HashMap;

use deployctl::wire::event::Event as WireEvent;
use serde_json::{Map, Value, json};

use super::{caller, failure, settled_name, time};
use crate::address::{Shown, mask_text};
use crate::store::{JournalEvent, Snapshot, StoreError, StoredEvent};
use crate::task::event::Event;
use crate::task::host_event::HostEvent;
use crate::task::state::TaskState;
use crate::task::{Task, TaskId};

/// What has to be known of tasks to name what their events speak of.
#[derive(Default)]
pub struct Names {
    tasks: HashMap<TaskId, Known>,
}

struct Known {
    deployments: Vec<KnownDeployment>,
    /// The state after the events that were converted so far.
    state: TaskState,
}

struct KnownDeployment {
    id: u64,
    name: String,
    way: &'static str,
    priority: i64,
    containers: Vec<String>,
}

/// No more tasks are remembered at the same time.
const MAX_TASKS: usize = 64;

impl Names {
    /// The names of one task.
    pub fn of(task: &Task) -> Self {
        Self { tasks: HashMap::from([(task.id, Known::of(task, TaskState::Running))]) }
    }

    /// An event of any task; its names are read from the store when they are not known yet.
    pub fn event(&mut self, stored: &StoredEvent, snapshot: &Snapshot) -> Result<WireEvent, StoreError> {
        if let Some(id) = stored.task
            && !self.tasks.contains_key(&id)
            && let Some(first) = snapshot.task_events(id, 0, 1)?.first()
            && let JournalEvent::Task(event) = &first.event
            && let Ok(mut task) = Task::begin(id, event, first.at)
        {
            // Up to this event, so that the states it speaks of are right.
            for earlier in
                snapshot.task_events(id, 1, usize::try_from(stored.n).unwrap_or(1).saturating_sub(2))?
            {
                if let JournalEvent::Task(event) = &earlier.event {
                    task.apply(event, earlier.at).ok();
                }
            }
            if self.tasks.len() >= MAX_TASKS {
                self.tasks.clear();
            }
            self.tasks.insert(id, Known::of(&task, task.state));
        }
        Ok(self.known(stored))
    }

    /// An event of a task whose names are known.
    pub fn known(&mut self, stored: &StoredEvent) -> WireEvent {
        let (kind, details) = match &stored.event {
            JournalEvent::Task(event) => {
                let known = stored.task.and_then(|id| self.tasks.get_mut(&id));
                (event.name(), known.map(|known| known.details(event)).unwrap_or_default())
            }
            JournalEvent::Host(event) => (event.name(), object(host(event))),
        };
        let task = stored.task.map(|id| id.0);
        WireEvent { seq: stored.seq, at: time(stored.at), kind: kind.into(), task, details }
    }
}

impl Known {
    fn of(task: &Task, state: TaskState) -> Self {
        let deployments = task.deployments.iter().map(|deployment| KnownDeployment {
            id: deployment.spec.service.id.get(),
            name: deployment.spec.service.name.clone(),
            way: deployment.spec.way.name(),
            priority: deployment.spec.priority,
            containers: deployment.spec.containers.clone(),
        });
        Self { deployments: deployments.collect(), state }
    }

    fn details(&mut self, event: &Event) -> Map<String, Value> {
        let mut details = object(own(event));
        let (deployment, operation) = match event.place() {
            Some((deployment, operation)) => (Some(deployment), operation),
            None => (None, None),
        };
        if let Some(named) = deployment.and_then(|index| self.deployments.get(index)) {
            details.insert("serviceId".into(), named.id.into());
            details.insert("service".into(), named.name.clone().into());
            details.insert("deployment".into(), named.way.into());
            details.insert("priority".into(), named.priority.into());
            if let Some(container) = operation.and_then(|index| named.containers.get(index)) {
                details.insert("container".into(), container.clone().into());
            }
        }
        if let Event::Started { .. } = event {
            let mut priorities: Vec<_> = self.deployments.iter().map(|named| named.priority).collect();
            priorities.dedup();
            details.insert("batches".into(), priorities.len().into());
        }
        if let Some(state) = self.state_after(event) {
            self.state = state;
            details.insert("state".into(), state.name().into());
        }
        details
    }

    /// The task's state after an event that is about the task itself.
    fn state_after(&self, event: &Event) -> Option<TaskState> {
        use crate::task::state::Transition as T;
        let transition = match event {
            Event::Started { .. } => return Some(TaskState::Running),
            Event::StopRequested { .. } => T::Stop,
            Event::PauseRequested { .. } => T::Pause,
            Event::Resumed { .. } => T::Resume,
            Event::Interrupted { .. } => T::Fault,
            Event::Completed => T::Complete,
            Event::Failed => T::Fail,
            Event::Drained => T::Drain,
            _ => return None,
        };
        self.state.next(transition).ok()
    }
}

/// What an event says by itself.
fn own(event: &Event) -> Value {
    match event {
        Event::Started { by, definition, .. } => json!({
            "by": caller(by.clone()), "plan": definition.plan, "revision": definition.revision,
            "deployments": definition.deployments.len(),
        }),
        Event::StopRequested { by } | Event::PauseRequested { by } | Event::CutRequested { by } => {
            json!({ "by": caller(by.clone()) })
        }
        Event::DeploymentCut { .. } => json!({ "state": "INTERRUPTED" }),
        Event::Resumed { by, force } => json!({ "by": caller(by.clone()), "force": force }),
        Event::CommitPinned { commit, .. } => json!({ "commit": commit }),
        Event::ArtifactPinned { pin, .. } => {
            let source = String::from(Shown::of(&pin.source));
            json!({ "source": source, "sha256": pin.sha256, "bytes": pin.bytes, "commit": pin.commit })
        }
        Event::ReleasePrepared { release, .. } => json!({ "release": release }),
        Event::HookDone { hook, .. } => json!({ "hook": hook.name() }),
        Event::Noted { note, .. } => json!({ "note": mask_text(note) }),
        Event::OperationBegun { evidence, to_release, .. } => {
            json!({ "fromRelease": evidence.release, "toRelease": to_release })
        }
        Event::OperationRenewed { renewal, .. } => json!({
            "operationId": renewal.id, "earlierId": renewal.earlier, "forced": renewal.forced, "why": renewal.why,
        }),
        Event::OperationEnded { end, .. } => operation_end(end),
        Event::DeploymentEnded { result, .. } => match result {
            Ok(()) => json!({ "state": "SUCCEEDED" }),
            Err(error) => json!({ "state": "FAILED", "error": failure(error) }),
        },
        Event::Interrupted { reason } => json!({ "reason": reason.name() }),
        Event::DeploymentBegun { .. } | Event::Completed | Event::Failed | Event::Drained => json!({}),
    }
}

fn operation_end(end: &crate::task::operation::OperationEnd) -> Value {
    use crate::task::operation::{Done, Incarnation};
    let state = match &end.result {
        Ok(Done::Changed(_)) => "SUCCEEDED",
        Ok(Done::Unchanged) => "UNCHANGED",
        Err(_) => "FAILED",
    };
    let mut value = json!({ "state": state, "detail": mask_text(&end.detail) });
    if let Ok(Done::Changed(Some(incarnation))) = &end.result {
        match incarnation {
            Incarnation::Process { pid, .. } => value["pid"] = (*pid).into(),
            Incarnation::Unit { invocation, .. } => value["invocation"] = invocation.clone().into(),
            Incarnation::Engine { id, .. } => value["containerId"] = id.clone().into(),
        }
    }
    if let Err(error) = &end.result {
        value["error"] = json!(failure(error));
    }
    if let Some(settled) = end.settled {
        value["settled"] = settled_name(settled).into();
    }
    value
}

fn host(event: &HostEvent) -> Value {
    match event {
        HostEvent::DaemonStarted { version } => json!({ "version": version }),
        HostEvent::DaemonStopped => json!({}),
        HostEvent::PlanCreated { name, revision, by } => {
            json!({ "plan": name, "revision": revision, "by": caller(by.clone()) })
        }
        HostEvent::PlanDeleted { name, by } => json!({ "plan": name, "by": caller(by.clone()) }),
        HostEvent::CatalogReloaded { services, by } => {
            json!({ "services": services, "by": by.clone().map(caller) })
        }
        HostEvent::TaskDeleted { task, by } => json!({ "deleted": task.0, "by": by.clone().map(caller) }),
        HostEvent::RepositoryCreated { name, by } | HostEvent::RepositoryDeleted { name, by } => {
            json!({ "repository": name, "by": caller(by.clone()) })
        }
        HostEvent::HistoryRestored { epoch, cause, last, first, first_task } => json!({
            "epoch": epoch, "cause": cause.name(), "last": last, "first": first, "firstTask": first_task.0,
        }),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
