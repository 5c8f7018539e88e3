//! Dry runs: what would be done, what would fail now, and how long it should take; nothing is changed.

use crate::harness::{Daemon, items};
use crate::http::PackageServer;
use crate::push::push;

#[test]
fn a_dry_run_says_what_would_fail_now_and_how_long_it_should_take() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.add(2, &[("d1", "")], "build: { command: [/bin/true], output: out }");
    daemon.add(3, &[("e1", "")], &daemon.gate());
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon, "app", &[("x", "1")], "main");
    let server = PackageServer::new();
    let package = format!(", httpSrcUri: '{}'", server.url("/1.tar"));
    let good = items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package)]);
    daemon.executed("good", &good, "SUCCEEDED");
    let preview = daemon.json(&["execute", "good", "--dry-run"]);
    assert_eq!(preview["batches"][0]["dominatedBy"], "s1");
    assert_eq!(preview["batches"][0]["deployments"][0]["usual"]["samples"], 1);
    assert_eq!(preview["expected"], preview["batches"][0]["expected"]);
    assert_eq!(preview["expected"]["unseen"], 0);
    assert_eq!(preview["problems"], serde_json::json!([]));

    let running = daemon.execute("running", &items(&[(3, 0, "START", "")]));
    daemon.until(running, |event| event["type"] == "operation.begun");
    let missing = format!(", httpSrcUri: '{}'", server.url("/404.tar"));
    let branch = ", compileRepoPath: app, compileRepoBranch: other";
    let bad = [(1, 0, "HTTP_UPLOAD_DEPLOY", &*missing), (2, 0, "COMPILE_DEPLOY", branch), (3, 0, "STOP", "")];
    let file = daemon.write("bad.yaml", &items(&bad));
    let shown = daemon.ctl_ends(1, &["execute", "-f", file.to_str().unwrap(), "--dry-run"]);
    for part in ["404", "no branch other", &format!("task {running}")] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // Nothing was done.
    assert_eq!(daemon.json(&["list"])["tasks"].as_array().unwrap().len(), 2);
    daemon.release("e1");
    daemon.until_state(running, "SUCCEEDED");
}

#[test]
fn a_dry_run_says_from_which_release_to_which_as_far_as_that_is_known() {
    let mut daemon = Daemon::new();
    let needs = format!("run:\n  command: [./run]\n{}", crate::harness::user());
    daemon.add_running(1, &[("c1", "one"), ("c2", "two")], &needs, "");
    daemon.add(
        2,
        &[("d1", "")],
        "build: { command: [/bin/sh, -c, 'mkdir out; cp source out/'], output: out }",
    );
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon, "app", &[("source", "1")], "main");
    let branch = ", compileRepoPath: app, compileRepoBranch: main";
    let look = |items_: &[(u64, i64, &str, &str)], code| {
        let file = daemon.write("look.yaml", &items(items_));
        let all = ["execute", "-f", file.to_str().unwrap(), "--dry-run", "-o", "json"];
        let said: serde_json::Value = serde_json::from_str(&daemon.ctl_ends(code, &all)).unwrap();
        said
    };
    // Never built: the commit is known, the release is not.
    let compile = [(2, 0, "COMPILE_DEPLOY", branch)];
    let new = &look(&compile, 0)["batches"][0]["deployments"][0];
    assert_eq!(new["source"], "branch main of app");
    assert_eq!(new["commit"].as_str().unwrap().len(), 40);
    assert!(new["toRelease"].is_null() && new["isHere"] == false && new["usual"].is_null());
    daemon.executed("first", &items(&compile), "SUCCEEDED");
    let has = daemon.report(1)["deployments"][0]["release"].as_str().unwrap().to_string();
    let again = &look(&compile, 0)["batches"][0]["deployments"][0];
    assert_eq!((&again["commit"], &again["toRelease"]), (&new["commit"], &has.clone().into()));
    assert_eq!(again["isHere"], true);
    let container = &again["containers"][0];
    assert_eq!((&container["fromRelease"], &container["toRelease"]), (&has.clone().into(), &has.into()));

    // A package that the plan pins has its name already. What a batch finds is what those before it leave.
    let sha256 = "ab".repeat(32);
    let server = PackageServer::new();
    let package = format!(", httpSrcUri: '{}', httpSrcSha256: {sha256}", server.url("/1.tar"));
    let plan = [
        (2, 3, "STOP", ""),
        (1, 2, "HTTP_UPLOAD_DEPLOY", &*format!("{package}, deployLabel: one")),
        (2, 1, "STOP", ""),
        (1, 1, "RESTART", ""),
    ];
    let seen = look(&plan, 1);
    let problems = seen["problems"].as_array().unwrap();
    assert!(problems.len() == 1 && problems[0].as_str().unwrap().starts_with("c2 of s1 has no release"));
    let found = |batch: usize, deployment: usize, container: usize| {
        let it = &seen["batches"][batch]["deployments"][deployment]["containers"][container];
        (it["running"] == true, it["unchanged"] == true, it["fromRelease"].clone(), it["toRelease"].clone())
    };
    assert_eq!((found(0, 0, 0).0, found(0, 0, 0).1), (true, false));
    assert_eq!((found(2, 0, 0).0, found(2, 0, 0).1), (false, true));
    assert_eq!((found(1, 0, 0).2, found(1, 0, 0).3), (serde_json::Value::Null, "abababababab".into()));
    assert_eq!((found(2, 1, 0).0, found(2, 1, 0).2), (true, "abababababab".into()));
    // Never stopped before, never restarted: no forecast, and that is said.
    assert_eq!(seen["batches"][0]["expected"], serde_json::Value::Null);
    let file = daemon.write("look.yaml", &items(&plan));
    let shown = daemon.ctl_ends(1, &["execute", "-f", file.to_str().unwrap(), "--dry-run"]);
    for part in ["UNCHANGED", "s1: a release from http://", "nothing of it was ever done here"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
