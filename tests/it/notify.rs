//! The notify command: hears each change of a task's state, in order, and harms nobody.

use std::fs;

use serde_json::Value;

use crate::harness::{Daemon, items};

fn told(daemon: &Daemon) -> Vec<(u64, String)> {
    let text = fs::read_to_string(daemon.path("told")).unwrap_or_default();
    let line = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        (event["task"].as_u64().unwrap(), event["state"].as_str().unwrap().to_string())
    };
    text.lines().map(line).collect()
}

#[test]
fn each_change_of_a_state_is_told_in_order() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], &daemon.gate());
    let told_to = daemon.path("told").display().to_string();
    daemon.write(
        "deployd.yaml",
        &format!("notify: {{ command: [/bin/sh, -c, 'cat >> {told_to}; echo >> {told_to}'] }}\n"),
    );
    daemon.launch();
    let first = daemon.execute("p", &items(&[(1, 0, "START", "")]));
    daemon.ctl_ends(0, &["pause", &first.to_string()]);
    daemon.ctl_ends(0, &["stop", &first.to_string()]);
    daemon.release("c1");
    daemon.until_state(first, "SUCCEEDED");
    let second = daemon.executed("q", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    // It ends only when all was told.
    assert_eq!(daemon.terminate(), Some(0));
    let expected = [
        (first, "RUNNING"),
        (first, "PAUSING"),
        (first, "STOPPING"),
        (first, "SUCCEEDED"),
        (second, "RUNNING"),
        (second, "SUCCEEDED"),
    ];
    assert_eq!(told(&daemon), expected.map(|(task, state)| (task, state.to_string())));
}

#[test]
fn a_command_that_fails_or_hangs_holds_up_no_task() {
    for command in ["[/nonexistent/command]", "[/bin/false]", "[/bin/sleep, '20']"] {
        let mut daemon = Daemon::new();
        daemon.add(1, &[("c1", "")], "");
        daemon.write("deployd.yaml", &format!("notify: {{ command: {command} }}\n"));
        daemon.launch();
        daemon.executed("p", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
        daemon.executed("q", &items(&[(1, 0, "RESTART", "")]), "SUCCEEDED");
        daemon.kill_9();
    }
}
