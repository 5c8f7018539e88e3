//! Who did what stands in the journal, and nobody can write lines of their own into what is recorded.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use deployd::control::Role;
use deployd::control::routes::ROUTES;
use serde_json::Value;

use crate::client::{Identity, ask};
use crate::harness::{Daemon, PATIENCE, is_root, items, skip};

/// An operator whom the user database does not know.
const OPERATOR: Identity = Identity { uid: 4711, gid: 1, groups: &[] };

/// The event by which each command is known. A route that changes something and is not here fails the test.
fn event_of(method: &str, path: &str) -> Option<&'static str> {
    Some(match (method, path) {
        ("POST", "/v1/plans") => "plan.created",
        ("DELETE", "/v1/plans/{name}") => "plan.deleted",
        ("POST", "/v1/tasks") => "task.started",
        ("POST", "/v1/tasks/{id}/pause") => "task.pauseRequested",
        ("POST", "/v1/tasks/{id}/resume") => "task.resumed",
        ("POST", "/v1/tasks/{id}/stop") => "task.stopRequested",
        ("DELETE", "/v1/tasks/{id}") => "task.deleted",
        ("POST", "/v1/services/reload") => "catalog.reloaded",
        ("POST", "/v1/repositories") => "repository.created",
        ("DELETE", "/v1/repositories/{name}") => "repository.deleted",
        _ => return None,
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one command after another")]
fn every_command_is_in_the_journal_with_who_sent_it() {
    if !is_root() {
        return skip("commands of others are tested as root, who can become others");
    }
    let mut daemon = Daemon::new();
    daemon.write("deployd.yaml", "access: { operators: [daemon] }\n");
    daemon.add(1, &[("c1", "")], &daemon.gate());
    daemon.add(2, &[("c2", "")], &daemon.gate());
    daemon.launch();
    let socket = daemon.socket();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let plan = items(&[(1, 1, "START", ""), (2, 0, "START", "")]);
    let send = |who: Identity, method: &str, path: &str, body: &str| {
        let answer = who.does(|| ask(&socket, method, path, "", body)).unwrap();
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
    };
    send(OPERATOR, "POST", "/v1/plans?name=p", &plan);
    send(OPERATOR, "POST", "/v1/tasks", "{\"plan\": \"p\"}");
    daemon.until(1, |event| event["type"] == "operation.begun");
    send(OPERATOR, "POST", "/v1/tasks/1/pause", "");
    daemon.release("c1");
    daemon.until_state(1, "PAUSED");
    send(OPERATOR, "POST", "/v1/tasks/1/resume", "");
    send(OPERATOR, "POST", "/v1/tasks/1/stop", "");
    daemon.release("c2");
    daemon.until(1, |event| {
        let kind = event["type"].as_str().unwrap();
        kind.starts_with("task.") && (event["state"] == "STOPPED" || event["state"] == "SUCCEEDED")
    });
    // The task's own report names everybody, too.
    let report = daemon.report(1);
    assert_eq!(report["task"]["createdBy"]["uid"], OPERATOR.uid);
    let requested: Vec<_> = report["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["by"].is_object())
        .cloned()
        .collect();
    let kinds: Vec<_> = requested.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["task.started", "task.pauseRequested", "task.resumed", "task.stopRequested"]);
    send(OPERATOR, "DELETE", "/v1/tasks/1", "");
    send(OPERATOR, "POST", "/v1/repositories", "{\"name\": \"r\"}");
    send(OPERATOR, "DELETE", "/v1/repositories/r", "");
    send(OPERATOR, "DELETE", "/v1/plans/p", "");
    send(Identity { uid: 0, gid: 0, groups: &[] }, "POST", "/v1/services/reload", "");

    let events = daemon.ctl_ends(0, &["events"]);
    let mut events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Those of the task are gone with it.
    events.extend(requested);
    // What only reads is no command, whoever may do it.
    for route in ROUTES.iter().filter(|route| route.role > Role::Viewer && route.method != "GET") {
        let kind = event_of(route.method, route.path);
        let kind = kind.unwrap_or_else(|| panic!("{} {} is audited by nobody", route.method, route.path));
        let event = events.iter().find(|event| event["type"] == kind);
        let by = &event.unwrap_or_else(|| panic!("{kind} is not in the journal"))["by"];
        let uid = if route.role == Role::Admin { 0 } else { OPERATOR.uid };
        assert_eq!(by["uid"], uid, "{kind}: {by}");
        assert_eq!(by["user"], if uid == 0 { "root" } else { "4711" }, "{kind}: {by}");
        assert_eq!(by["pid"], std::process::id(), "{kind}: {by}");
        assert!(by["program"].is_string(), "{kind}: {by}");
    }
    // What only reads, and what is refused, is no command.
    let count = events.len();
    OPERATOR.does(|| ask(&socket, "GET", "/v1/tasks", "", ""));
    OPERATOR.does(|| ask(&socket, "POST", "/v1/services/reload", "", ""));
    assert_eq!(daemon.ctl_ends(0, &["events"]).lines().count() + 4, count);
}

#[test]
fn no_name_path_or_header_writes_lines_or_control_characters_into_the_log() {
    let mut daemon = Daemon::new();
    daemon.environment.push(("DEPLOYD_LOG", "trace".into()));
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    let socket = daemon.socket();
    let evil = "x%0a2026-01-01T00:00:00Z%20%20INFO%20forged%0d%1b[31m%00%c2%9b";
    let raw = "x\u{1b}[31mforged\u{9b}\u{7}";
    for (method, path) in [
        ("GET", format!("/v1/plans/{evil}")),
        ("DELETE", format!("/v1/plans/{evil}")),
        ("GET", format!("/v1/services/{evil}")),
        ("GET", format!("/v1/services/{evil}/logs")),
        ("DELETE", format!("/v1/repositories/{evil}")),
        ("GET", format!("/v1/tasks/{evil}")),
        ("GET", format!("/v1/tasks?state={evil}")),
        ("GET", format!("/{evil}?{evil}={evil}")),
        ("POST", format!("/v1/plans?name={evil}")),
        (evil, "/v1/tasks".into()),
    ] {
        for headers in [
            format!("User-Agent: {raw}\r\n"),
            format!("Last-Event-ID: {raw}\r\nIdempotency-Key: {raw}\r\n"),
            format!("X-{raw}: {raw}\r\n"),
        ] {
            ask(&socket, method, &path, &headers, &format!("{{\"name\": \"{raw}\", \"plan\": \"a\\nb\"}}"));
        }
    }
    let forged = "a\\n2026-01-01T00:00:00Z  INFO forged\\u001b[31m";
    ask(&socket, "POST", "/v1/tasks", "", &format!("{{\"plan\": \"{forged}\"}}"));
    ask(&socket, "POST", "/v1/repositories", "", &format!("{{\"name\": \"{forged}\"}}"));
    let plan = format!(
        "comment: \"{forged}\"\ndeployPlanItems: [{{ serviceId: 1, deployment: START, deployLabel: \"{forged}\" }}]"
    );
    ask(&socket, "POST", "/v1/plans?name=p", "", &plan);
    let plan = format!("comment: \"{forged}\"\n{}", items(&[(1, 0, "START", "")]));
    assert_eq!(daemon.call("POST", "/v1/plans?name=p", &plan).0, 201);
    assert_eq!(daemon.call("POST", "/v1/tasks", "{\"plan\": \"p\"}").0, 201);
    daemon.until_state(1, "SUCCEEDED");
    // Each event is one line, wherever it came from.
    let events = daemon.ctl_ends(0, &["events"]);
    assert!(events.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{events}");
    assert_plain(&events);
    // Nor do they reach the terminal of somebody who lists.
    for arguments in
        [&["plan", "list"][..], &["plan", "show", "p"], &["list"], &["status", "1"], &["report", "1"]]
    {
        assert_plain(&daemon.ctl_ends(0, arguments));
    }
    let begun = Instant::now();
    daemon.terminate();
    assert!(begun.elapsed() < PATIENCE);
    let log = daemon.log();
    assert_plain(&log);
    let is_entry = |line: &str| line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T');
    for line in log.lines() {
        assert!(is_entry(line) && !line.starts_with("2026-01-01"), "{line:?}");
    }
}

/// Nothing but lines of printable text.
fn assert_plain(text: &str) {
    let control = text.lines().find(|line| line.chars().any(char::is_control));
    assert!(control.is_none(), "{control:?}");
}
