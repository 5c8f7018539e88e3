//! The plan supervisor: owns the catalog, the claims of all tasks that are not over, and the task
//! actors. Whatever changes who may do what goes through its mailbox, one after another.

mod catalog;
mod commands;
mod execute;
mod guarded;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use actix::{
    Actor, Addr, AsyncContext, AtomicResponse, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::Means;
use super::guard::{self, ChildCrashed};
use super::ledger::Ledger;
use super::task::{Crashed, Rested, TaskActor};
use super::{Holder, Refused};
use crate::catalog::{Catalog, ServiceId};
use crate::crashpoint::handling;
use crate::store::Store;
use crate::task::admission::{Admission, Claim, admit};
use crate::task::event::Event;
use crate::task::{Reason, TaskId};

pub use catalog::ReplaceCatalog;
pub use commands::CommandTask;

/// Which active task holds which service.
pub type Held = Arc<HashMap<ServiceId, TaskId>>;

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
        let tell = move |crash: ChildCrashed| {
            let what = format!("{} crashed: {}", crash.child, crash.panic);
            me.do_send(Crashed { task: id, run, what });
        };
        let actor = guard::start(format!("task {id}"), tell, actor);
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

    fn admit(&mut self, task: Option<TaskId>, services: &HashSet<ServiceId>) -> Result<Vec<String>, Refused> {
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

fn holder(service: ServiceId, claim: &Claim) -> Holder {
    Holder { service, task: claim.task, state: claim.state, user: claim.user.clone(), since: claim.since }
}

fn warning(claim: &Claim) -> String {
    format!(
        "task {} of {} over the same services is {}; resuming it later may leave wrong versions",
        claim.task, claim.user, claim.state
    )
}

impl Actor for PlanSupervisor {
    type Context = Context<Self>;
}

impl Handler<Rested> for PlanSupervisor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, rested: Rested, _: &mut Self::Context) -> Self::Result {
        handling("supervisor: Rested");
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
        handling("supervisor: Crashed");
        if !self.is_run(crashed.task, crashed.run) {
            return nothing();
        }
        tracing::error!(task = %crashed.task, what = crashed.what, "an actor crashed; its task is interrupted");
        self.interrupt_at_once(crashed.task, Reason::ActorCrashed)
    }
}

/// Whether the supervisor still works through its mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AreYouThere;

impl Handler<AreYouThere> for PlanSupervisor {
    type Result = ();
    fn handle(&mut self, _: AreYouThere, _: &mut Self::Context) {
        handling("supervisor: AreYouThere");
    }
}

/// The daemon takes no new work.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

impl Handler<Drain> for PlanSupervisor {
    type Result = ();
    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        handling("supervisor: Drain");
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
        handling("supervisor: InterruptAll");
        let ids: Vec<TaskId> = self.active.keys().copied().collect();
        let recorded: Vec<_> =
            ids.into_iter().filter_map(|id| self.interrupt(id, Reason::DaemonShutDown)).collect();
        // From now on nothing of these tasks is recorded any more.
        Box::pin(async move {
            futures_util::future::join_all(recorded).await;
        })
    }
}
