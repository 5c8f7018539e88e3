//! Where a task's events become durable.
//!
//! Recording is one step: the event is folded into the task first, so that an illegal one is
//! refused, and queued for the store at once, so that the journal's order is the order of the fold.
//! All actors of a task share its ledger on one thread; awaiting what [`Ledger::record`] returns is
//! awaiting the disk.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use crate::clock;
use crate::metrics::{Ended, Metrics};
use crate::store::{Change, Expectation, Store, StoreError, Urgency};
use crate::task::event::Event;
use crate::task::record;
use crate::task::state::TaskState;
use crate::task::summary::TaskSummary;
use crate::task::{Illegal, Task, TaskId, Timestamp};

/// The task as its recorded events make it.
#[derive(Clone)]
pub struct Ledger {
    inner: Rc<Inner>,
}

struct Inner {
    store: Store,
    state: RefCell<State>,
}

struct State {
    task: Task,
    /// The number of the last event.
    last: u64,
}

impl Ledger {
    /// The ledger of a task that has `last` events.
    pub fn new(store: Store, task: Task, last: u64) -> Self {
        Self { inner: Rc::new(Inner { store, state: RefCell::new(State { task, last }) }) }
    }

    /// Another ledger that goes on from here. Whoever holds this one must record no more.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.inner.state.borrow();
        Self::new(self.inner.store.clone(), state.task.clone(), state.last)
    }

    /// The task as it is.
    pub fn task(&self) -> Ref<'_, Task> {
        Ref::map(self.inner.state.borrow(), |state| &state.task)
    }

    /// Records an event. What is returned resolves when it is on disk.
    ///
    /// # Errors
    /// [`Illegal`] when the event can't happen now; then nothing is recorded.
    pub fn record(
        &self,
        event: Event,
    ) -> Result<impl Future<Output = Result<(), StoreError>> + use<>, Illegal> {
        self.write(event, Urgency::Awaited)
    }

    /// As [`Self::record`], for what nobody waits for yet: see [`Store::queue`].
    pub fn note(
        &self,
        event: Event,
    ) -> Result<impl Future<Output = Result<(), StoreError>> + use<>, Illegal> {
        self.write(event, Urgency::Noted)
    }

    /// An event that will be waited for is about to be recorded: see [`Store::expect`].
    pub fn expect(&self) -> Expectation {
        self.inner.store.expect()
    }

    /// As [`Self::record`], for what was expected.
    pub fn record_expected(
        &self,
        event: Event,
        expectation: Expectation,
    ) -> Result<impl Future<Output = Result<(), StoreError>> + use<>, Illegal> {
        self.write(event, Urgency::Expected(expectation))
    }

    /// Resolves when all that was recorded before is on disk.
    pub fn flush(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.inner.store.flush()
    }

    fn write(
        &self,
        event: Event,
        urgency: Urgency,
    ) -> Result<impl Future<Output = Result<(), StoreError>> + use<>, Illegal> {
        let mut state = self.inner.state.borrow_mut();
        let at = clock::now();
        state.task.apply(&event, at)?;
        count(self.inner.store.metrics(), &state.task, &event);
        state.last += 1;
        let summary = TaskSummary::of(&state.task, state.last);
        let line = Line::of(&state.task, &event);
        let records = record::records(&state.task, &event, at);
        let change = Change::Append { task: state.task.id, n: state.last, at, event, summary, records };
        let committed = self.inner.store.queue(vec![change], urgency);
        Ok(async move {
            committed.await?;
            line.log();
            Ok(())
        })
    }
}

/// Counts what has ended.
fn count(metrics: &Metrics, task: &Task, event: &Event) {
    let micros = |from: Option<Timestamp>, to: Option<Timestamp>, whole: bool| {
        let (from, to) = from.zip(to).filter(|_| whole)?;
        u64::try_from(to.0.saturating_sub(from.0)).ok()
    };
    match event {
        Event::DeploymentEnded { deployment, .. } => {
            let it = &task.deployments[*deployment];
            let micros = micros(it.started_at, it.finished_at, !it.was_cut);
            metrics.deployment(Ended { way: it.spec.way.name(), outcome: it.state.name(), micros });
        }
        Event::OperationEnded { deployment, operation, .. } => {
            let its = &task.deployments[*deployment];
            let it = &its.operations[*operation];
            let micros = micros(it.started_at, it.finished_at, it.settled.is_none());
            metrics.operation(Ended { way: its.spec.way.name(), outcome: it.state.name(), micros });
        }
        _ => {}
    }
}

/// What the daemon's log says about an event, with the names by which it is looked for.
struct Line {
    task: TaskId,
    state: TaskState,
    service: Option<String>,
    container: Option<String>,
    event: &'static str,
}

impl Line {
    fn of(task: &Task, event: &Event) -> Self {
        let place = event.place();
        let deployment = place.and_then(|(deployment, _)| task.deployments.get(deployment));
        let operation = place.and_then(|(_, operation)| deployment?.operations.get(operation?));
        Self {
            task: task.id,
            state: task.state,
            service: deployment.map(|deployment| deployment.spec.service.name.clone()),
            container: operation.map(|operation| operation.container.clone()),
            event: event.name(),
        }
    }

    fn log(self) {
        let Self { task, state, service, container, event } = self;
        tracing::info!(%task, %state, service, container, "{event}");
    }
}
