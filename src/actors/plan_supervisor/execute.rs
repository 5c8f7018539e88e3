//! Executing a plan: admitted, given a number, durable, then run.

use actix::{ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};

use super::PlanSupervisor;
use crate::actors::ledger::Ledger;
use crate::actors::stored_plan::{stored_plan, unavailable};
use crate::actors::{Execute, Refused, Started};
use crate::clock;
use crate::compile::compile;
use crate::crashpoint::handling;
use crate::store::Change;
use crate::task::event::{Definition, Event};
use crate::task::{Task, TaskId};

impl Message for Execute {
    type Result = Result<Started, Refused>;
}

impl Handler<Execute> for PlanSupervisor {
    type Result = AtomicResponse<Self, Result<Started, Refused>>;

    fn handle(&mut self, execute: Execute, _: &mut Self::Context) -> Self::Result {
        handling("supervisor: Execute");
        let begun = self.begin(&execute);
        let store = self.store.clone();
        let work = async move {
            let (change, warnings) = match begun? {
                Begun::Before(task) => return Ok((task, None, Vec::new())),
                Begun::Now(change, warnings) => (*change, warnings),
            };
            let committed = store.commit(vec![change.clone()]).await.map_err(|error| unavailable(&error))?;
            let task = committed
                .task
                .ok_or_else(|| Refused::Unavailable("the store gave no number; see deployd's log".into()))?;
            Ok((task, Some(change), warnings))
        };
        let run = |result: Result<(TaskId, Option<Change>, Vec<String>), Refused>,
                   supervisor: &mut Self,
                   context: &mut Context<Self>| {
            let (task, change, warnings) = result?;
            let repeated = change.is_none();
            if let Some(Change::CreateTask { at, event, .. }) = change {
                let folded =
                    Task::begin(task, &event, at).map_err(|error| Refused::Unavailable(error.to_string()))?;
                supervisor.run(Ledger::new(supervisor.store.clone(), folded, 1), context);
            }
            Ok(Started { task, repeated, warnings })
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(run)))
    }
}

/// What an execution begins with.
enum Begun {
    Before(TaskId),
    Now(Box<Change>, Vec<String>),
}

impl PlanSupervisor {
    fn begin(&mut self, execute: &Execute) -> Result<Begun, Refused> {
        if self.draining {
            return Err(Refused::Draining);
        }
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        if let Some(key) = &execute.idempotency_key
            && let Some(task) = snapshot.task_of_key(key).map_err(|error| unavailable(&error))?
        {
            return Ok(Begun::Before(task));
        }
        let (info, plan) = stored_plan(
            &snapshot,
            &execute.plan,
            execute.revision,
            &self.catalog.borrow(),
            &self.means.executor,
        )?;
        let deployments = compile(&plan, &self.catalog.borrow()).map_err(Refused::PlanInvalid)?;
        let services = deployments.iter().map(|deployment| deployment.service.id).collect();
        let warnings = self.admit(None, &services)?;
        let definition =
            Definition { plan: info.name, revision: info.revision, comment: plan.comment, deployments };
        let event = Event::Started { by: execute.by.clone(), definition };
        let key = execute.idempotency_key.clone();
        let change = Change::CreateTask { at: clock::now(), event, key };
        Ok(Begun::Now(Box::new(change), warnings))
    }
}
