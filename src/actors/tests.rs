//! The actors over a runtime that does as a test says: panics, waits, fails.

mod house;

use super::plan_supervisor::{Drain, InterruptAll};
use super::{Command, Commander, Refused};
use crate::catalog::ServiceId;
use crate::task::Reason;
use crate::task::event::Event;
use crate::task::operation::{OperationState, Settled};
use crate::task::state::TaskState;
use house::{House, Stage, arrived, gated, open};

#[actix::test]
async fn a_panic_interrupts_its_task_and_no_other() {
    let house = House::new(gated(&["b"]));
    house.stage.panics.lock().unwrap().insert("a".into());
    let other = house.execute("other", &[(2, 0, "START")]).await.unwrap().task;
    arrived(&house, "b").await;
    let crashed = house.execute("crashed", &[(1, 1, "START"), (3, 0, "START")]).await.unwrap().task;
    let task = house.reaches(crashed, TaskState::Interrupted).await;
    assert_eq!(task.reason, Some(Reason::ActorCrashed));
    assert_eq!(house.task(other).state, TaskState::Running);
    open(&house, "b");
    house.reaches(other, TaskState::Succeeded).await;

    house.stage.panics.lock().unwrap().clear();
    house.command(crashed, Command::Resume { force: false }).await.unwrap();
    house.reaches(crashed, TaskState::Succeeded).await;
    assert_eq!(house.starts(), ["b", "a", "c"]);
}

#[actix::test]
async fn one_failure_holds_back_the_rest_but_lets_end_what_goes_on() {
    let house = House::new(gated(&["a", "b"]));
    house.stage.fails.lock().unwrap().insert("a".into());
    let plan = [(1, 2, "START"), (2, 2, "START"), (3, 1, "START")];
    let id = house.execute("plan", &plan).await.unwrap().task;
    arrived(&house, "a").await;
    arrived(&house, "b").await;
    open(&house, "a");
    let mut grown = house.store.watch();
    while house.task(id).reason != Some(Reason::Failing) {
        grown.changed().await.unwrap();
    }
    assert_eq!(house.task(id).state, TaskState::Running);
    open(&house, "b");
    let task = house.reaches(id, TaskState::Failed).await;
    let states: Vec<_> = task.deployments.iter().map(|deployment| deployment.state.name()).collect();
    assert_eq!(states, ["FAILED", "SUCCEEDED", "SKIPPED"]);
    assert_eq!(house.starts(), ["b"]);
}

#[actix::test]
async fn pausing_stopping_and_a_failure_while_draining() {
    let house = House::new(gated(&["a"]));
    let plan = [(1, 1, "START"), (2, 0, "START")];
    let id = house.execute("plan", &plan).await.unwrap().task;
    arrived(&house, "a").await;
    house.command(id, Command::Pause).await.unwrap();
    assert_eq!(house.task(id).state, TaskState::Pausing);
    house.command(id, Command::Pause).await.unwrap();
    house.command(id, Command::Stop { now: false }).await.unwrap();
    assert_eq!(house.task(id).state, TaskState::Stopping);
    let refused = house.command(id, Command::Pause).await.unwrap_err();
    assert!(matches!(refused, Refused::NotPossible(_)), "{refused}");
    house.stage.fails.lock().unwrap().insert("a".into());
    open(&house, "a");
    let task = house.reaches(id, TaskState::Failed).await;
    assert_eq!(task.reason, Some(Reason::DeploymentFailed));
    assert!(house.starts().is_empty());
}

#[actix::test]
async fn a_service_belongs_to_one_active_task() {
    let house = House::new(gated(&["a"]));
    let first = house.execute("first", &[(1, 1, "START"), (2, 0, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    let refused = house.execute("second", &[(2, 0, "STOP")]).await.unwrap_err();
    let Refused::Conflict(holders) = &refused else { panic!("{refused}") };
    assert_eq!((holders[0].task, holders[0].service.get()), (first, 2));
    house.command(first, Command::Pause).await.unwrap();
    open(&house, "a");
    house.reaches(first, TaskState::Paused).await;
    // A paused task reserves nothing, but whoever comes is warned.
    let second = house.execute("second", &[(2, 0, "RESTART")]).await.unwrap();
    assert_eq!(second.warnings.len(), 1, "{:?}", second.warnings);
    house.reaches(second.task, TaskState::Succeeded).await;
}

#[actix::test]
async fn a_task_at_rest_holds_nothing_even_while_its_actor_ends() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 0, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    let handle = house.handle([(1, id)]);
    let service = ServiceId::new(1).unwrap();
    let problems = async || handle.dry_run("plan".into(), None).await.unwrap().problems;
    assert_eq!(handle.holder(service), Some(id));
    assert!(problems().await[0].contains("is being released by task"));
    open(&house, "a");
    house.reaches(id, TaskState::Succeeded).await;
    assert_eq!(handle.holder(service), None);
    assert_eq!(problems().await, [""; 0]);
}

#[actix::test]
async fn a_shutdown_lets_end_what_goes_on_and_interrupts_the_rest() {
    let house = House::new(gated(&["a", "b"]));
    let plan = [(1, 1, "START"), (2, 1, "START"), (3, 0, "START")];
    let id = house.execute("plan", &plan).await.unwrap().task;
    arrived(&house, "a").await;
    arrived(&house, "b").await;
    house.supervisor.send(Drain).await.unwrap();
    let refused = house.execute("late", &[(4, 0, "START")]).await.unwrap_err();
    assert!(matches!(refused, Refused::Draining), "{refused}");
    open(&house, "a");
    let mut grown = house.store.watch();
    while house.task(id).progress().succeeded == 0 {
        grown.changed().await.unwrap();
    }
    house.supervisor.send(InterruptAll).await.unwrap();
    let task = house.task(id);
    assert_eq!((task.state, task.reason), (TaskState::Interrupted, Some(Reason::DaemonShutDown)));
    let states: Vec<_> = task.deployments.iter().map(|deployment| deployment.state.name()).collect();
    assert_eq!(states, ["SUCCEEDED", "INTERRUPTED", "PENDING"]);
}

#[actix::test]
async fn deleting_and_what_is_gone() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 0, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    let refused = house.command(id, Command::Delete).await.unwrap_err();
    let said = "cannot delete a task that is RUNNING; possible now: stop, pause";
    assert!(matches!(refused, Refused::NotPossible(_)) && refused.to_string() == said, "{refused}");
    open(&house, "a");
    house.reaches(id, TaskState::Succeeded).await;
    house.command(id, Command::Delete).await.unwrap();
    let refused = house.command(id, Command::Delete).await.unwrap_err();
    assert!(matches!(refused, Refused::NoSuchTask(gone) if gone == id), "{refused}");
    assert!(house.store.snapshot().unwrap().task(id).unwrap().is_none());
}

/// Its actor is still ending when it is deleted: what that tells later brings nothing back.
#[actix::test]
async fn a_task_that_is_deleted_in_the_very_moment_of_coming_to_rest_leaves_nothing() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 9, "START"), (2, 8, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    house.command(id, Command::Pause).await.unwrap();
    open(&house, "a");
    while house.command(id, Command::Delete).await.is_err() {}
    // Its actor has ended before the first of these has, or long before.
    for name in ["next", "last"] {
        let next = house.execute(name, &[(2, 0, "START")]).await.unwrap();
        assert!(next.warnings.is_empty(), "{:?}", next.warnings);
        house.reaches(next.task, TaskState::Succeeded).await;
    }
}

#[actix::test]
async fn the_journal_of_a_task_is_what_happened_in_this_order() {
    let house = House::new(Stage::default());
    let id = house.execute("plan", &[(1, 1, "START"), (2, 0, "STOP")]).await.unwrap().task;
    house.reaches(id, TaskState::Succeeded).await;
    let (_, events) = house.store.snapshot().unwrap().task_with_events(id).unwrap().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|stored| match &stored.event {
            crate::store::JournalEvent::Task(event) => Event::name(event),
            crate::store::JournalEvent::Host(_) => "host",
        })
        .collect();
    let deployment = ["deployment.begun", "operation.begun", "operation.ended", "deployment.ended"];
    let expected: Vec<_> =
        ["task.started"].into_iter().chain(deployment).chain(deployment).chain(["task.succeeded"]).collect();
    assert_eq!(names, expected);
}

#[actix::test]
async fn what_is_about_to_be_done_is_on_disk_before_it_is_done() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 0, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    // The journal as the next daemon would read it, while the host is being touched.
    let task = house.store.snapshot().unwrap().task(id).unwrap().unwrap();
    assert_eq!(task.deployments[0].operations[0].state, OperationState::Running);
    open(&house, "a");
    house.reaches(id, TaskState::Succeeded).await;
}

#[actix::test]
async fn resuming_in_the_very_moment_of_coming_to_rest() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 9, "START"), (2, 8, "START"), (3, 7, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    house.command(id, Command::Pause).await.unwrap();
    open(&house, "a");
    // Refused for as long as it is PAUSING, and never lost once it is PAUSED.
    while house.command(id, Command::Resume { force: false }).await.is_err() {}
    house.reaches(id, TaskState::Succeeded).await;
    assert_eq!(house.starts(), ["a", "b", "c"]);
}

#[actix::test]
async fn what_a_crash_had_begun_is_not_begun_again() {
    let house = House::new(gated(&["a", "b"]));
    house.stage.panics.lock().unwrap().insert("b".into());
    let id = house.execute("plan", &[(1, 0, "START"), (2, 0, "START")]).await.unwrap().task;
    // Both are about to start when one of them panics.
    arrived(&house, "a").await;
    arrived(&house, "b").await;
    open(&house, "b");
    house.reaches(id, TaskState::Interrupted).await;
    house.stage.panics.lock().unwrap().clear();
    // The start of `a` is still going on: what resumes waits for it, and finds it done.
    house.command(id, Command::Resume { force: false }).await.unwrap();
    // Who has looked at `b` has come to `a`, too.
    arrived(&house, "b").await;
    open(&house, "a");
    open(&house, "b");
    let task = house.reaches(id, TaskState::Succeeded).await;
    let mut starts = house.starts();
    starts.sort();
    assert_eq!(starts, ["a", "b"]);
    assert_eq!(task.deployments[0].operations[0].settled, Some(Settled::FoundDone));
}
