//! Up means up: what a START leaves alone, and what a start that failed leaves behind.

use std::fs;

use deployd::spawn::proc::Stat;
use serde_json::Value;

use crate::harness::{Daemon, items, user};

/// A daemon with service 1, one container `c1`, that runs this script; `@` is the test's directory.
fn running(script: &str, health: &str) -> Daemon {
    let mut daemon = Daemon::new();
    let here = daemon.path("").to_str().unwrap().trim_end_matches('/').to_string();
    let file = daemon.write("script", &script.replace('@', &here));
    let run = format!("run:\n  command: [/bin/sh, {}]\n{}  stopTimeout: 50s\n", file.display(), user());
    daemon.add_running(1, &[("c1", "")], &run, &health.replace('@', &here));
    daemon.launch();
    daemon
}

/// The only operation of a task that came to be in this state.
fn operation(daemon: &Daemon, way: &str, state: &str) -> Value {
    let id = daemon.executed(&way.to_lowercase(), &items(&[(1, 0, way, "")]), state);
    daemon.report(id)["deployments"][0]["operations"][0].clone()
}

fn shown(daemon: &Daemon) -> Value {
    daemon.json(&["service", "show", "s1"])["containers"][0].clone()
}

fn lives(daemon: &Daemon, file: &str) -> bool {
    let pid = fs::read_to_string(daemon.path(file)).unwrap().trim().parse().unwrap();
    Stat::read(pid).unwrap().is_some_and(|stat| stat.is_alive())
}

#[test]
fn start_leaves_alone_what_answers_and_fails_for_what_does_not() {
    let health =
        "health: { command: [/usr/bin/test, -e, '@/well'], interval: 10ms, timeout: 200ms, settle: 0s }";
    let daemon = running("echo $$ >> @/starts\nexec sleep 1000", health);
    daemon.write("well", "");
    operation(&daemon, "START", "SUCCEEDED");
    let pid = shown(&daemon)["pid"].clone();
    let again = operation(&daemon, "START", "SUCCEEDED");
    assert_eq!(again["state"], "UNCHANGED", "{again}");
    assert_eq!(again["detail"], "already running");

    fs::remove_file(daemon.path("well")).unwrap();
    // Running a failed plan again does not turn it green.
    for _ in 0..2 {
        let sick = operation(&daemon, "START", "FAILED");
        assert_eq!(
            (&sick["state"], &sick["error"]["code"]),
            (&"FAILED".into(), &"unhealthy".into()),
            "{sick}"
        );
        let text = sick["error"]["message"].as_str().unwrap();
        assert!(text.contains(" runs since ") && text.ends_with("RESTART it"), "{text}");
        assert_eq!(shown(&daemon)["pid"], pid, "it was touched");
    }
    daemon.write("well", "");
    assert_eq!(operation(&daemon, "START", "SUCCEEDED")["state"], "UNCHANGED");
    assert_eq!(fs::read_to_string(daemon.path("starts")).unwrap().lines().count(), 1);
}

#[test]
fn start_asks_what_runs_as_the_operation_that_started_it_did() {
    let asks = "test \"$(cat @/operation)\" = \"$DEPLOYD_OPERATION\"";
    let health =
        format!("health: {{ command: [/bin/sh, -c, '{asks}'], interval: 10ms, timeout: 5s, settle: 0s }}");
    let daemon = running("echo $DEPLOYD_OPERATION.health > @/operation\nexec sleep 1000", &health);
    operation(&daemon, "START", "SUCCEEDED");
    assert_eq!(operation(&daemon, "START", "SUCCEEDED")["state"], "UNCHANGED");
}

#[test]
fn a_program_that_puts_itself_into_the_background_is_not_up_and_is_ended() {
    let health =
        "health: { command: [/usr/bin/test, -s, '@/child'], interval: 10ms, timeout: 50s, settle: 1s }";
    // The child answers for it, in a session of its own.
    let daemon = running("setsid sleep 1000 &\necho $! > @/child", health);
    let failed = operation(&daemon, "START", "FAILED");
    assert_eq!(failed["error"]["code"], "exited");
    let text = failed["error"]["message"].as_str().unwrap();
    assert!(text.contains("it put itself into the background: run it in the foreground"), "{text}");
    assert!(!lives(&daemon, "child"), "what it has left behind runs on");
    let shown = shown(&daemon);
    assert_eq!((&shown["state"], &shown["detail"]), (&"exited".into(), &"exited with status 0".into()));
}

#[test]
fn health_that_somebody_else_answers_does_not_make_up_what_has_ended() {
    // Well once it is gone, and not before.
    let asks = "test -s @/pid && ! kill -0 $(cat @/pid)";
    let health = format!("health: {{ command: [/bin/sh, -c, '{asks}'], interval: 10ms, settle: 0s }}");
    let daemon = running("echo $$ > @/pid\nexit 7", &health);
    let failed = operation(&daemon, "START", "FAILED");
    assert_eq!(failed["error"]["code"], "exited", "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("exited with status 7"), "{failed}");
}

#[test]
fn stop_now_does_not_wait_for_a_stop_and_the_next_task_does() {
    let script = "trap 'until test -e @/go; do sleep 0.01; done; exit 0' TERM\ntouch @/ready\n\
                  while :; do sleep 0.01; done";
    let daemon =
        running(script, "health: { command: [/usr/bin/test, -e, '@/ready'], interval: 10ms, settle: 0s }");
    operation(&daemon, "START", "SUCCEEDED");
    let id = daemon.execute("stop", &items(&[(1, 0, "STOP", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    // The deed is under way, and `status` says so.
    while daemon.task(id)["waitingFor"][0]["operations"][0]["doing"] != "stop" {
        std::thread::yield_now();
    }
    daemon.ctl_ends(0, &["stop", "--now", &id.to_string()]);
    daemon.until_state(id, "STOPPED");
    let deployment = daemon.report(id)["deployments"][0].clone();
    assert_eq!(deployment["operations"][0]["state"], "INTERRUPTED");
    let note = deployment["notes"][0].as_str().unwrap();
    assert!(note.contains("the stop of container c1 goes on"), "{note}");
    let next = daemon.execute("next", &items(&[(1, 0, "START", "")]));
    while daemon.task(next)["waitingFor"][0]["operations"][0]["doing"] != "look" {
        std::thread::yield_now();
    }
    daemon.write("go", "");
    daemon.until_state(next, "SUCCEEDED");
    let operation = daemon.report(next)["deployments"][0]["operations"][0].clone();
    assert_eq!(operation["state"], "SUCCEEDED", "it was stopped first: {operation}");
}
