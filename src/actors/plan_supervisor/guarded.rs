//! Resume behind the drift guard: all containers of the task are looked at first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, ResponseActFuture, WrapFuture};
use futures_util::future::join_all;

use super::PlanSupervisor;
use crate::actors::stored_plan::unavailable;
use crate::actors::{Commanded, Refused};
use crate::catalog::Service;
use crate::executor::Executor;
use crate::store::Store;
use crate::task::drift::{Drift, Past, Place, drift};
use crate::task::event::Event;
use crate::task::operation::OperationState;
use crate::task::record::{ContainerChange, Touch};
use crate::task::{Failure, Task, TaskId};

/// The look at all containers takes no longer: the supervisor answers nobody meanwhile, and its watchdog waits
/// for a minute.
const LOOK: Duration = Duration::from_secs(20);

impl PlanSupervisor {
    /// No other message is handled meanwhile, so that what was seen still holds when it goes on.
    pub(super) fn resume_unless_drifted(
        &self,
        id: TaskId,
        event: Event,
        warnings: Vec<String>,
    ) -> ResponseActFuture<Self, Result<Commanded, Refused>> {
        let found = self.read(id);
        let (executor, host) = (self.means.executor.clone(), self.means.host.clone());
        let store = self.store.clone();
        let look = async move {
            let (task, last) = found?;
            let past = Stored::of(&store, &task, last)?;
            let looking = host.spawn(look(executor, task, past));
            let unseen = |why: String| {
                Refused::Unavailable(format!("{why}; try again, or `deployctl resume {id} --force`"))
            };
            let late =
                |_| unseen(format!("its containers could not be looked at within {} s", LOOK.as_secs()));
            let looked = tokio::time::timeout(LOOK, looking).await.map_err(late)?;
            let looked = looked.map_err(|error| Refused::Host(error.to_string()))?;
            looked.map_err(|failure| unseen(failure.message))
        };
        let resume = move |drifts: Result<Vec<Drift>, Refused>, supervisor: &mut Self, _: &mut _| {
            let refused = match drifts {
                Ok(drifts) if drifts.is_empty() => return supervisor.record_at_rest(id, event, warnings),
                Ok(drifts) => Refused::Drifted { task: id, drifts },
                Err(refused) => refused,
            };
            let refused: ResponseActFuture<Self, _> = Box::pin(actix::fut::ready(Err(refused)));
            refused
        };
        Box::pin(look.into_actor(self).then(resume))
    }

    /// A task, and the place of its last event.
    fn read(&self, id: TaskId) -> Result<(Task, u64), Refused> {
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        let found = snapshot.task_with_events(id).map_err(|error| unavailable(&error))?;
        let (task, events) = found.ok_or(Refused::NoSuchTask(id))?;
        Ok((task, events.last().map_or(0, |event| event.seq)))
    }
}

/// What the store knows of the containers of a task.
struct Stored {
    last: u64,
    changes: Vec<(u64, ContainerChange)>,
    touches: BTreeMap<Place, (u64, Touch)>,
}

impl Stored {
    fn of(store: &Store, task: &Task, last: u64) -> Result<Self, Refused> {
        let snapshot = store.snapshot().map_err(|error| unavailable(&error))?;
        let services: BTreeSet<_> = task.services().collect();
        let mut stored = Self { last, changes: Vec::new(), touches: BTreeMap::new() };
        for service in services {
            stored.changes.extend(snapshot.changes(service).map_err(|error| unavailable(&error))?);
            stored.touches.extend(snapshot.touches(service).map_err(|error| unavailable(&error))?);
        }
        Ok(stored)
    }
}

/// Looks at all containers of a task, and compares them.
async fn look(executor: Arc<Executor>, task: Task, stored: Stored) -> Result<Vec<Drift>, Failure> {
    let places: BTreeMap<Place, Arc<Service>> = task
        .deployments
        .iter()
        .flat_map(|deployment| {
            let service = &deployment.spec.service;
            deployment.spec.containers.iter().map(|name| ((service.id, name.clone()), service.clone()))
        })
        .collect();
    let mut seen = BTreeMap::new();
    for (place, service) in &places {
        seen.insert(place.clone(), executor.see(service, &place.1).await?);
    }
    let past = Past { last: stored.last, changes: &stored.changes, touches: &stored.touches };
    // What an older version began carries the id that it gave.
    let instance = if task.nonce.is_some() { &executor.instance } else { &executor.former_instance };
    let ids = |deployment, operation| task.current_id(instance, deployment, operation);
    let drifts = drift(&task, ids, past, &seen);
    // A start that a dead daemon asked for may be under way: then it does not show yet whose it is.
    let unsure: BTreeSet<Place> = drifts
        .iter()
        .map(|drift| (drift.service, drift.container.clone()))
        .filter(|it| in_doubt(&task, it))
        .collect();
    let settled = unsure.iter().map(|place| executor.see_settled(&places[place], &place.1));
    for (place, now) in unsure.iter().zip(join_all(settled).await) {
        seen.insert(place.clone(), now?);
    }
    Ok(if unsure.is_empty() { drifts } else { drift(&task, ids, past, &seen) })
}

fn in_doubt(task: &Task, place: &Place) -> bool {
    let of_service = task.deployments.iter().filter(|deployment| deployment.spec.service.id == place.0);
    let mut operations = of_service.flat_map(|deployment| &deployment.operations);
    operations.any(|it| it.container == place.1 && it.state == OperationState::Interrupted)
}
