//! A daemon that has done very much.

use std::path::Path;

use deployd::store::{Change, Integrity, JournalEvent, Store, StoredEvent};
use deployd::task::summary::TaskSummary;
use deployd::task::{Task, TaskId};

use crate::harness::{Daemon, items};

/// How many tasks it has behind it.
const TASKS: u64 = 10_000;
/// How many of them are to be kept.
const KEPT: u64 = 9_900;

/// What a task was, once more, as another task.
fn again(id: TaskId, events: &[StoredEvent]) -> Vec<Change> {
    let mut task: Option<Task> = None;
    let change = |entry: &StoredEvent| {
        let JournalEvent::Task(event) = &entry.event else { panic!("it belongs to no task") };
        let (at, n, event) = (entry.at, entry.n, event.clone());
        let Some(task) = &mut task else {
            task = Some(Task::begin(id, &event, at).unwrap());
            return Change::CreateTask { at, event, key: None };
        };
        task.apply(&event, at).unwrap();
        Change::Append { task: id, n, at, event, summary: TaskSummary::of(task, n), records: Vec::new() }
    };
    events.iter().map(change).collect()
}

/// Repeats the only task of a store until there are so many.
fn repeat(path: &Path) {
    let store = Store::open(path, &Integrity::Unchecked).unwrap();
    let (_, events) = store.snapshot().unwrap().task_with_events(TaskId(1)).unwrap().unwrap();
    let wait = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ids: Vec<u64> = (2..=TASKS).collect();
    for some in ids.chunks(1000) {
        let changes = some.iter().flat_map(|id| again(TaskId(*id), &events)).collect();
        wait.block_on(store.commit(changes)).unwrap();
    }
    store.close();
}

#[test]
fn ten_thousand_finished_tasks_are_no_burden_and_the_oldest_are_forgotten() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    assert_eq!(daemon.terminate(), Some(0));
    repeat(&daemon.path("state/deployd.redb"));
    // Killed once, so that all of it is checked at the next start.
    daemon.launch();
    daemon.kill_9();
    daemon.write("deployd.yaml", &format!("retention: {{ tasks: {KEPT} }}\n"));
    daemon.launch();
    let task = daemon.executed("restart", &items(&[(1, 0, "RESTART", "")]), "SUCCEEDED");
    assert_eq!(task, TASKS + 1);
    // Forgotten one after another, the oldest first.
    let last = TASKS - KEPT;
    let mut events = daemon.events(&format!("after={}", 5 * TASKS));
    while events.next().unwrap()["deleted"] != last {}
    assert_eq!(daemon.call("GET", &format!("/v1/tasks/{last}"), "").0, 404);
    assert_eq!(daemon.task(last + 1)["state"], "SUCCEEDED");
    let newest = daemon.json(&["list", "--limit", "3"]);
    let ids: Vec<_> =
        newest["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [TASKS + 1, TASKS, TASKS - 1]);
}
