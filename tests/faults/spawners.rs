//! The processes that start containers are killed.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::items;
use crate::scene::{Daemon, assert_starts, resume, state};

const TWO: [(u64, i64, &str, &str); 2] = [(1, 1, "START", ""), (2, 1, "START", "")];

/// A daemon with two services, each of which starts at once.
fn daemon() -> Daemon {
    let mut daemon = Daemon::new();
    for id in [1, 2] {
        daemon.add(id, &[(&format!("c{id}"), "")], "");
    }
    daemon.launch();
    daemon
}

/// Sends a signal to all of its spawners; how many there are.
fn signal_spawners(daemon: &Daemon, signal: Signal) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(daemon.path("state")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("spawner") && name.ends_with(".lock") {
            let pid = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
            kill(Pid::from_raw(pid), signal).unwrap();
            count += 1;
        }
    }
    count
}

/// Waits for its end, and resumes it if the spawner that was asked was just ending.
fn bring_to_its_end(daemon: &Daemon, id: u64) {
    daemon.until(id, |event| matches!(event["type"].as_str(), Some("task.succeeded" | "task.interrupted")));
    if state(daemon, id).0 == "INTERRUPTED" {
        resume(daemon, id);
    }
    assert_eq!(state(daemon, id).0, "SUCCEEDED");
}

#[test]
fn what_a_killed_spawner_had_started_runs_on_and_another_one_takes_its_place() {
    let daemon = daemon();
    daemon.executed("up", &items(&TWO), "SUCCEEDED");
    assert!(signal_spawners(&daemon, Signal::SIGKILL) > 0);
    let again = daemon.executed("same", &items(&TWO), "SUCCEEDED");
    let deployments = &daemon.report(again)["deployments"];
    for deployment in deployments.as_array().unwrap() {
        assert_eq!(deployment["operations"][0]["detail"], "already running");
    }
    let plan = items(&[(1, 1, "RESTART", ""), (2, 1, "RESTART", "")]);
    let id = daemon.execute("restart", &plan);
    bring_to_its_end(&daemon, id);
    assert_starts(&daemon, &[("c1", 2), ("c2", 2)]);
}

/// What it had not begun is never begun; the task says so, and its resume does it.
#[test]
fn what_a_spawner_was_asked_for_before_it_was_killed_is_done_once() {
    let daemon = daemon();
    assert!(signal_spawners(&daemon, Signal::SIGSTOP) > 0);
    let id = daemon.execute("up", &items(&TWO));
    daemon.until(id, |event| event["type"] == "operation.begun");
    signal_spawners(&daemon, Signal::SIGKILL);
    bring_to_its_end(&daemon, id);
    assert_starts(&daemon, &[("c1", 1), ("c2", 1)]);
}
