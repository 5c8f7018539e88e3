//! What a start and an end of the daemon mean for the tasks: they are interrupted, and say why.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::watch;

use super::host_event;
use crate::actors::commander::Handle as Supervised;
use crate::actors::ledger::Ledger;
use crate::actors::plan_supervisor::{Drain, Held, InterruptAll, PlanSupervisor};
use crate::actors::{Command, Commander};
use crate::notify;
use crate::store::{Store, StoreError};
use crate::task::admission::Claim;
use crate::task::event::Event;
use crate::task::host_event::HostEvent;
use crate::task::{Caller, Reason, TaskId};

/// A daemon that is gone leaves its tasks INTERRUPTED, however it went. Each claim comes with
/// whether this start is what interrupted it.
pub async fn interrupt_what_was_active(store: &Store) -> Result<Vec<(Claim, bool)>, StoreError> {
    let snapshot = store.snapshot()?;
    let reason = if store.had_failed() { Reason::StoreFailed } else { Reason::DaemonDied };
    let mut claims = Vec::new();
    for id in snapshot.open_tasks()? {
        let Some((task, events)) = snapshot.task_with_events(id)? else { continue };
        let was_active = task.state.is_active();
        let ledger = Ledger::new(store.clone(), task, events.len() as u64);
        if was_active {
            let interrupted = Event::Interrupted { reason };
            if let Ok(durable) = ledger.record(interrupted) {
                durable.await?;
            }
        }
        claims.push((Claim::from(&*ledger.task()), was_active));
    }
    // Not before: who is killed in between would say something else of the rest.
    store.forget_failure();
    Ok(claims)
}

/// Resumes what this start has interrupted (`resumeOnStart`).
pub async fn resume_all(commander: &Arc<Supervised>, tasks: Vec<TaskId>) {
    let by =
        Caller { uid: nix::unistd::geteuid().as_raw(), user: "deployd".into(), pid: None, program: None };
    for task in tasks {
        if let Err(error) = commander.command(task, Command::Resume { force: false }, by.clone()).await {
            tracing::warn!(%task, %error, "cannot resume an interrupted task (resumeOnStart)");
        }
    }
}

/// Takes no new work, lets what is going on end within the grace, and marks the rest INTERRUPTED.
pub async fn shut_down(
    grace: Duration,
    store: &Store,
    supervisor: &Addr<PlanSupervisor>,
    mut held: watch::Receiver<Held>,
) {
    notify::status("ends, and waits for the operations that are going on");
    supervisor.send(Drain).await.ok();
    let quiet = held.wait_for(|held| held.is_empty());
    if tokio::time::timeout(grace, quiet).await.is_err() {
        tracing::warn!("operations are still going on after shutdownGrace; their tasks are interrupted");
    }
    supervisor.send(InterruptAll).await.ok();
    host_event(store, HostEvent::DaemonStopped).await.ok();
}
