//! Preparation in advance: the downloads and builds of later batches begin while an earlier one runs, and no
//! container is touched before its batch's turn.

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Daemon, PATIENCE, items};
use crate::http::PackageServer;
use crate::push::push;

const BUILD: &str = "build: { command: [/bin/sh, -c, 'mkdir out; cp source out/'], output: out }";
const BRANCH: &str = ", compileRepoPath: app, compileRepoBranch: main";

/// Service 1 waits for the test while its batch runs; 2 and 3 are deployed after it.
fn house(configuration: &str) -> (Daemon, PackageServer) {
    let mut daemon = Daemon::new();
    daemon.write("deployd.yaml", configuration);
    daemon.add(1, &[("c1", "")], &daemon.gate());
    daemon.add(2, &[("c2", "")], "");
    daemon.add(3, &[("c3", "")], BUILD);
    daemon.launch();
    (daemon, PackageServer::new())
}

fn plan(server: &PackageServer, path: &str, third: (&str, &str)) -> String {
    let package = format!(", httpSrcUri: '{}'", server.url(path));
    items(&[(1, 2, "START", ""), (2, 1, "HTTP_UPLOAD_DEPLOY", &package), (3, 0, third.0, third.1)])
}

fn executed(daemon: &Daemon, plan: &str) -> u64 {
    let id = daemon.execute("plan", plan);
    daemon.until(id, |event| event["type"] == "operation.begun");
    id
}

fn is_about(event: &Value, kind: &str, service: u64) -> bool {
    event["type"] == kind && event["serviceId"] == service
}

/// The states of the deployments.
fn states(daemon: &Daemon, id: u64) -> Vec<String> {
    let report = daemon.report(id);
    let deployments = report["deployments"].as_array().unwrap();
    deployments.iter().map(|it| it["state"].as_str().unwrap().to_string()).collect()
}

/// Where in the journal of a task this is; each has to be there once.
fn at(daemon: &Daemon, id: u64, kind: &str, service: u64) -> u64 {
    let report = daemon.report(id);
    let events = report["events"].as_array().unwrap();
    let found: Vec<_> = events.iter().filter(|event| is_about(event, kind, service)).collect();
    assert_eq!(found.len(), 1, "{kind} of {service}: {events:#?}");
    found[0]["seq"].as_u64().unwrap()
}

fn assert_untouched(daemon: &Daemon, service: u64) {
    let containers = format!("state/services/s{service}/containers");
    assert!(!daemon.path(&containers).exists(), "a container of service {service} was touched");
    assert!(daemon.witness().iter().all(|start| start.container != format!("c{service}")));
}

#[test]
fn what_later_batches_need_is_ready_before_the_batch_before_has_ended() {
    let (daemon, server) = house("prefetch: true\n");
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    let first = push(&daemon, "app", &[("source", "1")], "main");
    let id = executed(&daemon, &plan(&server, "/1.tar", ("COMPILE_DEPLOY", BRANCH)));
    for service in [2, 3] {
        daemon.until(id, |event| is_about(event, "deployment.releasePrepared", service));
        assert_untouched(&daemon, service);
    }
    assert_eq!(states(&daemon, id), ["RUNNING", "PENDING", "PENDING"]);
    // The commit was pinned then; a release that somebody has removed since is made again of its artifact.
    let second = push(&daemon, "app", &[("source", "2")], "main");
    fs::remove_dir_all(daemon.path("state/services/s2/releases")).unwrap();
    daemon.release("c1");
    daemon.until_state(id, "SUCCEEDED");
    assert!(
        at(&daemon, id, "deployment.artifactPinned", 2) < at(&daemon, id, "deployment.ended", 1),
        "the package came after the first batch"
    );
    assert!(at(&daemon, id, "deployment.begun", 2) > at(&daemon, id, "deployment.ended", 1));
    assert!(at(&daemon, id, "deployment.begun", 3) > at(&daemon, id, "deployment.ended", 2));
    assert_eq!(server.count("/1.tar"), 1);
    let built = fs::read_to_string(daemon.path("state/services/s3/containers/c3/current/source")).unwrap();
    assert_eq!(built, "1");
    let report = daemon.report(id);
    let notes = report["deployments"][2]["notes"].to_string();
    assert!(notes.contains(&first) && notes.contains(&second), "{notes}");
}

#[test]
fn without_it_nothing_is_fetched_before_its_turn() {
    let (daemon, server) = house("");
    let id = executed(&daemon, &plan(&server, "/1.tar", ("START", "")));
    daemon.release("c1");
    daemon.until_state(id, "SUCCEEDED");
    assert!(at(&daemon, id, "deployment.artifactPinned", 2) > at(&daemon, id, "deployment.begun", 2));
}

#[test]
fn a_pause_does_not_wait_for_it_and_nothing_is_left_half_done() {
    let (daemon, server) = house("prefetch: true\n");
    let id = executed(&daemon, &plan(&server, "/held.tar", ("START", "")));
    server.until_asked("/held.tar");
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    daemon.release("c1");
    // The server still holds the package.
    daemon.until_state(id, "PAUSED");
    assert_eq!(states(&daemon, id), ["SUCCEEDED", "PENDING", "PENDING"]);
    assert_untouched(&daemon, 2);
    let begun = Instant::now();
    let parts = || fs::read_dir(daemon.path("state/artifacts")).unwrap().flatten();
    while parts().any(|entry| entry.path().extension().is_some_and(|it| it == "part")) {
        assert!(begun.elapsed() < PATIENCE, "the download goes on");
        std::thread::yield_now();
    }
    server.release();
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    assert_eq!(server.count("/held.tar"), 2);
}

#[test]
fn what_a_stop_holds_back_is_skipped_and_what_was_fetched_is_kept() {
    let (daemon, server) = house("prefetch: true\n");
    let id = executed(&daemon, &plan(&server, "/1.tar", ("START", "")));
    daemon.until(id, |event| is_about(event, "deployment.releasePrepared", 2));
    daemon.ctl_ends(0, &["stop", &id.to_string()]);
    daemon.release("c1");
    daemon.until_state(id, "STOPPED");
    assert_eq!(states(&daemon, id), ["SUCCEEDED", "SKIPPED", "SKIPPED"]);
    assert_untouched(&daemon, 2);
    let retry = daemon.ctl_ends(0, &["retry-plan", &id.to_string()]);
    daemon.executed("retry", &retry, "SUCCEEDED");
    assert_eq!(server.count("/1.tar"), 1);
}

#[test]
fn after_a_kill_only_what_was_not_complete_is_fetched_again() {
    let (mut daemon, server) = house("prefetch: true\n");
    let held = format!(", httpSrcUri: '{}'", server.url("/held.tar"));
    let id = executed(&daemon, &plan(&server, "/1.tar", ("HTTP_UPLOAD_DEPLOY", &held)));
    server.until_asked("/held.tar");
    daemon.until(id, |event| is_about(event, "deployment.artifactPinned", 2));
    daemon.kill_9();
    daemon.launch();
    daemon.until_state(id, "INTERRUPTED");
    assert_eq!(states(&daemon, id), ["INTERRUPTED", "PENDING", "PENDING"]);
    server.release();
    daemon.release("c1");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    assert_eq!((server.count("/1.tar"), server.count("/held.tar")), (1, 2));
    assert_eq!(daemon.witness().len(), 3);
}

#[test]
fn what_fails_in_advance_is_a_failure_only_when_its_turn_comes() {
    for (path, ends) in [("/later.tar", "SUCCEEDED"), ("/404.tar", "FAILED")] {
        let (daemon, server) = house("prefetch: true\n");
        let id = executed(&daemon, &plan(&server, path, ("START", "")));
        server.until_asked(path);
        assert_eq!(states(&daemon, id)[..2], ["RUNNING", "PENDING"]);
        daemon.release("c1");
        daemon.until_state(id, ends);
        assert_eq!(server.count(path), 2, "once in advance, and once when its turn came");
        assert!(at(&daemon, id, "deployment.begun", 2) > at(&daemon, id, "deployment.ended", 1));
        assert!(daemon.ctl_ends(0, &["logs", &id.to_string()]).contains("not prepared in advance"));
    }
}
