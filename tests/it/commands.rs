//! Every transition and every refusal, from the command line, with its exit codes.

use crate::harness::{Daemon, items};

const PLAN: [(u64, i64, &str, &str); 2] = [(1, 1, "START", ""), (2, 0, "START", "")];

/// A task in each state; nothing else goes on.
struct States {
    daemon: Daemon,
    running: u64,
    stopping: u64,
    pausing: u64,
    succeeded: u64,
    failed: u64,
    stopped: u64,
    paused: u64,
    interrupted: u64,
}

fn begun(daemon: &Daemon, name: &str, plan: &str) -> u64 {
    let id = daemon.execute(name, plan);
    daemon.until(id, |event| event["type"] == "operation.begun");
    id
}

impl States {
    fn new() -> Self {
        let mut daemon = Daemon::new();
        for id in 1..=14 {
            daemon.add(id, &[(&format!("c{id}"), "")], &daemon.gate());
        }
        let run = format!("run:\n  command: [/bin/false]\n{}", crate::harness::user());
        daemon.add_running(20, &[("c20", "")], &run, "health: { settle: 5s }");
        daemon.launch();
        let two = |first: u64, second: u64| items(&[(first, 1, "START", ""), (second, 0, "START", "")]);
        let interrupted = begun(&daemon, "interrupted", &two(1, 2));
        daemon.kill_9();
        daemon.launch();
        let id = |verb: &str, plan: String, opened: Option<&str>, state: &str| {
            let id = begun(&daemon, verb, &plan);
            daemon.ctl_ends(0, &[verb, &id.to_string()]);
            if let Some(container) = opened {
                daemon.release(container);
                daemon.until_state(id, state);
            }
            assert_eq!(daemon.task(id)["state"], state);
            id
        };
        let stopped = id("stop", two(3, 4), Some("c3"), "STOPPED");
        let paused = id("pause", two(5, 6), Some("c5"), "PAUSED");
        let stopping = id("stop", two(7, 8), None, "STOPPING");
        let pausing = id("pause", two(9, 10), None, "PAUSING");
        daemon.release("c13");
        let succeeded = daemon.executed("done", &items(&[(13, 0, "START", "")]), "SUCCEEDED");
        let failed =
            daemon.executed("broken", &items(&[(20, 1, "START", ""), (14, 0, "START", "")]), "FAILED");
        let running = begun(&daemon, "running", &two(11, 12));
        Self { daemon, running, stopping, pausing, succeeded, failed, stopped, paused, interrupted }
    }
}

#[test]
fn every_command_in_every_state() {
    let s = States::new();
    let all = [
        ("RUNNING", s.running),
        ("STOPPING", s.stopping),
        ("PAUSING", s.pausing),
        ("SUCCEEDED", s.succeeded),
        ("FAILED", s.failed),
        ("STOPPED", s.stopped),
        ("PAUSED", s.paused),
        ("INTERRUPTED", s.interrupted),
    ];
    // What is refused changes nothing; asking for what is already so is no error.
    let refused = [
        ("stop", &["SUCCEEDED", "FAILED"][..]),
        ("pause", &["STOPPING", "SUCCEEDED", "FAILED", "STOPPED", "INTERRUPTED"]),
        ("resume", &["STOPPING", "PAUSING", "SUCCEEDED", "FAILED", "STOPPED"]),
        ("delete", &["RUNNING", "STOPPING", "PAUSING"]),
    ];
    for (verb, states) in refused {
        for (state, id) in all.iter().filter(|(state, _)| states.contains(state)) {
            let said = s.daemon.ctl_ends(4, &[verb, &id.to_string()]);
            assert!(said.contains(state), "{verb} in {state}: {said}");
            assert_eq!(s.daemon.task(*id)["state"], *state);
            let (method, path) = match verb {
                "delete" => ("DELETE", format!("/v1/tasks/{id}")),
                verb => ("POST", format!("/v1/tasks/{id}/{verb}")),
            };
            let (status, problem) = s.daemon.call(method, &path, "");
            assert_eq!(
                (status, &problem["code"], &problem["state"]),
                (409, &"notPossible".into(), &(*state).into())
            );
            assert!(problem["possible"].is_array());
        }
    }
    for (verb, id) in [
        ("stop", s.stopping),
        ("stop", s.stopped),
        ("pause", s.pausing),
        ("pause", s.paused),
        ("resume", s.running),
    ] {
        s.daemon.ctl_ends(0, &[verb, &id.to_string()]);
    }
    // What is possible.
    s.daemon.ctl_ends(0, &["stop", &s.pausing.to_string()]);
    assert_eq!(s.daemon.task(s.pausing)["state"], "STOPPING");
    s.daemon.ctl_ends(0, &["stop", &s.interrupted.to_string()]);
    assert_eq!(s.daemon.task(s.interrupted)["state"], "STOPPED");
    for id in [s.succeeded, s.failed, s.stopped, s.paused, s.interrupted] {
        s.daemon.ctl_ends(0, &["delete", &id.to_string()]);
        s.daemon.ctl_ends(3, &["status", &id.to_string()]);
        s.daemon.ctl_ends(3, &["delete", &id.to_string()]);
    }
}

#[test]
fn reasons_and_what_is_held_back() {
    let s = States::new();
    let reason = |id| s.daemon.task(id)["reason"].as_str().unwrap_or_default().to_string();
    assert_eq!(reason(s.stopped), "stoppedByUser");
    assert_eq!(reason(s.paused), "pausedByUser");
    assert_eq!(reason(s.interrupted), "daemonDied");
    assert_eq!(reason(s.failed), "deploymentFailed");
    let states = |id| -> Vec<String> {
        let report = s.daemon.report(id);
        let deployments = report["deployments"].as_array().unwrap();
        deployments.iter().map(|deployment| deployment["state"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(states(s.stopped), ["SUCCEEDED", "SKIPPED"]);
    assert_eq!(states(s.paused), ["SUCCEEDED", "PENDING"]);
    assert_eq!(states(s.failed), ["FAILED", "SKIPPED"]);
    assert_eq!(states(s.interrupted), ["INTERRUPTED", "PENDING"]);
}

#[test]
fn draining_tasks_whose_last_deployment_ends_are_over() {
    let daemon = Daemon::gated(2);
    let id = begun(&daemon, "plan", &items(&[(1, 0, "START", "")]));
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    daemon.release("c1");
    // Nothing is left to be held back.
    daemon.until_state(id, "SUCCEEDED");
    let id = begun(&daemon, "plan", &items(&[(2, 0, "START", "")]));
    daemon.ctl_ends(0, &["stop", &id.to_string()]);
    daemon.release("c2");
    daemon.until_state(id, "SUCCEEDED");
}

#[test]
fn waiting_says_by_its_exit_code_how_a_task_rests() {
    let daemon = Daemon::gated(4);
    let file = daemon.write("plan.yaml", &items(&PLAN));
    let file = file.to_str().unwrap();
    let id = begun(&daemon, "plan", &items(&PLAN));
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    daemon.release("c1");
    daemon.ctl_ends(12, &["wait", &id.to_string()]);
    daemon.ctl_ends(12, &["watch", &id.to_string()]);
    daemon.ctl_ends(0, &["stop", &id.to_string()]);
    daemon.ctl_ends(11, &["wait", &id.to_string()]);
    daemon.release("c2");
    let shown = daemon.ctl_ends(0, &["execute", "-f", file, "--watch"]);
    assert!(shown.contains("already running") && shown.contains("is SUCCEEDED"), "{shown}");
    daemon.ctl_ends(0, &["execute", "plan@1", "--wait"]);
    daemon.ctl_ends(3, &["execute", "plan@9"]);
    daemon.ctl_ends(3, &["execute", "nothing"]);
    daemon.ctl_ends(2, &["execute"]);
    daemon.ctl_ends(2, &["nonsense"]);
    daemon.ctl_ends(3, &["status", "999"]);
    daemon.ctl_ends(6, &["--socket", "/nonexistent/socket", "list"]);
}

#[test]
fn a_service_that_is_being_released_is_reserved() {
    let daemon = Daemon::gated(3);
    let first = begun(&daemon, "first", &items(&PLAN));
    let other = daemon.write("other.yaml", &items(&[(2, 0, "START", ""), (3, 0, "START", "")]));
    let other = other.to_str().unwrap();
    let said = daemon.ctl_ends(4, &["execute", "-f", other]);
    assert!(said.contains("service 2") && said.contains(&format!("task {first}")), "{said}");
    let (status, problem) = daemon.call("POST", "/v1/tasks", r#"{"plan": "other"}"#);
    assert_eq!((status, &problem["code"]), (409, &"conflict".into()));
    assert_eq!(problem["conflicts"][0]["task"], first);
    for name in ["c1", "c2", "c3"] {
        daemon.release(name);
    }
    // `--wait` queues behind it.
    daemon.ctl_ends(0, &["execute", "-f", other, "--wait"]);
}

#[test]
fn the_reports_of_all_forms_say_the_same() {
    let daemon = Daemon::gated(2);
    daemon.release("c1");
    daemon.release("c2");
    let id = daemon.executed("plan", &format!("comment: the remark\n{}", items(&PLAN)), "SUCCEEDED");
    let id = id.to_string();
    let table = daemon.ctl_ends(0, &["report", &id]);
    for part in ["the remark", "SUCCEEDED", "Batch of priority 1", "s1 (1) START", "c2"] {
        assert!(table.contains(part), "{part}:\n{table}");
    }
    let json = daemon.json(&["report", &id]);
    let yaml = daemon.ctl_ends(0, &["report", &id, "-o", "yaml"]);
    assert_eq!(serde_yaml::from_str::<serde_json::Value>(&yaml).unwrap(), json);
    let task = &json["task"];
    assert_eq!((&task["comment"], &task["state"]), (&"the remark".into(), &"SUCCEEDED".into()));
    assert_eq!(task["progress"]["deployments"]["total"], 2);
    assert_eq!(task["progress"]["operations"]["done"], 2);
    assert_eq!(task["possible"], serde_json::json!(["delete"]));
    assert_eq!(json["events"][0]["type"], "task.started");
    assert_eq!(json["events"][0]["by"]["uid"], nix::unistd::geteuid().as_raw());
    let deployment = &json["deployments"][0];
    for key in [
        "serviceId",
        "service",
        "priority",
        "deployment",
        "containerExecMethod",
        "labels",
        "state",
        "startedAt",
        "finishedAt",
        "artifact",
        "release",
        "operations",
        "error",
    ] {
        assert!(deployment.get(key).is_some(), "{key} is missing: {deployment:#}");
    }
}

#[test]
fn logs_and_events_are_followed_until_the_task_rests() {
    let daemon = Daemon::gated(1);
    let id = begun(&daemon, "plan", &items(&[(1, 0, "START", "")])).to_string();
    let (logs, watched) = std::thread::scope(|scope| {
        let logs = scope.spawn(|| daemon.ctl_ends(0, &["logs", &id, "--service", "s1", "--follow"]));
        let watched = scope.spawn(|| daemon.ctl_ends(0, &["watch", &id, "-o", "json"]));
        daemon.release("c1");
        (logs.join().unwrap(), watched.join().unwrap())
    });
    assert!(logs.contains("c1: healthy after"), "{logs}");
    let last: serde_json::Value = serde_json::from_str(watched.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["state"]), (&"task.succeeded".into(), &"SUCCEEDED".into()));
    daemon.ctl_ends(3, &["logs", &id, "--service", "nothing"]);
}

#[test]
fn stop_now_cuts_what_is_going_on() {
    let daemon = Daemon::gated(2);
    let id = begun(&daemon, "plan", &items(&PLAN));
    // Also when the task is stopping already.
    daemon.ctl_ends(0, &["stop", &id.to_string()]);
    assert_eq!(daemon.task(id)["state"], "STOPPING");
    daemon.ctl_ends(11, &["stop", &id.to_string(), "--now", "--wait"]);
    let report = daemon.report(id);
    assert_eq!(report["deployments"][0]["state"], "INTERRUPTED");
    assert_eq!(report["deployments"][0]["operations"][0]["state"], "INTERRUPTED");
    assert_eq!(report["deployments"][1]["state"], "SKIPPED");
    let events = report["events"].as_array().unwrap();
    let cut = events.iter().find(|event| event["type"] == "task.cutRequested").unwrap();
    assert_eq!(cut["by"]["uid"], nix::unistd::geteuid().as_raw());
    // The services are free again; what was not done is done by another task.
    let (status, task) = daemon.call("POST", &format!("/v1/tasks/{id}/stop"), r#"{"now": true}"#);
    assert_eq!((status, &task["state"]), (202, &"STOPPED".into()));
    daemon.release("c1");
    daemon.release("c2");
    daemon.executed("again", &daemon.ctl_ends(0, &["retry-plan", &id.to_string()]), "SUCCEEDED");
}

#[test]
fn a_task_that_drains_says_when_it_should_be_quiet() {
    let daemon = Daemon::gated(2);
    daemon.release("c1");
    daemon.executed("before", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    daemon.executed("down", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    std::fs::remove_file(daemon.path("open-c1")).unwrap();
    let id = begun(&daemon, "plan", &items(&PLAN));
    let running = daemon.task(id);
    assert_eq!(running["waitingFor"][0]["usual"]["samples"], 1);
    assert!(running.get("quietAt").is_none(), "it does not drain: {running:#}");
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    let draining = daemon.task(id);
    assert!(draining["quietAt"].is_string() && draining["quietBy"].is_string(), "{draining:#}");
    let shown = daemon.ctl_ends(0, &["status", &id.to_string()]);
    assert!(shown.contains("usually") && shown.contains("should be quiet at"), "{shown}");
    // Who was never seen is not forecast.
    daemon.release("c1");
    daemon.until_state(id, "PAUSED");
    daemon.ctl_ends(0, &["resume", &id.to_string()]);
    daemon.until(id, |event| event["type"] == "operation.begun" && event["container"] == "c2");
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    assert!(daemon.task(id).get("quietAt").is_none());
    daemon.release("c2");
    daemon.until_state(id, "SUCCEEDED");
}

#[test]
fn the_history_tells_who_did_what() {
    let daemon = Daemon::gated(2);
    daemon.release("c1");
    daemon.release("c2");
    let first = daemon.executed("first", &items(&PLAN), "SUCCEEDED");
    // What was left as it was is no change.
    daemon.executed("same", &items(&PLAN), "SUCCEEDED");
    let second = daemon.executed("second", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    let told = |arguments: &[&str]| -> Vec<(u64, String)> {
        let history = daemon.json(&[&["history"], arguments].concat());
        let changes = history["changes"].as_array().unwrap();
        let one = |it: &serde_json::Value| {
            (it["task"].as_u64().unwrap(), it["container"].as_str().unwrap().to_string())
        };
        changes.iter().map(one).collect()
    };
    let c1 = [(second, "c1".to_string()), (first, "c1".to_string())];
    assert_eq!(told(&["--service", "s1"]), c1);
    assert_eq!(told(&[]).len(), 3);
    assert_eq!(told(&["--limit", "1"]), c1[..1]);
    assert!(told(&["--user", "nobody-of-this-name"]).is_empty());
    // It outlives the tasks.
    daemon.ctl_ends(0, &["delete", &first.to_string(), &second.to_string()]);
    assert_eq!(told(&["--service", "1"]), c1);
    daemon.ctl_ends(3, &["history", "--service", "nothing"]);
}
