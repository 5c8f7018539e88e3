//! The task actor: owns the course of one task, batch after batch, until it rests.

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Recipient,
    ResponseActFuture, WrapFuture,
};
use tokio_util::sync::CancellationToken;

use super::batch::{BatchActor, BatchDone, LookAgain, Means};
use super::guard::{self, ChildCrashed};
use super::ledger::Ledger;
use super::prefetch::Prefetch;
use crate::crashpoint::handling;
use crate::store::StoreError;
use crate::task::decide::{Decision, decide, may_prepare};
use crate::task::event::Event;
use crate::task::{Illegal, TaskId};

/// A task tells the supervisor that it has come to rest.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Rested {
    /// Which.
    pub task: TaskId,
    /// Which run of its actors.
    pub run: u64,
    /// It has not: the daemon is ending, and nothing of it is going on any more.
    pub held_back: bool,
}

/// A task tells the supervisor that one of its actors panicked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Crashed {
    /// Which.
    pub task: TaskId,
    /// Which run of its actors.
    pub run: u64,
    /// The actor, and what it said.
    pub what: String,
}

/// The supervisor asks a task to stop or to pause.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Unrecorded>")]
pub struct Hold(pub Event);

/// Why a command was not recorded.
#[derive(Debug)]
pub enum Unrecorded {
    /// It is not possible now.
    Illegal(Illegal),
    /// The store failed.
    Store(StoreError),
}

/// The actor.
pub struct TaskActor {
    run: u64,
    ledger: Ledger,
    means: Means,
    cancel: CancellationToken,
    rested: Recipient<Rested>,
    crashed: Recipient<Crashed>,
    batch: Option<Addr<BatchActor>>,
    prefetch: Prefetch,
    held_back: bool,
}

impl TaskActor {
    /// The actor of an active task; `run` tells its runs apart.
    pub fn new(
        run: u64,
        ledger: Ledger,
        means: Means,
        cancel: CancellationToken,
        rested: Recipient<Rested>,
        crashed: Recipient<Crashed>,
    ) -> Self {
        let prefetch = Prefetch::new(cancel.clone());
        Self { run, ledger, means, cancel, rested, crashed, batch: None, prefetch, held_back: false }
    }

    fn drive(&mut self, context: &mut Context<Self>) {
        let decision = decide(&self.ledger.task());
        match decision {
            Decision::Begin(_) if self.held_back => {
                let task = self.ledger.task().id;
                self.rested.do_send(Rested { task, run: self.run, held_back: true });
                context.stop();
            }
            Decision::Begin(next) => self.run_batch(next, context),
            Decision::Rest(event) => self.rest(event, context),
            // Cut off: deployments that were going on ended without recording an end.
            Decision::Wait | Decision::AtRest => context.stop(),
        }
    }

    fn run_batch(&mut self, first: usize, context: &mut Context<Self>) {
        let deployments = self.ledger.task().batch_of(first);
        let me = context.address();
        let batch = BatchActor::new(
            self.ledger.clone(),
            self.means.clone(),
            self.cancel.clone(),
            me.clone().recipient(),
            me.clone().recipient(),
            deployments,
            self.prefetch.clone(),
        );
        let name = format!("a batch of task {}", self.ledger.task().id);
        self.batch = Some(guard::start(name, move |crash| me.do_send(crash), batch));
    }

    fn rest(&mut self, event: Event, context: &mut Context<Self>) {
        let (task, run) = (self.ledger.task().id, self.run);
        let Ok(durable) = self.ledger.record(event) else {
            context.stop();
            return;
        };
        let rested = self.rested.clone();
        let me = context.address();
        let tell = async move {
            if durable.await.is_ok() {
                rested.do_send(Rested { task, run, held_back: false });
            }
            me.do_send(End);
        };
        guard::run(tell, context);
    }
}

impl Actor for TaskActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        handling("task: started");
        self.drive(context);
        let due = may_prepare(&self.ledger.task());
        for work in self.prefetch.of(due, &self.ledger, &self.means) {
            guard::run(work, context);
        }
    }
}

impl Handler<BatchDone> for TaskActor {
    type Result = ();
    fn handle(&mut self, _: BatchDone, context: &mut Self::Context) {
        handling("task: BatchDone");
        self.batch = None;
        self.drive(context);
    }
}

impl Handler<Hold> for TaskActor {
    type Result = ResponseActFuture<Self, Result<(), Unrecorded>>;

    fn handle(&mut self, hold: Hold, _: &mut Self::Context) -> Self::Result {
        handling("task: Hold");
        let durable = match self.ledger.record(hold.0) {
            Ok(durable) => durable,
            Err(illegal) => return Box::pin(actix::fut::ready(Err(Unrecorded::Illegal(illegal)))),
        };
        let answer = durable.into_actor(self).map(|result, actor, _| {
            if let Some(batch) = &actor.batch {
                batch.do_send(LookAgain);
            }
            result.map_err(Unrecorded::Store)
        });
        Box::pin(answer)
    }
}

/// The daemon is ending: nothing new begins, what is going on may end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HoldBack;

impl Handler<HoldBack> for TaskActor {
    type Result = ();
    fn handle(&mut self, _: HoldBack, _: &mut Self::Context) {
        handling("task: HoldBack");
        self.held_back = true;
        if let Some(batch) = &self.batch {
            batch.do_send(LookAgain);
        }
    }
}

impl Handler<ChildCrashed> for TaskActor {
    type Result = ();
    fn handle(&mut self, crash: ChildCrashed, _: &mut Self::Context) {
        handling("task: ChildCrashed");
        let task = self.ledger.task().id;
        let what = format!("{} crashed: {}", crash.child, crash.panic);
        self.crashed.do_send(Crashed { task, run: self.run, what });
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct End;

impl Handler<End> for TaskActor {
    type Result = ();
    fn handle(&mut self, _: End, context: &mut Self::Context) {
        handling("task: End");
        context.stop();
    }
}
