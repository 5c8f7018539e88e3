//! Plans out of tasks, checked by executing them.

use std::fs;

use serde_json::Value;

use crate::harness::{Daemon, items};
use crate::http::PackageServer;
use crate::push::push;

fn current(daemon: &Daemon, service: u64, container: &str) -> String {
    let link = format!("state/services/s{service}/containers/{container}/current");
    fs::read_link(daemon.path(&link)).unwrap().file_name().unwrap().to_string_lossy().into_owned()
}

/// Each container's run state and release.
fn world(daemon: &Daemon) -> Vec<(String, bool, Value)> {
    let list = daemon.json(&["service", "list"]);
    let services = list["services"].as_array().unwrap();
    let containers = services.iter().flat_map(|service| service["containers"].as_array().unwrap());
    let seen = containers.map(|container| {
        let name = container["name"].as_str().unwrap().to_string();
        (name, container["state"] == "running", container["release"].clone())
    });
    seen.collect()
}

fn back(daemon: &Daemon, id: u64) -> String {
    let plan = daemon.ctl_ends(0, &["rollback-plan", &id.to_string()]);
    let taken = daemon.executed(&format!("back-{id}"), &plan, "SUCCEEDED");
    assert!(taken > id);
    plan
}

#[test]
fn after_a_rollback_everything_is_as_it_was() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "one"), ("c2", "two")], "releases: { keep: 1 }");
    daemon.add(2, &[("d1", "")], "");
    daemon.add(3, &[("e1", "")], "build: { command: [/bin/sh, build.sh], output: out }");
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon, "app", &[("build.sh", "mkdir out; cp source out/"), ("source", "1")], "main");
    let server = PackageServer::new();
    let package = |version: u64| format!(", httpSrcUri: '{}'", server.url(&format!("/{version}.tar")));
    let compile = ", compileRepoPath: app, compileRepoBranch: main";
    // Two containers of one service with releases of their own, one of them down.
    let one = format!("{}, deployLabel: one", package(1));
    let two = format!("{}, deployLabel: two", package(2));
    daemon.executed("one", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &one)]), "SUCCEEDED");
    daemon.executed("two", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &two)]), "SUCCEEDED");
    daemon.executed(
        "down",
        &items(&[(1, 0, "STOP", ", deployLabel: two"), (2, 0, "START", "")]),
        "SUCCEEDED",
    );
    daemon.executed("built", &items(&[(3, 0, "COMPILE_DEPLOY", compile)]), "SUCCEEDED");
    let before = world(&daemon);

    push(&daemon, "app", &[("source", "2")], "main");
    let new = package(3);
    let plan = [
        (2, 3, "STOP", ""),
        (1, 2, "HTTP_UPLOAD_DEPLOY", &*new),
        (3, 2, "COMPILE_DEPLOY", compile),
        (2, 1, "START", ""),
    ];
    let id = daemon.executed("new", &items(&plan), "SUCCEEDED");
    assert_ne!(world(&daemon), before);
    let asked = (server.count("/1.tar"), server.count("/2.tar"));
    let text = back(&daemon, id);
    assert_eq!(world(&daemon), before, "{text}");
    // What is pinned comes out of the store of artifacts, although its release was removed.
    assert_eq!((server.count("/1.tar"), server.count("/2.tar")), asked);
    let order: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("deployment: ")).collect();
    assert_eq!(order.first(), Some(&"STOP"), "{text}");
    assert_eq!(order.last(), Some(&"START"), "{text}");
    assert_ne!(current(&daemon, 1, "c1"), current(&daemon, 1, "c2"));
}

#[test]
fn what_was_not_changed_is_not_taken_back_and_what_cant_be_is_said() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "hooks: { postDeploy: [/bin/true] }\nsharedPaths: [data]");
    daemon.add(2, &[("d1", "")], "");
    daemon.launch();
    let server = PackageServer::new();
    daemon.executed("up", &items(&[(2, 0, "START", "")]), "SUCCEEDED");
    // Unchanged, restarted: nothing to take back.
    let id = daemon.executed("same", &items(&[(2, 1, "START", ""), (2, 0, "RESTART", "")]), "SUCCEEDED");
    let said = daemon.ctl_ends(4, &["rollback-plan", &id.to_string()]);
    assert!(said.contains("nothing of task") && said.contains("s2/d1 was restarted"), "{said}");
    let (status, problem) = daemon.call("GET", &format!("/v1/tasks/{id}/rollback-plan"), "");
    assert_eq!((status, &problem["code"]), (409, &"nothingToDo".into()));
    // The first release ever.
    let package = format!(", httpSrcUri: '{}'", server.url("/1.tar"));
    let id = daemon.executed("first", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package)]), "SUCCEEDED");
    let text = back(&daemon, id);
    for part in ["it had no release before", "what postDeploy of s1 has done", "shared paths (data)"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!world(&daemon)[0].1);
    daemon.ctl_ends(3, &["rollback-plan", "99"]);
}

#[test]
fn what_a_task_did_not_get_done_is_done_by_its_retry_plan() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", ""), ("c2", ""), ("c3", "")], "");
    let mended = daemon.path("mended").display().to_string();
    let script = format!("[ $DEPLOYD_CONTAINER != b2 ] || test -e {mended} || exit 1; exec sleep 1000");
    let run = format!("run:\n  command: [/bin/sh, -c, '{script}']\n{}", crate::harness::user());
    daemon.add_running(2, &[("b1", ""), ("b2", ""), ("b3", "")], &run, "health: { settle: 300ms }");
    daemon.launch();
    let server = PackageServer::new();
    let package = format!(", httpSrcUri: '{}'", server.url("/1.tar"));
    let plan = items(&[(2, 1, "HTTP_UPLOAD_DEPLOY", &package), (1, 0, "START", "")]);
    let id = daemon.executed("plan", &plan, "FAILED");
    let sha256 = daemon.report(id)["deployments"][0]["artifact"]["sha256"].as_str().unwrap().to_string();
    let text = daemon.ctl_ends(0, &["retry-plan", &id.to_string()]);
    assert!(text.contains(&sha256) && text.contains("\"b2,b3\""), "{text}");
    daemon.write("mended", "");
    let again = daemon.executed("again", &text, "SUCCEEDED");
    let report = daemon.report(again);
    let done = report["deployments"][0]["operations"].as_array().unwrap();
    assert_eq!(done.iter().map(|done| &done["container"]).collect::<Vec<_>>(), ["b2", "b3"]);
    assert!(world(&daemon).iter().all(|container| container.1));
    daemon.ctl_ends(4, &["retry-plan", &again.to_string()]);
}
