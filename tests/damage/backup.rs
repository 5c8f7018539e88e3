//! A backup is taken while the daemon works, and another daemon goes on from it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Daemon, items};
use crate::{put, refused};

#[test]
fn a_backup_taken_in_the_middle_of_a_task_is_resumed_by_another_daemon() {
    let first = Daemon::gated(3);
    first.release("c3");
    first.executed("before", &items(&[(3, 0, "START", "")]), "SUCCEEDED");
    let id = first.execute("release", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    first.until(id, |event| event["type"] == "operation.begun");
    // An older backup of this name is replaced as a whole.
    first.write("backup", "an older one");
    first.ctl_ends(0, &["backup", "backup"]);
    let backup = first.path("backup");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o7777, 0o600);
    // What happens after it is not in it, and it disturbed nothing.
    first.release("c1");
    first.release("c2");
    first.until_state(id, "SUCCEEDED");
    first.executed("end", &items(&[(1, 0, "STOP", ""), (2, 0, "STOP", "")]), "SUCCEEDED");

    let mut second = Daemon::new();
    fs::create_dir(second.path("state")).unwrap();
    put(&second.path("state/deployd.redb"), &fs::read(&backup).unwrap());
    second.launch();
    let task = second.task(id);
    assert_eq!((&task["state"], &task["reason"]), (&"INTERRUPTED".into(), &"daemonDied".into()));
    assert_eq!(second.report(1)["task"]["state"], "SUCCEEDED");
    let instance = |daemon: &Daemon| daemon.call("GET", "/v1/info", "").1["instance"].clone();
    assert_eq!(instance(&first), instance(&second));
    second.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    // The task has its services' definitions with it: what they start writes into the first one's ledger.
    let started: Vec<_> = first.witness().into_iter().map(|start| start.container).collect();
    assert_eq!(started, ["c3", "c1", "c2", "c1", "c2"]);
}

#[test]
fn after_a_restore_what_was_done_since_the_backup_is_found_done() {
    let mut daemon = Daemon::gated(2);
    let id = daemon.execute("release", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    daemon.ctl_ends(0, &["backup", "backup"]);
    daemon.release("c1");
    daemon.release("c2");
    daemon.until_state(id, "SUCCEEDED");
    daemon.kill_9();
    put(&daemon.path("state/deployd.redb"), &fs::read(daemon.path("backup")).unwrap());
    daemon.launch();
    assert_eq!(daemon.task(id)["state"], "INTERRUPTED");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    let started: Vec<_> = daemon.witness().into_iter().map(|start| start.container).collect();
    assert_eq!(started, ["c1", "c2"], "{:#}", daemon.report(id));
}

#[test]
fn a_backup_that_fails_leaves_nothing() {
    let daemon = Daemon::gated(1);
    let said = daemon.ctl_ends(1, &["backup", "nowhere/backup"]);
    assert!(said.contains("cannot write nowhere/backup"), "{said}");
    fs::create_dir(daemon.path("taken")).unwrap();
    daemon.ctl_ends(1, &["backup", "taken"]);
    for directory in ["", "state"] {
        for entry in fs::read_dir(daemon.path(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("tmp"), "{name} is left in {directory:?}");
        }
    }
}

#[test]
fn a_store_that_is_taken_away_ends_the_daemon_and_a_backup_brings_it_back() {
    let mut daemon = Daemon::gated(1);
    let plan = items(&[(1, 0, "START", "")]);
    let store = |name: &str| daemon.http("POST", &format!("/v1/plans?name={name}"), "", &plan).0;
    assert_eq!(store("first"), 201);
    daemon.ctl_ends(0, &["backup", "backup"]);
    let (path, backup) = (daemon.path("state/deployd.redb"), fs::read(daemon.path("backup")).unwrap());
    for takes in ["removed", "replaced"] {
        fs::remove_file(&path).unwrap();
        if takes == "replaced" {
            put(&path, &backup);
        }
        // What was written to a file that has no name any more is not acknowledged.
        let answer =
            daemon.try_http("POST", &format!("/v1/plans?name={takes}"), "", &items(&[(1, 0, "STOP", "")]));
        assert!(answer.is_none_or(|(status, ..)| status >= 500), "{takes}");
        assert_eq!(daemon.wait(), Some(74), "{takes}: {}", daemon.log());
        if takes == "removed" {
            let (code, said) = refused(&daemon);
            assert!(code == Some(65) && said.contains("is missing: restore a backup"), "{said}");
            put(&path, &backup);
        }
        daemon.launch();
        let plans = daemon.call("GET", "/v1/plans", "").1;
        let names: Vec<_> = plans["plans"].as_array().unwrap().iter().map(|plan| &plan["name"]).collect();
        assert_eq!(names, ["first"], "{takes}");
    }
}
