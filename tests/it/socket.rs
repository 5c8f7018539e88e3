//! The socket, as curl sees it.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::harness::{Daemon, is_root, items, skip};

#[test]
fn every_call_that_reads() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    let id = daemon.executed("plan", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let (status, info) = daemon.call("GET", "/v1/info", "");
    assert_eq!((status, &info["counts"]["tasks"], &info["role"]), (200, &1.into(), &"admin".into()));
    let (status, document) = daemon.call("GET", "/v1/openapi.json", "");
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["paths"]["/v1/tasks/{id}/stop"]["post"].is_object());
    for path in [
        "/v1/plans",
        "/v1/plans/plan",
        "/v1/plans/plan?revision=1",
        "/v1/tasks",
        "/v1/tasks?state=SUCCEEDED&limit=5&before=99",
        "/v1/services",
        "/v1/services/1",
        "/v1/services/s1",
        "/v1/repositories",
    ] {
        let (status, answer) = daemon.call("GET", path, "");
        assert_eq!(status, 200, "{path}");
        assert!(answer.is_object(), "{path}");
    }
    for path in [format!("/v1/tasks/{id}"), format!("/v1/tasks/{id}/report")] {
        assert_eq!(daemon.call("GET", &path, "").0, 200, "{path}");
    }
    for path in
        [format!("/v1/tasks/{id}/logs"), "/v1/services/1/logs".to_string(), "/v1/events?follow=false".into()]
    {
        assert_eq!(daemon.http("GET", &path, "", "").0, 200, "{path}");
    }
    for path in [
        "/v1/tasks/99",
        "/v1/plans/none",
        "/v1/plans/plan?revision=7",
        "/v1/services/none",
        "/v1/nothing",
        "/v1/tasks/99/report",
        "/v1/events?task=99",
    ] {
        let (status, head, body) = daemon.http("GET", path, "", "");
        assert_eq!(status, 404, "{path}");
        assert!(
            head.contains("application/problem+json") && body.contains("\"code\":\"notFound\""),
            "{path} {head}"
        );
    }
    assert_eq!(daemon.call("PUT", "/v1/tasks", "").0, 405);
    for (path, body) in [
        ("/v1/tasks", "{"),
        ("/v1/tasks", "{\"plan\": 1}"),
        ("/v1/tasks", "{\"plan\": \"x\", \"force\": 1}"),
        ("/v1/repositories", "[]"),
    ] {
        let (status, problem) = daemon.call("POST", path, body);
        assert_eq!((status, &problem["code"]), (400, &"badRequest".into()), "{path} {body}");
    }
    assert_eq!(daemon.call("GET", "/v1/tasks?state=nonsense", "").0, 400);
}

#[test]
fn a_whole_release_by_requests_alone() {
    let daemon = Daemon::gated(3);
    let plan = items(&[(1, 2, "START", ""), (2, 1, "START", ""), (3, 0, "START", "")]);
    assert_eq!(daemon.call("POST", "/v1/plans/check", &plan).1["valid"], true);
    assert_eq!(daemon.call("POST", "/v1/plans?name=shop", &plan).0, 201);
    let (status, dry) = daemon.call("POST", "/v1/tasks", r#"{"plan": "shop", "dryRun": true}"#);
    assert_eq!((status, dry["batches"].as_array().unwrap().len()), (200, 3));
    let key = "Idempotency-Key: once\r\n";
    let (status, head, body) = daemon.http("POST", "/v1/tasks", key, r#"{"plan": "shop", "revision": 1}"#);
    assert_eq!(status, 201);
    let task: serde_json::Value = serde_json::from_str(&body).unwrap();
    let id = task["id"].as_u64().unwrap();
    assert!(head.to_ascii_lowercase().contains(&format!("location: /v1/tasks/{id}")), "{head}");
    let (status, _, again) = daemon.http("POST", "/v1/tasks", key, r#"{"plan": "shop"}"#);
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!((status, &again["id"]), (200, &id.into()));

    daemon.until(id, |event| event["type"] == "operation.begun");
    let (status, task) = daemon.call("POST", &format!("/v1/tasks/{id}/pause"), "");
    assert_eq!((status, &task["state"]), (202, &"PAUSING".into()));
    let waiting = daemon.task(id)["waitingFor"][0].clone();
    assert_eq!((&waiting["service"], &waiting["doing"]), (&"s1".into(), &"c1".into()));
    daemon.release("c1");
    daemon.until_state(id, "PAUSED");
    assert_eq!(daemon.call("POST", &format!("/v1/tasks/{id}/resume"), "{\"force\": false}").0, 202);
    daemon.until(id, |event| event["type"] == "operation.begun" && event["container"] == "c2");
    assert_eq!(daemon.call("POST", &format!("/v1/tasks/{id}/stop"), "").0, 202);
    daemon.release("c2");
    daemon.until_state(id, "STOPPED");
    assert_eq!(daemon.http("DELETE", &format!("/v1/tasks/{id}"), "", "").0, 204);
    assert_eq!(daemon.call("POST", "/v1/services/reload", "").1["services"], 3);
    assert_eq!(daemon.call("POST", "/v1/repositories", r#"{"name": "app"}"#).0, 201);
    assert_eq!(daemon.http("DELETE", "/v1/repositories/app", "", "").0, 204);
    assert_eq!(daemon.http("DELETE", "/v1/plans/shop", "", "").0, 204);
}

#[test]
fn the_event_stream_continues_without_a_gap_over_a_restart() {
    let mut daemon = Daemon::gated(2);
    let id = daemon.execute("plan", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    let mut seen = Vec::new();
    let mut events = daemon.events("");
    loop {
        let event = events.next().unwrap();
        seen.push(event["seq"].as_u64().unwrap());
        if event["type"] == "operation.begun" {
            break;
        }
    }
    daemon.kill_9();
    daemon.launch();
    daemon.release("c1");
    daemon.release("c2");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    let headers = format!("Last-Event-ID: {}\r\n", seen.last().unwrap());
    let (_, _, body) = daemon.http("GET", "/v1/events?follow=false", &headers, "");
    let ids = body.lines().filter_map(|line| line.strip_prefix("id: "));
    seen.extend(ids.map(|id| id.parse::<u64>().unwrap()));
    let (first, count) = (seen[0], seen.len() as u64);
    assert_eq!(seen, (first..first + count).collect::<Vec<_>>());
    let all = daemon.ctl_ends(0, &["events"]);
    assert_eq!(all.lines().count(), seen.len());
    let only = daemon.ctl_ends(0, &["events", "--task", &id.to_string()]);
    assert!(only.lines().all(|line| line.contains(&format!("\"task\":{id}"))));
}

#[test]
fn readers_that_never_read_and_silent_clients_hold_up_nobody() {
    let daemon = Daemon::gated(2);
    let silent: Vec<_> = (0..50).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    let mut readers = Vec::new();
    for _ in 0..50 {
        let mut reader = UnixStream::connect(daemon.socket()).unwrap();
        reader.write_all(b"GET /v1/events HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        readers.push(reader);
    }
    daemon.release("c1");
    daemon.release("c2");
    for round in 0..20 {
        let way = if round % 2 == 0 { "START" } else { "STOP" };
        daemon.executed("plan", &items(&[(1, 1, way, ""), (2, 0, way, "")]), "SUCCEEDED");
    }
    drop((silent, readers));
}

#[test]
fn the_socket_is_its_owners_and_strangers_get_nothing() {
    let daemon = Daemon::gated(1);
    let mode = std::fs::metadata(daemon.socket()).unwrap().mode() & 0o777;
    assert!(mode == 0o600 || mode == 0o660, "{mode:o}");
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    // Even if the file system lets them in, they get nothing.
    std::fs::set_permissions(daemon.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let stranger = |path: &str, method: &str| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "-i", "-X", method])
            .args(["-H", "X-Uid: 0", "--unix-socket"])
            .arg(daemon.socket())
            .arg(format!("http://deployd{path}"))
            .output();
        let output = output.ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Some(answer) = stranger("/v1/info", "GET") else { return skip("setpriv or curl is missing") };
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    for route in deployd::control::routes::ROUTES {
        let path = route.path.replace("{id}", "1").replace("{name}", "x");
        let answer = stranger(&path, route.method).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("notPermitted"), "{path}: {answer}");
    }
}
