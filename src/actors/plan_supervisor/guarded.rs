//! Resume behind the drift guard: all containers of the task are looked at first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use actix::{ActorFutureExt, ResponseActFuture, WrapFuture};

use super::PlanSupervisor;
use crate::actors::stored_plan::unavailable;
use crate::actors::{Commanded, Refused};
use crate::task::drift::{Drift, drift};
use crate::task::event::Event;
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
            let looked = host.spawn(async move {
                let mut seen = BTreeMap::new();
                for deployment in &task.deployments {
                    let service = &deployment.spec.service;
                    for container in &deployment.spec.containers {
                        let place = (service.id, container.clone());
                        if let Entry::Vacant(new) = seen.entry(place) {
                            new.insert(executor.see(service, container).await?);
                        }
                    }
                }
                Ok::<_, Failure>((task, seen))
            });
            let unseen = |why: String| {
                Refused::Unavailable(format!("{why}; try again, or `deployctl resume {id} --force`"))
            };
            let late =
                |_| unseen(format!("its containers could not be looked at within {} s", LOOK.as_secs()));
            let looked = tokio::time::timeout(LOOK, looked).await.map_err(late)?;
            let looked = looked.map_err(|error| Refused::Host(error.to_string()))?;
            let (task, seen) = looked.map_err(|failure| unseen(failure.message))?;
            let snapshot = store.snapshot().map_err(|error| unavailable(&error))?;
            let mut services: Vec<_> = task.services().collect();
            services.sort_unstable();
            services.dedup();
            let mut changes = Vec::new();
            for service in services {
                changes.extend(snapshot.changes(service).map_err(|error| unavailable(&error))?);
            }
            Ok(drift(&task, last, &changes, &seen))
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
