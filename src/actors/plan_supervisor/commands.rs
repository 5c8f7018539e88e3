//! Stop, pause, resume, delete: judged by the task's state, recorded, then carried out.

use actix::{ActorFutureExt, Addr, AtomicResponse, Handler, Message, ResponseActFuture, WrapFuture};

use super::PlanSupervisor;
use crate::actors::ledger::Ledger;
use crate::actors::stored_plan::unavailable;
use crate::actors::task::{Hold, TaskActor, Unrecorded};
use crate::actors::{Command, Commanded, Refused};
use crate::clock;
use crate::crashpoint::handling;
use crate::store::Change;
use crate::task::command::Verdict;
use crate::task::event::Event;
use crate::task::state::TaskState;
use crate::task::{Caller, Illegal, TaskId};

/// A command for a task.
#[derive(Debug, Message)]
#[rtype(result = "Result<Commanded, Refused>")]
pub struct CommandTask {
    /// Which.
    pub task: TaskId,
    /// What.
    pub command: Command,
    /// Who.
    pub by: Caller,
}

impl Handler<CommandTask> for PlanSupervisor {
    type Result = AtomicResponse<Self, Result<Commanded, Refused>>;

    fn handle(&mut self, message: CommandTask, _: &mut Self::Context) -> Self::Result {
        handling("supervisor: CommandTask");
        let work: ResponseActFuture<Self, _> = match self.judge(&message) {
            Err(refused) => Box::pin(actix::fut::ready(Err(refused))),
            Ok(Course::Nothing) => Box::pin(actix::fut::ready(Ok(Commanded::default()))),
            Ok(Course::Ask(actor, event)) => self.hold(message.task, &actor, event),
            Ok(Course::Cut(actor, events)) => self.cut(message.task, actor, events),
            Ok(Course::Record(event @ Event::Resumed { force: false, .. }, warnings)) => {
                self.resume_unless_drifted(message.task, event, warnings)
            }
            Ok(Course::Record(event, warnings)) => self.record_at_rest(message.task, event, warnings),
            Ok(Course::Delete) => self.delete(message.task, message.by),
        };
        AtomicResponse::new(work)
    }
}

/// Which way a command goes.
enum Course {
    /// It is so already.
    Nothing,
    /// The task's actor has to record it.
    Ask(Addr<TaskActor>, Event),
    /// As above, and then what is going on is cut.
    Cut(Addr<TaskActor>, Vec<Event>),
    /// The task is at rest: it is recorded here.
    Record(Event, Vec<String>),
    /// It is forgotten.
    Delete,
}

fn refused(unrecorded: Unrecorded) -> Refused {
    match unrecorded {
        Unrecorded::Illegal(Illegal::Refused(refusal)) => refusal.into(),
        Unrecorded::Illegal(other) => Refused::Unavailable(other.to_string()),
        Unrecorded::Store(error) => unavailable(&error),
    }
}

/// The task came to rest, or crashed, in between.
fn coming_to_rest() -> Refused {
    Refused::Unavailable("the task is just coming to rest; try again".into())
}

impl PlanSupervisor {
    fn judge(&mut self, message: &CommandTask) -> Result<Course, Refused> {
        let id = message.task;
        let state = self.state_of(id)?;
        let event = match message.command.judge(state, message.by.clone())? {
            Verdict::Already => return Ok(Course::Nothing),
            Verdict::Delete => return Ok(Course::Delete),
            Verdict::Cut(events) => {
                let active = self.active.get(&id).ok_or_else(coming_to_rest)?;
                return Ok(Course::Cut(active.actor.clone(), events));
            }
            Verdict::Record(event) => event,
        };
        if let Some(active) = self.active.get(&id).filter(|_| state.is_active()) {
            return Ok(Course::Ask(active.actor.clone(), event));
        }
        if !matches!(message.command, Command::Resume { .. }) {
            return Ok(Course::Record(event, Vec::new()));
        }
        if self.draining {
            return Err(Refused::Draining);
        }
        let services = self.claims.get(&id).map(|claim| claim.services.clone()).unwrap_or_default();
        Ok(Course::Record(event, self.admit(Some(id), &services)?))
    }

    fn state_of(&self, id: TaskId) -> Result<TaskState, Refused> {
        if let Some(active) = self.active.get(&id) {
            return Ok(active.ledger.task().state);
        }
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        let summary = snapshot.task_summary(id).map_err(|error| unavailable(&error))?;
        summary.map(|summary| summary.state).ok_or(Refused::NoSuchTask(id))
    }

    fn hold(
        &self,
        id: TaskId,
        actor: &Addr<TaskActor>,
        event: Event,
    ) -> ResponseActFuture<Self, Result<Commanded, Refused>> {
        let asked = actor.send(Hold(event)).into_actor(self).map(move |answer, supervisor, _| {
            supervisor.refresh_claim(id);
            match answer {
                Ok(Ok(())) => Ok(Commanded::default()),
                Ok(Err(unrecorded)) => Err(refused(unrecorded)),
                Err(_) => Err(coming_to_rest()),
            }
        });
        Box::pin(asked)
    }

    /// Stops a task, and cuts what is going on in it once that is on disk.
    fn cut(
        &self,
        id: TaskId,
        actor: Addr<TaskActor>,
        events: Vec<Event>,
    ) -> ResponseActFuture<Self, Result<Commanded, Refused>> {
        let ask = async move {
            for event in events {
                match actor.send(Hold(event)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(unrecorded)) => return Err(refused(unrecorded)),
                    Err(_) => return Err(coming_to_rest()),
                }
            }
            Ok(Commanded::default())
        };
        let asked = ask.into_actor(self).map(move |answer, supervisor, _| {
            supervisor.refresh_claim(id);
            if let (Ok(_), Some(active)) = (&answer, supervisor.active.get(&id)) {
                active.cancel.cancel();
            }
            answer
        });
        Box::pin(asked)
    }

    /// A task at rest. What its actor, if that is still ending, has recorded may be on its way to the
    /// disk: then its ledger knows more than the store.
    fn ledger_at_rest(&mut self, id: TaskId) -> Result<Ledger, Refused> {
        if let Some(active) = self.active.get(&id) {
            let ledger = active.ledger.fork();
            self.dismiss(id);
            return Ok(ledger);
        }
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        let found = snapshot.task_with_events(id).map_err(|error| unavailable(&error))?;
        let (task, events) = found.ok_or(Refused::NoSuchTask(id))?;
        Ok(Ledger::new(self.store.clone(), task, events.len() as u64))
    }

    /// A command to a task at rest: stop ends it, resume lets it run.
    pub(super) fn record_at_rest(
        &mut self,
        id: TaskId,
        event: Event,
        warnings: Vec<String>,
    ) -> ResponseActFuture<Self, Result<Commanded, Refused>> {
        let refuse = |refused| -> ResponseActFuture<Self, _> { Box::pin(actix::fut::ready(Err(refused))) };
        let ledger = match self.ledger_at_rest(id) {
            Ok(ledger) => ledger,
            Err(refused) => return refuse(refused),
        };
        let durable = match ledger.record(event) {
            Ok(durable) => durable,
            Err(illegal) => return refuse(Refused::Unavailable(illegal.to_string())),
        };
        let recorded = durable.into_actor(self).map(move |result, supervisor, context| {
            result.map_err(|error| unavailable(&error))?;
            if ledger.task().state.is_active() {
                supervisor.run(ledger, context);
            } else {
                supervisor.claims.remove(&id);
                supervisor.end_commands(id);
            }
            Ok(Commanded { warnings })
        });
        Box::pin(recorded)
    }

    fn delete(&mut self, id: TaskId, by: Caller) -> ResponseActFuture<Self, Result<Commanded, Refused>> {
        // Its actor may still be ending: what that tells afterwards is of no account.
        self.dismiss(id);
        let change = Change::DeleteTask { task: id, at: clock::now(), by: Some(by) };
        let deleted = self.store.commit(vec![change]).into_actor(self).map(move |result, supervisor, _| {
            result.map_err(|error| unavailable(&error))?;
            supervisor.claims.remove(&id);
            supervisor.end_commands(id);
            if let Err(error) = supervisor.means.executor.logs.remove(id) {
                tracing::warn!(task = %id, %error, "cannot remove the logs of a deleted task");
            }
            Ok(Commanded::default())
        });
        Box::pin(deleted)
    }

    /// A task that never goes on has no use for what it has begun, and what outlived the daemon.
    fn end_commands(&self, id: TaskId) {
        let executor = self.means.executor.clone();
        self.means.host.spawn(async move { executor.end_commands_of(|task| task == id).await });
    }
}
