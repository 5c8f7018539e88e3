//! The batch actor: owns the places of the deployments that are going on.
//!
//! It begins what may begin, as far as the daemon has places, and tells its task when nothing of
//! the batch is going on and nothing may begin.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::deployment::{DeploymentActor, DeploymentDone, subject};
use super::guard::{self, ChildCrashed};
use super::ledger::Ledger;
use super::prefetch::{self, Prefetch};
use crate::crashpoint::handling;
use crate::executor::Executor;
use crate::task::decide::{Decision, decide};
use crate::task::event::Event;

/// A batch tells its task that nothing of it is going on any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BatchDone;

/// A task asks its batch to look again: a command has changed what may begin.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LookAgain;

/// What all batches of a daemon share.
#[derive(Clone)]
pub struct Means {
    /// Through which the host is touched.
    pub executor: Arc<Executor>,
    /// The threads on which deeds run.
    pub host: tokio::runtime::Handle,
    /// Places for deployments, of all tasks together.
    pub places: Arc<Semaphore>,
    /// Places for preparations in advance; `None`: there are none.
    pub prefetch: Option<Arc<prefetch::Places>>,
}

/// The actor.
pub struct BatchActor {
    ledger: Ledger,
    means: Means,
    cancel: CancellationToken,
    task: Recipient<BatchDone>,
    crashes: Recipient<ChildCrashed>,
    deployments: Range<usize>,
    prefetch: Prefetch,
    going_on: HashMap<usize, (Addr<DeploymentActor>, OwnedSemaphorePermit)>,
    awaits_place: bool,
}

impl BatchActor {
    /// The actor of the current batch of a task.
    pub fn new(
        ledger: Ledger,
        means: Means,
        cancel: CancellationToken,
        task: Recipient<BatchDone>,
        crashes: Recipient<ChildCrashed>,
        deployments: Range<usize>,
        prefetch: Prefetch,
    ) -> Self {
        let going_on = HashMap::new();
        Self { ledger, means, cancel, task, crashes, deployments, prefetch, going_on, awaits_place: false }
    }

    fn drive(&mut self, context: &mut Context<Self>) {
        if self.means.places.is_closed() || !self.ledger.task().goes_forward() {
            self.prefetch.hold_back(&self.ledger.task());
        }
        while let Some(deployment) = self.next_due() {
            let Ok(place) = self.means.places.clone().try_acquire_owned() else {
                self.await_place(context);
                return;
            };
            // Refused when a command came in between: then it does not begin.
            if !self.begin(deployment, place, context) {
                break;
            }
        }
        if self.going_on.is_empty() {
            self.task.do_send(BatchDone);
            context.stop();
        }
    }

    /// What begins next may belong to the next batch: that is the task's to see to.
    fn next_due(&self) -> Option<usize> {
        match decide(&self.ledger.task()) {
            Decision::Begin(next) if !self.means.places.is_closed() => {
                Some(next).filter(|next| self.deployments.contains(next))
            }
            _ => None,
        }
    }

    fn begin(&mut self, deployment: usize, place: OwnedSemaphorePermit, context: &mut Context<Self>) -> bool {
        let Ok(durable) = self.ledger.note(Event::DeploymentBegun { deployment }) else { return false };
        let subject = subject(&self.ledger, deployment, self.cancel.child_token());
        let name = format!("the deployment of service {} in task {}", subject.service.name, subject.task);
        let me = context.address();
        let actor = DeploymentActor::new(
            self.ledger.clone(),
            self.means.executor.clone(),
            self.means.host.clone(),
            subject,
            self.prefetch.clone(),
            Box::pin(durable),
            me.clone().recipient(),
        );
        self.going_on.insert(deployment, (guard::start(name, move |crash| me.do_send(crash), actor), place));
        true
    }

    fn await_place(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.awaits_place, true) {
            return;
        }
        let (places, me) = (self.means.places.clone(), context.address());
        let wait = async move {
            // The place is given back and taken again by `drive`, which knows whether it is still wanted.
            drop(places.acquire_owned().await);
            me.do_send(PlaceFree);
        };
        guard::run(wait, context);
    }
}

impl Actor for BatchActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        handling("batch: started");
        self.drive(context);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct PlaceFree;

impl Handler<PlaceFree> for BatchActor {
    type Result = ();
    fn handle(&mut self, _: PlaceFree, context: &mut Self::Context) {
        handling("batch: PlaceFree");
        self.awaits_place = false;
        self.drive(context);
    }
}

impl Handler<LookAgain> for BatchActor {
    type Result = ();
    fn handle(&mut self, _: LookAgain, context: &mut Self::Context) {
        handling("batch: LookAgain");
        self.drive(context);
    }
}

impl Handler<DeploymentDone> for BatchActor {
    type Result = ();
    fn handle(&mut self, done: DeploymentDone, context: &mut Self::Context) {
        handling("batch: DeploymentDone");
        self.going_on.remove(&done.deployment);
        self.drive(context);
    }
}

impl Handler<ChildCrashed> for BatchActor {
    type Result = ();
    fn handle(&mut self, crash: ChildCrashed, context: &mut Self::Context) {
        handling("batch: ChildCrashed");
        self.crashes.do_send(crash);
        // The task is over for now. Task and batch know each other: by itself neither would ever end,
        // and the places would be lost.
        context.stop();
    }
}
