//! The drift guard where an operation is in doubt: what a later task did is not run over, and no id is started twice.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Daemon, PATIENCE, items};
use crate::http::PackageServer;

/// A service of two containers whose health checks wait for the test.
fn stage() -> Daemon {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", ""), ("c2", "")], &daemon.gate());
    daemon.launch();
    daemon
}

fn open(daemon: &Daemon) {
    daemon.release("c1");
    daemon.release("c2");
}

fn shut(daemon: &Daemon) {
    for name in ["open-c1", "open-c2"] {
        std::fs::remove_file(daemon.path(name)).ok();
    }
}

fn until(daemon: &Daemon, what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < PATIENCE, "{}", daemon.log());
        std::thread::yield_now();
    }
}

/// Executes a plan, or carries out a command, and kills the daemon when that started `starts` containers which do not
/// count as up yet.
fn killed_in_the_middle(daemon: &mut Daemon, starts: usize, begin: impl Fn(&Daemon) -> u64) -> u64 {
    shut(daemon);
    let before = daemon.witness().len();
    let id = begin(daemon);
    until(daemon, || daemon.witness().len() == before + starts);
    daemon.kill_9();
    daemon.launch();
    assert_eq!(daemon.task(id)["state"], "INTERRUPTED");
    open(daemon);
    id
}

fn no_id_was_started_twice(daemon: &Daemon) {
    let mut ids = BTreeSet::new();
    for start in daemon.witness() {
        assert!(ids.insert(start.operation.clone()), "{} was started twice", start.operation);
    }
}

/// What differs, when a resume is refused for it.
fn refused(daemon: &Daemon, id: u64) -> Vec<Value> {
    daemon.ctl_ends(4, &["resume", &id.to_string()]);
    let (status, problem) = daemon.call("POST", &format!("/v1/tasks/{id}/resume"), "");
    assert_eq!((status, &problem["code"]), (409, &"drifted".into()), "{problem:#}");
    problem["differences"].as_array().unwrap().clone()
}

fn containers(differences: &[Value]) -> BTreeSet<&str> {
    differences.iter().map(|difference| difference["container"].as_str().unwrap()).collect()
}

fn operations(daemon: &Daemon, id: u64) -> Vec<Value> {
    daemon.report(id)["deployments"][0]["operations"].as_array().unwrap().clone()
}

const BOTH: &str = ", containerExecMethod: PARALLEL";

#[test]
fn a_later_task_is_not_run_over_and_a_forced_resume_begins_anew() {
    let server = PackageServer::new();
    let package = format!("{BOTH}, httpSrcUri: '{}'", server.url("/ok.tar"));
    for (way, more) in [("START", BOTH), ("RESTART", BOTH), ("HTTP_UPLOAD_DEPLOY", &*package)] {
        let mut daemon = stage();
        let plan = items(&[(1, 0, way, more)]);
        let id = killed_in_the_middle(&mut daemon, 2, |daemon| daemon.execute("release", &plan));
        let doubtful: Vec<String> = daemon.witness().into_iter().map(|start| start.operation).collect();
        let hotfix = daemon.executed("hotfix", &items(&[(1, 0, "RESTART", BOTH)]), "SUCCEEDED");
        let differences = refused(&daemon, id);
        assert_eq!(containers(&differences), BTreeSet::from(["c1", "c2"]), "{way}: {differences:#?}");
        assert!(differences.iter().all(|difference| difference["task"] == hotfix), "{differences:#?}");
        daemon.ctl_ends(0, &["resume", &id.to_string(), "--force", "--wait"]);
        no_id_was_started_twice(&daemon);
        let shown = daemon.ctl_ends(0, &["report", &id.to_string()]);
        for operation in operations(&daemon, id) {
            assert_eq!((&operation["forced"], &operation["settled"]), (&true.into(), &Value::Null), "{way}");
            let (earlier, now) = (&operation["earlierIds"][0], operation["operationId"].as_str().unwrap());
            assert!(doubtful.iter().any(|id| earlier == id.as_str()), "{operation:#}");
            let detail = operation["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("forced: its container changed by task {hotfix}")), "{detail}");
            assert!(shown.contains(now) && shown.contains(detail), "{shown}");
            // START leaves alone what the other task has started.
            let started = daemon.witness().iter().any(|start| start.operation == now);
            assert_eq!((started, &operation["state"] == "UNCHANGED"), (way != "START", way == "START"));
        }
        let events = daemon.report(id)["events"].as_array().unwrap().clone();
        let renewed: Vec<_> = events.iter().filter(|event| event["type"] == "operation.renewed").collect();
        assert_eq!(renewed.len(), 2);
        assert!(renewed.iter().all(|event| event["forced"] == true && event["earlierId"].is_string()));
    }
}

#[test]
fn a_stop_in_doubt_does_not_stop_what_a_later_task_started() {
    let mut daemon = Daemon::new();
    let (witness, go) = (daemon.path("witness"), daemon.path("go"));
    let script = format!(
        "echo $DEPLOYD_CONTAINER $DEPLOYD_OPERATION $$ $(date +%s.%N) >> {}; \
         trap 'until test -e {}; do sleep 0.01; done; exit 0' TERM; sleep 1000 & wait; wait",
        witness.display(),
        go.display()
    );
    let script = serde_json::to_string(&script).unwrap();
    let run =
        format!("run:\n  command: [/bin/sh, -c, {script}]\n{}  stopTimeout: 50s\n", crate::harness::user());
    daemon.add_running(1, &[("c1", "")], &run, "");
    daemon.launch();
    daemon.executed("before", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let stop = daemon.execute("stop", &items(&[(1, 0, "STOP", "")]));
    daemon.until(stop, |event| event["type"] == "operation.begun");
    daemon.kill_9();
    daemon.launch();
    // It was told to end, or is told now; as long as it runs, or has ended, nothing is in the way of a resume.
    std::fs::write(&go, "").unwrap();
    let restart = daemon.executed("restart", &items(&[(1, 0, "RESTART", "")]), "SUCCEEDED");
    let differences = refused(&daemon, stop);
    assert_eq!(differences[0]["task"], restart, "{differences:#?}");
    assert_eq!(daemon.json(&["service", "show", "s1"])["containers"][0]["state"], "running");
    daemon.ctl_ends(0, &["resume", &stop.to_string(), "--force", "--wait"]);
    assert_ne!(daemon.json(&["service", "show", "s1"])["containers"][0]["state"], "running");
    assert_eq!(operations(&daemon, stop)[0]["forced"], true);
}

/// Whatever came of the later task: that it was there is enough.
#[test]
fn later_tasks_that_failed_stopped_were_interrupted_or_deleted_count() {
    let mut daemon = stage();
    let restart = items(&[(1, 0, "RESTART", BOTH)]);
    let id = killed_in_the_middle(&mut daemon, 2, |daemon| daemon.execute("release", &restart));
    let by = |daemon: &Daemon, task: u64| {
        let differences = refused(daemon, id);
        assert_eq!(containers(&differences), BTreeSet::from(["c1", "c2"]), "{differences:#?}");
        assert!(differences.iter().all(|it| it["task"] == task), "not by {task}: {differences:#?}");
    };
    let doubtful = killed_in_the_middle(&mut daemon, 2, |daemon| daemon.execute("doubt", &restart));
    by(&daemon, doubtful);
    let stopped = daemon.executed("stop", &items(&[(1, 0, "STOP", BOTH)]), "SUCCEEDED");
    by(&daemon, stopped);
    daemon.ctl_ends(0, &["delete", &stopped.to_string()]);
    daemon.ctl_ends(0, &["delete", &doubtful.to_string()]);
    by(&daemon, stopped);
    // They end as soon as they are started.
    for name in ["c1", "c2"] {
        std::fs::write(daemon.path(&format!("open-{name}")), "").unwrap();
    }
    daemon.add_running(
        1,
        &[("c1", ""), ("c2", "")],
        &format!("run:\n  command: ['false']\n{}", crate::harness::user()),
        "health: { settle: 1s }",
    );
    daemon.ctl_ends(0, &["service", "reload"]);
    let failed = daemon.executed("fail", &restart, "FAILED");
    by(&daemon, failed);
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--force", "--wait"]);
    no_id_was_started_twice(&daemon);
}

#[test]
fn a_forced_resume_that_is_killed_goes_on_under_its_new_id() {
    let mut daemon = stage();
    let restart = items(&[(1, 0, "RESTART", "")]);
    let id = killed_in_the_middle(&mut daemon, 1, |daemon| daemon.execute("release", &restart));
    // One after another: the second container was not begun yet.
    daemon.executed("hotfix", &restart, "SUCCEEDED");
    killed_in_the_middle(&mut daemon, 1, |daemon| {
        daemon.ctl_ends(0, &["resume", &id.to_string(), "--force"]);
        id
    });
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    no_id_was_started_twice(&daemon);
    let done = operations(&daemon, id);
    assert_eq!((&done[0]["forced"], &done[0]["settled"]), (&true.into(), &"foundDone".into()));
    assert_eq!(done[0]["earlierIds"].as_array().unwrap().len(), 1, "{:#}", done[0]);
    assert_eq!((&done[1]["forced"], &done[1]["earlierIds"]), (&Value::Null, &Value::Null));
}

#[test]
fn force_after_force_begins_anew_each_time() {
    let mut daemon = stage();
    let restart = items(&[(1, 0, "RESTART", BOTH)]);
    let id = killed_in_the_middle(&mut daemon, 2, |daemon| daemon.execute("release", &restart));
    for round in 1..=2 {
        let hotfix = daemon.executed("hotfix", &restart, "SUCCEEDED");
        assert!(refused(&daemon, id).iter().all(|difference| difference["task"] == hotfix));
        killed_in_the_middle(&mut daemon, 2, |daemon| {
            daemon.ctl_ends(0, &["resume", &id.to_string(), "--force"]);
            id
        });
        for operation in operations(&daemon, id) {
            assert_eq!(operation["earlierIds"].as_array().unwrap().len(), round, "{operation:#}");
        }
    }
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    no_id_was_started_twice(&daemon);
}

#[test]
fn a_doubt_that_nobody_touched_is_settled_without_force() {
    let mut daemon = stage();
    let id = killed_in_the_middle(&mut daemon, 1, |d| d.execute("release", &items(&[(1, 0, "RESTART", "")])));
    // It leaves alone what runs, and so touches only what does not: the second container.
    let start = daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let differences = refused(&daemon, id);
    assert_eq!(containers(&differences), BTreeSet::from(["c2"]), "{differences:#?}");
    assert_eq!(differences[0]["task"], start);
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--force", "--wait"]);
    // What was in doubt is no drift: also by force it is settled, not begun anew.
    let first = &operations(&daemon, id)[0];
    assert_eq!((&first["settled"], &first["forced"]), (&"foundDone".into(), &Value::Null), "{first:#}");
    no_id_was_started_twice(&daemon);
}

#[test]
fn a_resume_at_the_start_of_the_daemon_never_runs_over_a_later_task() {
    let mut daemon = stage();
    let restart = items(&[(1, 0, "RESTART", BOTH)]);
    let id = killed_in_the_middle(&mut daemon, 2, |daemon| daemon.execute("release", &restart));
    daemon.write("deployd.yaml", "resumeOnStart: true\n");
    // The later task is cut, too: the next daemon resumes that one, and leaves the earlier one alone.
    shut(&daemon);
    let before = daemon.witness().len();
    let hotfix = daemon.execute("hotfix", &restart);
    until(&daemon, || daemon.witness().len() == before + 2);
    daemon.kill_9();
    open(&daemon);
    daemon.launch();
    daemon.until_state(hotfix, "SUCCEEDED");
    assert_eq!(daemon.task(id)["state"], "INTERRUPTED");
    assert!(refused(&daemon, id).iter().all(|difference| difference["task"] == hotfix));
    no_id_was_started_twice(&daemon);
}

#[test]
fn executing_over_a_task_that_rests_warns_of_it_everywhere() {
    let mut daemon = stage();
    let restart = items(&[(1, 0, "RESTART", BOTH)]);
    let id = killed_in_the_middle(&mut daemon, 2, |daemon| daemon.execute("release", &restart));
    let names = |text: &str| text.contains(&format!("task {id} of ")) && text.contains("INTERRUPTED");
    let file = daemon.write("hotfix.yaml", &restart);
    let file = file.to_str().unwrap();
    let dry = daemon.ctl_ends(0, &["execute", "-f", file, "--dry-run"]);
    assert!(dry.contains("warning: ") && names(&dry), "{dry}");
    let dry = daemon.json(&["execute", "-f", file, "--dry-run"]);
    assert!(names(dry["warnings"][0].as_str().unwrap()), "{dry:#}");
    let said = daemon.ctl_ends(0, &["execute", "-f", file, "--wait"]);
    assert!(said.contains("warning: ") && names(&said), "{said}");
    let (status, task) = daemon.call("POST", "/v1/tasks", "{\"plan\": \"hotfix\"}");
    assert!(status == 201 && names(task["warnings"][0].as_str().unwrap()), "{status} {task:#}");
}
