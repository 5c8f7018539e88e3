//! The drift guard: what was changed meanwhile is not run over.

use crate::harness::{Daemon, items};

/// A paused task: it has deployed c1, and still has to deploy c2.
fn paused(daemon: &Daemon) -> u64 {
    let id = daemon.execute("plan", &items(&[(1, 1, "RESTART", ""), (2, 0, "RESTART", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    daemon.release("c1");
    daemon.until_state(id, "PAUSED");
    id
}

fn refused(daemon: &Daemon, id: u64) -> serde_json::Value {
    let said = daemon.ctl_ends(4, &["resume", &id.to_string()]);
    assert!(said.contains("--force"), "{said}");
    let (status, problem) = daemon.call("POST", &format!("/v1/tasks/{id}/resume"), "");
    assert_eq!((status, &problem["code"]), (409, &"drifted".into()), "{problem:#}");
    assert_eq!(daemon.task(id)["state"], "PAUSED");
    problem["differences"].clone()
}

#[test]
fn what_another_task_has_changed_stops_a_resume() {
    let daemon = Daemon::gated(2);
    daemon.release("c2");
    daemon.executed("before", &items(&[(2, 0, "START", "")]), "SUCCEEDED");
    let id = paused(&daemon);
    // One that the task has deployed, and one that it still has to.
    let other = daemon.executed("other", &items(&[(1, 0, "STOP", ""), (2, 0, "RESTART", "")]), "SUCCEEDED");
    let differences = refused(&daemon, id);
    let seen: Vec<_> = differences.as_array().unwrap().iter().collect();
    assert_eq!(seen.len(), 2, "{differences:#}");
    assert_eq!((&seen[0]["container"], &seen[0]["what"]), (&"c1".into(), &"runState".into()));
    assert_eq!((&seen[1]["container"], &seen[1]["what"]), (&"c2".into(), &"incarnation".into()));
    assert!(seen.iter().all(|difference| difference["task"] == other));
    // Who knows better says so, and that is in the journal.
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--force"]);
    daemon.until_state(id, "SUCCEEDED");
    let resumed = daemon.until(id, |event| event["type"] == "task.resumed");
    assert_eq!(resumed["force"], true);
}

#[test]
fn what_was_changed_by_hand_stops_a_resume_and_what_was_not_does_not() {
    let daemon = Daemon::gated(2);
    let id = paused(&daemon);
    let start = daemon.witness().into_iter().next_back().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(start.pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    // It is gone when the daemon says so.
    let begun = std::time::Instant::now();
    while daemon.json(&["service", "show", "s1"])["containers"][0]["state"] == "running" {
        assert!(begun.elapsed() < crate::harness::PATIENCE);
    }
    let differences = refused(&daemon, id);
    assert_eq!(differences.as_array().unwrap().len(), 1, "{differences:#}");
    assert_eq!(
        (&differences[0]["what"], &differences[0]["task"]),
        (&"runState".into(), &serde_json::Value::Null)
    );
    let shown = daemon.ctl_ends(4, &["resume", &id.to_string()]);
    assert!(shown.contains("s1/c1") && shown.contains("by hand"), "{shown}");
    daemon.ctl_ends(0, &["stop", &id.to_string()]);
    // Nothing was changed: nothing is in the way.
    std::fs::remove_file(daemon.path("open-c1")).unwrap();
    let id = paused(&daemon);
    daemon.ctl_ends(0, &["resume", &id.to_string()]);
    daemon.release("c2");
    daemon.until_state(id, "SUCCEEDED");
}
