//! The deployment actor: owns the steps of one deployment.
//!
//! Each step is derived from what is recorded, carried out, and its result recorded, until nothing
//! is left. That is the whole course, with or without a crash in between.

mod prepare;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Message, Recipient};
use futures_util::future::{join, join_all};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::guard;
use super::ledger::Ledger;
use super::prefetch::Prefetch;
use crate::crashpoint::handling;
use crate::executor::{Executor, Halt, Subject, Target};
use crate::store::{Expectation, StoreError};
use crate::task::deployment::{Deployment, DeploymentStep, Hook};
use crate::task::event::Event;
use crate::task::operation::{OperationEnd, OperationState};
use crate::task::state::TaskState;
use crate::task::{Failure, Illegal, Task};

/// A deployment tells its batch that nothing of it is going on any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeploymentDone {
    /// Which.
    pub deployment: usize,
}

/// The actor.
pub struct DeploymentActor {
    ledger: Ledger,
    executor: Arc<Executor>,
    host: tokio::runtime::Handle,
    subject: Subject,
    prefetch: Prefetch,
    begun: Option<Durable>,
    batch: Recipient<DeploymentDone>,
}

/// Resolves when what was recorded is on disk.
pub type Durable = futures_util::future::LocalBoxFuture<'static, Result<(), StoreError>>;

/// Why the course ended before its end.
pub(super) enum Stopped {
    /// The daemon or the task is being cut off: nothing more is recorded.
    Cut,
    /// The event came too late: the task was interrupted meanwhile.
    TooLate(Illegal),
    /// The store failed: the daemon is about to end.
    Store(StoreError),
    /// A step failed.
    Failed(Failure),
}

impl From<Halt> for Stopped {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Failed(failure) => Self::Failed(failure),
            Halt::Cut => Self::Cut,
            // A crash like any other: the task is interrupted, and its resume looks at what was done.
            Halt::Lost(why) => std::panic::resume_unwind(Box::new(why)),
        }
    }
}

impl DeploymentActor {
    /// The actor of a deployment whose beginning is recorded, and durable when `begun` resolves.
    pub fn new(
        ledger: Ledger,
        executor: Arc<Executor>,
        host: tokio::runtime::Handle,
        subject: Subject,
        prefetch: Prefetch,
        begun: Durable,
        batch: Recipient<DeploymentDone>,
    ) -> Self {
        Self { ledger, executor, host, subject, prefetch, begun: Some(begun), batch }
    }
}

impl Actor for DeploymentActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        handling("deployment: started");
        let course = Course {
            ledger: self.ledger.clone(),
            executor: self.executor.clone(),
            host: self.host.clone(),
            subject: self.subject.clone(),
            unsynced: Rc::new(RefCell::new(self.begun.take().into_iter().collect())),
        };
        let (batch, deployment, me) = (self.batch.clone(), self.subject.deployment, context.address());
        let prefetch = self.prefetch.clone();
        let run = async move {
            // What is being prepared in advance goes on, now as this deployment's own.
            prefetch.ended(deployment).await;
            course.run().await;
            // Whatever comes next waits for the disk before it acts, and so for all that was noted here.
            batch.do_send(DeploymentDone { deployment });
            me.do_send(End);
            actix_rt::spawn(async move { course.settled().await });
        };
        guard::run(run, context);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct End;

impl actix::Handler<End> for DeploymentActor {
    type Result = ();
    fn handle(&mut self, _: End, context: &mut Self::Context) {
        handling("deployment: End");
        context.stop();
    }
}

/// One deployment of a task, as the executor needs it.
pub(super) fn subject(ledger: &Ledger, deployment: usize, cancel: CancellationToken) -> Subject {
    let task = ledger.task();
    let spec = &task.deployments[deployment].spec;
    Subject { task: task.id, deployment, service: spec.service.clone(), way: spec.way.clone(), cancel }
}

/// The steps of a deployment.
#[derive(Clone)]
pub(super) struct Course {
    pub ledger: Ledger,
    pub executor: Arc<Executor>,
    pub host: tokio::runtime::Handle,
    pub subject: Subject,
    /// What is recorded and was not waited for. The journal keeps its order: whoever waits for something
    /// later has waited for all of it, so that steps that follow each other share a sync.
    pub unsynced: Rc<RefCell<Vec<Durable>>>,
}

impl Course {
    async fn run(&self) {
        match self.steps().await {
            Ok(()) => {}
            Err(Stopped::Failed(failure)) => {
                if let Err(stopped) = self.end(Err(failure)).await {
                    self.explain(&stopped);
                }
            }
            Err(stopped) => {
                if let Stopped::Cut = stopped {
                    // A user has cut it: what goes on without us will never be joined.
                    if self.ledger.task().state == TaskState::Stopping {
                        self.end_commands().await.ok();
                    }
                    // Refused unless a user has cut it: a task that is cut off by a fault has said so itself.
                    self.record(Event::DeploymentCut { deployment: self.subject.deployment }).await.ok();
                }
                self.explain(&stopped);
            }
        }
    }

    async fn steps(&self) -> Result<(), Stopped> {
        self.note_moved_branch().await?;
        self.restore_release().await?;
        // Of the operation that follows a hook.
        let mut intended = None;
        loop {
            let step = self.deployment(Deployment::next_step);
            intended = intended.filter(|_| matches!(step, DeploymentStep::Operate(_)));
            // An operation waits for its own intent before it acts.
            if !matches!(step, DeploymentStep::Operate(_) | DeploymentStep::Succeed) {
                self.sync().await?;
            }
            match step {
                DeploymentStep::ResolveCommit
                | DeploymentStep::ObtainArtifact
                | DeploymentStep::PrepareRelease => self.prepare().await?,
                DeploymentStep::RunHook(hook) => intended = self.run_hook(hook).await?,
                DeploymentStep::Operate(operations) => {
                    self.operate_all(&operations, intended.take()).await?;
                }
                DeploymentStep::Fail(failure) => return Err(Stopped::Failed(failure)),
                DeploymentStep::Succeed => {
                    self.prune().await;
                    return self.end(Ok(())).await;
                }
            }
        }
    }

    /// Runs a hook. What follows it is expected as soon as its process has ended: those that have a hook each and
    /// begin together need not end together.
    async fn run_hook(&self, hook: Hook) -> Result<Option<Expectation>, Stopped> {
        let release = self.deployment(|deployment| deployment.release.clone());
        let (over, is_over) = oneshot::channel();
        let run = move |e: Arc<Executor>, s: Subject| async move {
            e.run_hook(&s, hook, release.as_deref(), over).await
        };
        let expect = async { is_over.await.is_ok().then(|| self.ledger.expect()) };
        let (run, expected) = join(self.on_host(run), expect).await;
        run?;
        self.note(Event::HookDone { deployment: self.subject.deployment, hook })?;
        Ok(expected)
    }

    /// The first of them fulfils what is expected of the deployment.
    async fn operate_all(
        &self,
        operations: &[usize],
        mut intended: Option<Expectation>,
    ) -> Result<(), Stopped> {
        let all = operations.iter().map(|&operation| {
            let intended = intended.take().unwrap_or_else(|| self.ledger.expect());
            self.clone().operate(operation, intended)
        });
        join_all(all).await.into_iter().collect()
    }

    /// One operation: look, record the intent, act, record the result.
    async fn operate(self, operation: usize, intended: Expectation) -> Result<(), Stopped> {
        let deployment = self.subject.deployment;
        let Some(target) = self.target(operation) else {
            let text = "the container is no longer part of the service; this is a defect of deployd";
            let failure = Failure { code: "internal".into(), message: text.into(), log: Vec::new() };
            return Err(Stopped::Failed(failure));
        };
        let look = target.clone();
        let looked = self.on_host(move |e, _| async move { e.look(&look).await.map_err(Halt::from) }).await?;
        let (evidence, to_release) = (looked.evidence.clone(), target.release.clone());
        let intent = Event::OperationBegun { deployment, operation, evidence, to_release };
        let durable = self.ledger.record_expected(intent, intended).map_err(Stopped::TooLate)?;
        durable.await.map_err(Stopped::Store)?;
        let end: OperationEnd =
            self.on_host(move |e, _| async move { e.operate(&target, &looked).await }).await?;
        self.note(Event::OperationEnded { deployment, operation, end })
    }

    fn target(&self, operation: usize) -> Option<Target> {
        let index = self.subject.deployment;
        self.deployment(|deployment| {
            let op = deployment.operations.get(operation)?;
            let container = self.subject.service.container(&op.container)?.clone();
            let in_doubt = (op.state == OperationState::Interrupted).then(|| op.evidence.clone()).flatten();
            let id = Task::operation_id(&self.executor.instance, self.subject.task, index, operation);
            let release = deployment.release.clone();
            Some(Target { subject: self.subject.clone(), container, id, release, in_doubt })
        })
    }

    async fn prune(&self) {
        let release = self.deployment(|deployment| deployment.release.clone());
        if let Some(release) = release
            && self.sync().await.is_ok()
        {
            let prune = move |e: Arc<Executor>, s: Subject| async move {
                e.prune_releases(&s, &release).await;
                Ok(())
            };
            self.on_host(prune).await.ok();
        }
    }

    async fn end(&self, result: Result<(), Failure>) -> Result<(), Stopped> {
        self.note(Event::DeploymentEnded { deployment: self.subject.deployment, result })?;
        self.end_commands().await
    }

    /// Once it is on disk that nobody will ask for them again.
    async fn end_commands(&self) -> Result<(), Stopped> {
        if !self.executor.has_commands(&self.subject) {
            return Ok(());
        }
        self.sync().await?;
        let end = |e: Arc<Executor>, s: Subject| async move {
            e.end_commands(&s).await;
            Ok(())
        };
        self.on_host(end).await.ok();
        Ok(())
    }

    pub(super) fn deployment<T>(&self, look: impl FnOnce(&Deployment) -> T) -> T {
        look(&self.ledger.task().deployments[self.subject.deployment])
    }

    /// Records an event, and waits until it is on disk, with all that was recorded before.
    async fn record(&self, event: Event) -> Result<(), Stopped> {
        self.note(event)?;
        self.sync().await
    }

    /// Records an event without waiting for the disk: nothing may be done to the host on its strength.
    fn note(&self, event: Event) -> Result<(), Stopped> {
        let durable = self.ledger.note(event).map_err(Stopped::TooLate)?;
        self.unsynced.borrow_mut().push(Box::pin(durable));
        Ok(())
    }

    /// Waits until all that was noted is on disk.
    async fn sync(&self) -> Result<(), Stopped> {
        let unsynced = self.unsynced.take();
        if !unsynced.is_empty() {
            self.ledger.flush().await.map_err(Stopped::Store)?;
        }
        for durable in unsynced {
            durable.await.map_err(Stopped::Store)?;
        }
        Ok(())
    }

    /// Resolves when all that was noted is on disk, or never will be.
    pub(super) async fn settled(&self) {
        drop(join_all(self.unsynced.take()).await);
    }

    /// Runs a deed on the host's threads, so that this thread of all the actors never waits for it.
    /// Its panic is this actor's panic.
    pub(super) async fn on_host<T, F, W>(&self, work: W) -> Result<T, Stopped>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Halt>> + Send + 'static,
        W: FnOnce(Arc<Executor>, Subject) -> F,
    {
        let deed = self.host.spawn(work(self.executor.clone(), self.subject.clone()));
        match deed.await {
            Ok(result) => result.map_err(Stopped::from),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Stopped::Cut),
        }
    }

    fn explain(&self, stopped: &Stopped) {
        let (task, service) = (self.subject.task, &self.subject.service.name);
        match stopped {
            Stopped::Cut => tracing::info!(%task, %service, "deployment was cut off"),
            Stopped::TooLate(error) => tracing::debug!(%task, %service, %error, "deployment ended too late"),
            Stopped::Store(error) => tracing::error!(%task, %service, %error, "deployment lost the store"),
            Stopped::Failed(failure) => {
                tracing::warn!(%task, %service, error = %failure.message, "deployment failed");
            }
        }
    }
}
