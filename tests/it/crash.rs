//! The daemon is killed, or ends: nothing is lost, nothing that was done is done again.

use std::collections::BTreeMap;

use crate::harness::{Daemon, items};
use crate::http::PackageServer;

/// Four services in three batches, and what runs before.
fn stage(server: &PackageServer) -> (Daemon, String) {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("a1", ""), ("a2", "")], "");
    daemon.add(2, &[("b1", ""), ("b2", "")], "");
    daemon.add(3, &[("c1", "")], "");
    daemon.add(4, &[("d1", "")], "");
    daemon.launch();
    daemon.executed("before", &items(&[(3, 0, "START", ""), (4, 0, "START", "")]), "SUCCEEDED");
    let package = format!(", containerExecMethod: PARALLEL, httpSrcUri: '{}'", server.url("/ok.tar"));
    let plan = items(&[
        (1, 3, "START", ""),
        (4, 3, "STOP", ""),
        (2, 2, "HTTP_UPLOAD_DEPLOY", &package),
        (3, 1, "RESTART", ""),
    ]);
    (daemon, plan)
}

/// How often each container was started: what an undisturbed release comes to.
fn expected() -> BTreeMap<String, usize> {
    [("a1", 1), ("a2", 1), ("b1", 1), ("b2", 1), ("c1", 2), ("d1", 1)]
        .map(|(name, count)| (name.to_string(), count))
        .into()
}

fn starts(daemon: &Daemon) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    let mut operations = BTreeMap::new();
    for start in daemon.witness() {
        *starts.entry(start.container).or_default() += 1;
        *operations.entry(start.operation).or_default() += 1;
    }
    let twice: Vec<_> = operations.into_iter().filter(|(_, count): &(_, usize)| *count > 1).collect();
    assert!(twice.is_empty(), "carried out more than once: {twice:?}");
    starts
}

fn state(daemon: &Daemon, id: u64) -> (String, String) {
    let task = daemon.task(id);
    let text = |key: &str| task[key].as_str().unwrap_or_default().to_string();
    (text("state"), text("reason"))
}

/// Kills the daemon after the n-th event of the release, and once more after the n-th event that
/// follows the resume; true when the release had ended before.
fn killed_after(n: usize, twice: bool) -> bool {
    let server = PackageServer::new();
    let (mut daemon, plan) = stage(&server);
    let id = daemon.execute("release", &plan);
    let mut was_over = follow(&daemon, id, 0, n);
    let seen = last(&daemon, id);
    daemon.kill_9();
    daemon.launch();
    if twice && state(&daemon, id).0 == "INTERRUPTED" {
        daemon.ctl_ends(0, &["resume", &id.to_string()]);
        follow(&daemon, id, seen, n);
        daemon.kill_9();
        daemon.launch();
    }
    match &*state(&daemon, id).0 {
        "INTERRUPTED" => {
            assert_eq!(state(&daemon, id).1, "daemonDied");
            daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
            was_over = false;
        }
        "SUCCEEDED" => {}
        other => panic!("killed after event {n}, the task is {other}"),
    }
    assert_eq!(state(&daemon, id).0, "SUCCEEDED", "killed after event {n}: {:#}", daemon.report(id));
    assert_eq!(starts(&daemon), expected(), "killed after event {n}: {:#}", daemon.report(id));
    let shown = daemon.json(&["service", "list"]);
    let running = |id: usize, container: usize| {
        shown["services"][id - 1]["containers"][container]["state"] == "running"
    };
    assert!(
        running(1, 0) && running(1, 1) && running(2, 0) && running(2, 1) && running(3, 0) && !running(4, 0)
    );
    assert_eq!(server.count("/ok.tar").min(2), server.count("/ok.tar"), "fetched again and again");
    was_over
}

/// Reads `n` events after event number `after`; true when the task has ended by then.
fn follow(daemon: &Daemon, id: u64, after: u64, n: usize) -> bool {
    let mut events = daemon.events(&format!("task={id}&after={after}"));
    for _ in 0..n {
        let event = events.next().unwrap();
        if event["type"] == "task.succeeded" {
            return true;
        }
    }
    false
}

fn last(daemon: &Daemon, id: u64) -> u64 {
    let report = daemon.report(id);
    report["events"].as_array().unwrap().last().unwrap()["seq"].as_u64().unwrap()
}

#[test]
fn killed_after_each_event() {
    let mut n = 1;
    while !killed_after(n, false) {
        n += 1;
    }
    // The journal of this release has 26 events: the stop rule must not come early.
    assert!(n >= 20, "only {n} events were seen");
}

#[test]
fn killed_twice() {
    for n in [2, 5, 8, 11] {
        killed_after(n, true);
    }
}

#[test]
fn containers_outlive_the_daemon_and_a_shutdown_is_no_failure() {
    let mut daemon = Daemon::gated(2);
    daemon.write("deployd.yaml", "shutdownGrace: 60s\n");
    daemon.terminate();
    daemon.launch();
    let id = daemon.execute("plan", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    // What is going on may end within the grace, and nothing new begins.
    daemon.release("c1");
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!daemon.socket().exists());
    daemon.launch();
    let (state, reason) = state(&daemon, id);
    if state == "INTERRUPTED" {
        assert_eq!(reason, "daemonShutDown");
    }
    let before: Vec<_> = daemon.witness().iter().map(|start| start.pid).collect();
    daemon.release("c2");
    if state == "INTERRUPTED" {
        daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    }
    assert_eq!(daemon.task(id)["state"], "SUCCEEDED");
    let service = daemon.json(&["service", "show", "s1"]);
    assert_eq!(service["containers"][0]["pid"], before[0]);
}

#[test]
fn a_shutdown_in_the_middle_leaves_the_task_interrupted() {
    let mut daemon = Daemon::gated(2);
    daemon.write("deployd.yaml", "shutdownGrace: 0s\n");
    daemon.terminate();
    daemon.launch();
    let id = daemon.execute("plan", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    assert_eq!(daemon.terminate(), Some(0));
    daemon.launch();
    assert_eq!(state(&daemon, id), ("INTERRUPTED".into(), "daemonShutDown".into()));
    daemon.release("c1");
    daemon.release("c2");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    assert_eq!(starts(&daemon).len(), 2);
}

#[test]
fn paused_and_interrupted_survive_everything() {
    let mut daemon = Daemon::gated(3);
    let plan = items(&[(1, 1, "START", ""), (2, 0, "START", "")]);
    let paused = daemon.execute("paused", &plan);
    daemon.until(paused, |event| event["type"] == "operation.begun");
    daemon.ctl_ends(0, &["pause", &paused.to_string()]);
    daemon.release("c1");
    daemon.until_state(paused, "PAUSED");
    let cut = daemon.execute("cut", &items(&[(3, 0, "START", "")]));
    daemon.until(cut, |event| event["type"] == "operation.begun");
    for _ in 0..2 {
        daemon.kill_9();
        daemon.launch();
        assert_eq!(state(&daemon, paused), ("PAUSED".into(), "pausedByUser".into()));
        assert_eq!(state(&daemon, cut), ("INTERRUPTED".into(), "daemonDied".into()));
    }
    daemon.release("c2");
    daemon.release("c3");
    daemon.ctl_ends(0, &["resume", &paused.to_string(), &cut.to_string(), "--wait"]);
    assert_eq!(starts(&daemon).len(), 3);
}

#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let daemon = Daemon::gated(1);
    let second = daemon.command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    daemon.ctl_ends(0, &["list"]);
}

#[test]
fn a_store_that_is_no_store_is_refused_and_left_untouched() {
    let mut daemon = Daemon::gated(1);
    daemon.terminate();
    let path = daemon.path("state/deployd.redb");
    std::fs::write(&path, b"this is no store").unwrap();
    let refused = daemon.command().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("left untouched"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), b"this is no store");
}
