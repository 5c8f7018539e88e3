//! The plan supervisor: owns the catalog, the claims of all tasks that are not over, and the task
//! actors. Whatever changes who may do what goes through its mailbox, one after another.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use actix::{
    Actor, Addr, AsyncContext, AtomicResponse, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use actix::{ActorFutureExt, ResponseActFuture};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::Means;
use super::commander::Held;
use super::guard::{self, ChildCrashed};
use super::ledger::Ledger;
use super::task::{Crashed, Hold, Rested, TaskActor, Unrecorded};
use super::{Command, Commanded, Execute, Holder, Refused, Reloaded, Started};
use crate::catalog::Catalog;
use crate::clock;
use crate::compile::compile;
use crate::store::{Change, Store, StoreError};
use crate::task::admission::{Admission, Claim, admit};
use crate::task::event::{Definition, Event};
use crate::task::host_event::HostEvent;
use crate::task::state::{Refusal, TaskState, Transition};
use crate::task::{Caller, Illegal, Reason, Task, TaskId};

/// What the supervisor is made of.
pub struct PlanSupervisor {
    store: Store,
    means: Means,
    catalog: watch::Sender<Arc<Catalog>>,
    /// All tasks that are not over.
    claims: BTreeMap<TaskId, Claim>,
    active: BTreeMap<TaskId, Active>,
    /// How often actors of tasks were started: tells the runs of one task apart.
    runs: u64,
    draining: bool,
    /// Which active task holds which service; a shutdown waits until none does.
    held: watch::Sender<Held>,
}

/// A task whose actors run.
struct Active {
    run: u64,
    ledger: Ledger,
    actor: Addr<TaskActor>,
    cancel: CancellationToken,
}

impl PlanSupervisor {
    /// A supervisor over the tasks that an earlier daemon left (all of them at rest by now).
    pub fn new(
        store: Store,
        means: Means,
        catalog: watch::Sender<Arc<Catalog>>,
        resting: impl IntoIterator<Item = Claim>,
        held: watch::Sender<Held>,
    ) -> Self {
        let claims = resting.into_iter().map(|claim| (claim.task, claim)).collect();
        Self { store, means, catalog, claims, active: BTreeMap::new(), runs: 0, draining: false, held }
    }

    /// Lets a task's actors run from where its journal ends.
    fn run(&mut self, ledger: Ledger, context: &mut Context<Self>) {
        let id = ledger.task().id;
        self.claims.insert(id, Claim::from(&*ledger.task()));
        self.runs += 1;
        let run = self.runs;
        let cancel = CancellationToken::new();
        let me = context.address();
        let actor = TaskActor::new(
            run,
            ledger.clone(),
            self.means.clone(),
            cancel.clone(),
            me.clone().recipient(),
            me.clone().recipient(),
        );
        let crash = TaskCrash { task: id, run, supervisor: me };
        let actor = guard::start(format!("task {id}"), crash.start().recipient(), actor);
        self.active.insert(id, Active { run, ledger, actor, cancel });
        self.publish();
    }

    /// Whether a message comes from the run that is active: what comes late is of no account.
    fn is_run(&self, id: TaskId, run: u64) -> bool {
        self.active.get(&id).is_some_and(|active| active.run == run)
    }

    fn publish(&self) {
        let active = self.active.keys().filter_map(|id| self.claims.get(id));
        let held = active.flat_map(|claim| claim.services.iter().map(|&service| (service, claim.task)));
        self.held.send_replace(Arc::new(held.collect()));
    }

    fn refresh_claim(&mut self, id: TaskId) {
        let Some(active) = self.active.get(&id) else { return };
        let claim = Claim::from(&*active.ledger.task());
        if claim.state.is_final() {
            self.claims.remove(&id);
        } else {
            self.claims.insert(id, claim);
        }
    }

    /// Ends a task's actors.
    fn dismiss(&mut self, id: TaskId) {
        self.refresh_claim(id);
        if let Some(active) = self.active.remove(&id) {
            active.cancel.cancel();
        }
        self.publish();
    }

    fn admit(
        &mut self,
        task: Option<TaskId>,
        services: &HashSet<crate::catalog::ServiceId>,
    ) -> Result<Vec<String>, Refused> {
        // A task that has come to rest a moment ago holds nothing, even if its actor is still ending.
        for (id, active) in &self.active {
            if let Some(claim) = self.claims.get_mut(id) {
                claim.state = active.ledger.task().state;
            }
        }
        let Admission { conflicts, resting } = admit(task, services, self.claims.values());
        if conflicts.is_empty() {
            return Ok(resting.into_iter().map(warning).collect());
        }
        Err(Refused::Conflict(conflicts.into_iter().map(|(service, claim)| holder(service, claim)).collect()))
    }

    /// Records a fault for every task that is active, so that it can be resumed.
    fn interrupt(&mut self, id: TaskId, reason: Reason) -> Option<impl Future<Output = ()> + use<>> {
        let active = self.active.get(&id)?;
        let durable = active.ledger.record(Event::Interrupted { reason });
        self.dismiss(id);
        let durable = durable.ok()?;
        Some(async move {
            durable.await.ok();
        })
    }

    /// As above; no other message is handled before it is on disk.
    fn interrupt_at_once(&mut self, id: TaskId, reason: Reason) -> AtomicResponse<Self, ()> {
        match self.interrupt(id, reason) {
            Some(durable) => AtomicResponse::new(Box::pin(durable.into_actor(self))),
            None => nothing(),
        }
    }
}

fn holder(service: crate::catalog::ServiceId, claim: &Claim) -> Holder {
    Holder { service, task: claim.task, state: claim.state, user: claim.user.clone(), since: claim.since }
}

fn warning(claim: &Claim) -> String {
    format!(
        "task {} of {} over the same services is {}; resuming it later may leave wrong versions",
        claim.task, claim.user, claim.state
    )
}

/// The store's errors, for whoever asked.
pub fn unavailable(error: &StoreError) -> Refused {
    Refused::Unavailable(error.to_string())
}

impl Actor for PlanSupervisor {
    type Context = Context<Self>;
}

impl Message for Execute {
    type Result = Result<Started, Refused>;
}

impl Handler<Execute> for PlanSupervisor {
    type Result = AtomicResponse<Self, Result<Started, Refused>>;

    fn handle(&mut self, execute: Execute, _: &mut Self::Context) -> Self::Result {
        let begun = self.begin(&execute);
        let store = self.store.clone();
        let work = async move {
            let (change, warnings) = match begun? {
                Begun::Before(task) => return Ok((task, None, Vec::new())),
                Begun::Now(change, warnings) => (*change, warnings),
            };
            let committed = store.commit(vec![change.clone()]).await.map_err(|error| unavailable(&error))?;
            let task =
                committed.task.ok_or_else(|| Refused::Unavailable("the store gave no number".into()))?;
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
        let (info, plan) = super::commander::stored_plan(
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
        let work: ResponseActFuture<Self, _> = match self.judge(&message) {
            Err(refused) => Box::pin(actix::fut::ready(Err(refused))),
            Ok(Verdict::Already) => Box::pin(actix::fut::ready(Ok(Commanded::default()))),
            Ok(Verdict::Ask(actor, event)) => self.hold(message.task, &actor, event),
            Ok(Verdict::Record(event, warnings)) => self.record_at_rest(message.task, event, warnings),
            Ok(Verdict::Delete) => self.delete(message.task, message.by),
        };
        AtomicResponse::new(work)
    }
}

/// What a command comes to.
enum Verdict {
    /// It is so already.
    Already,
    /// The task's actor has to record it.
    Ask(Addr<TaskActor>, Event),
    /// The task is at rest: it is recorded here.
    Record(Event, Vec<String>),
    /// It is forgotten.
    Delete,
}

impl PlanSupervisor {
    fn judge(&mut self, message: &CommandTask) -> Result<Verdict, Refused> {
        let (id, by) = (message.task, message.by.clone());
        let state = self.state_of(id)?;
        let (transition, event) = match message.command {
            Command::Stop => (Transition::Stop, Event::StopRequested { by }),
            Command::Pause => (Transition::Pause, Event::PauseRequested { by }),
            Command::Resume { force } => (Transition::Resume, Event::Resumed { by, force }),
            Command::Delete if state.possible().contains(&"delete") => return Ok(Verdict::Delete),
            Command::Delete => return Err(Refused::CannotDelete(state)),
        };
        if state.is_already(transition) {
            return Ok(Verdict::Already);
        }
        state.next(transition)?;
        if let Some(active) = self.active.get(&id).filter(|_| state.is_active()) {
            return Ok(Verdict::Ask(active.actor.clone(), event));
        }
        if transition != Transition::Resume {
            return Ok(Verdict::Record(event, Vec::new()));
        }
        if self.draining {
            return Err(Refused::Draining);
        }
        let services = self.claims.get(&id).map(|claim| claim.services.clone()).unwrap_or_default();
        Ok(Verdict::Record(event, self.admit(Some(id), &services)?))
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
                Ok(Err(Unrecorded::Illegal(Illegal::Refused(refusal)))) => Err(refusal.into()),
                Ok(Err(Unrecorded::Illegal(other))) => Err(Refused::Unavailable(other.to_string())),
                Ok(Err(Unrecorded::Store(error))) => Err(unavailable(&error)),
                // The task came to rest, or crashed, in between.
                Err(_) => Err(Refused::Unavailable("the task is just coming to rest; try again".into())),
            }
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
    fn record_at_rest(
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
            }
            Ok(Commanded { warnings })
        });
        Box::pin(recorded)
    }

    fn delete(&self, id: TaskId, by: Caller) -> ResponseActFuture<Self, Result<Commanded, Refused>> {
        let change = Change::DeleteTask { task: id, at: clock::now(), by: Some(by) };
        let deleted = self.store.commit(vec![change]).into_actor(self).map(move |result, supervisor, _| {
            result.map_err(|error| unavailable(&error))?;
            supervisor.claims.remove(&id);
            if let Err(error) = supervisor.means.executor.logs.remove(id) {
                tracing::warn!(task = %id, %error, "cannot remove the logs of a deleted task");
            }
            Ok(Commanded::default())
        });
        Box::pin(deleted)
    }
}

impl Handler<Rested> for PlanSupervisor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, rested: Rested, _: &mut Self::Context) -> Self::Result {
        let task = rested.task;
        if !self.is_run(task, rested.run) {
            return nothing();
        }
        if rested.held_back {
            return self.interrupt_at_once(task, Reason::DaemonShutDown);
        }
        self.dismiss(task);
        tracing::info!(%task, "task came to rest");
        nothing()
    }
}

fn nothing() -> AtomicResponse<PlanSupervisor, ()> {
    AtomicResponse::new(Box::pin(actix::fut::ready(())))
}

impl Handler<Crashed> for PlanSupervisor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, crashed: Crashed, _: &mut Self::Context) -> Self::Result {
        if !self.is_run(crashed.task, crashed.run) {
            return nothing();
        }
        tracing::error!(task = %crashed.task, what = crashed.what, "an actor crashed; its task is interrupted");
        self.interrupt_at_once(crashed.task, Reason::ActorCrashed)
    }
}

/// Tells the supervisor which task it was whose actor panicked.
struct TaskCrash {
    task: TaskId,
    run: u64,
    supervisor: Addr<PlanSupervisor>,
}

impl Actor for TaskCrash {
    type Context = Context<Self>;
}

impl Handler<ChildCrashed> for TaskCrash {
    type Result = ();
    fn handle(&mut self, crash: ChildCrashed, _: &mut Self::Context) {
        let what = format!("{} crashed: {}", crash.child, crash.panic);
        self.supervisor.do_send(Crashed { task: self.task, run: self.run, what });
    }
}

/// A new catalog takes the place of the one before.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reloaded, Refused>")]
pub struct ReplaceCatalog {
    /// The new one.
    pub catalog: Arc<Catalog>,
    /// Who; `None`: a signal.
    pub by: Option<Caller>,
}

impl Handler<ReplaceCatalog> for PlanSupervisor {
    type Result = ResponseFuture<Result<Reloaded, Refused>>;

    fn handle(&mut self, replace: ReplaceCatalog, _: &mut Self::Context) -> Self::Result {
        let reloaded = compare(&self.catalog.borrow(), &replace.catalog);
        self.catalog.send_replace(replace.catalog);
        let services = u32::try_from(reloaded.services).unwrap_or(u32::MAX);
        let event = HostEvent::CatalogReloaded { services, by: replace.by };
        let durable = self.store.commit(vec![Change::Host { at: clock::now(), event }]);
        Box::pin(async move { durable.await.map(|_| reloaded).map_err(|error| unavailable(&error)) })
    }
}

fn compare(old: &Catalog, new: &Catalog) -> Reloaded {
    let mut reloaded = Reloaded { services: new.services().len(), ..Reloaded::default() };
    for service in new.services() {
        match old.get(service.id) {
            None => reloaded.added.push(service.name.clone()),
            Some(before) if before != service => reloaded.changed.push(service.name.clone()),
            Some(_) => {}
        }
    }
    let gone = old.services().filter(|service| new.get(service.id).is_none());
    reloaded.removed = gone.map(|service| service.name.clone()).collect();
    reloaded
}

/// The daemon takes no new work.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

impl Handler<Drain> for PlanSupervisor {
    type Result = ();
    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        self.draining = true;
        // Without places nothing begins any more, in no batch of any task.
        self.means.places.close();
        for active in self.active.values() {
            active.actor.do_send(super::task::HoldBack);
        }
    }
}

/// The daemon ends: what is still active is marked INTERRUPTED.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct InterruptAll;

impl Handler<InterruptAll> for PlanSupervisor {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: InterruptAll, _: &mut Self::Context) -> Self::Result {
        let ids: Vec<TaskId> = self.active.keys().copied().collect();
        let recorded: Vec<_> =
            ids.into_iter().filter_map(|id| self.interrupt(id, Reason::DaemonShutDown)).collect();
        // From now on nothing of these tasks is recorded any more.
        Box::pin(async move {
            futures_util::future::join_all(recorded).await;
        })
    }
}

impl From<Refusal> for Unrecorded {
    fn from(refusal: Refusal) -> Self {
        Self::Illegal(refusal.into())
    }
}
