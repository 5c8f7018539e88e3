//! Idempotency keys: one key names one request, and what it asks for is done once.

use std::thread;

use serde_json::Value;

use crate::harness::{Daemon, items};

/// A daemon with services 1 and 2 that start at once, and plans `a` and `b` that start one of them each.
fn daemon() -> Daemon {
    let mut daemon = Daemon::new();
    for (id, plan) in [(1, "a"), (2, "b")] {
        daemon.add(id, &[(&format!("c{id}"), "")], "");
        daemon.write(&format!("{plan}.yaml"), &start(id));
    }
    daemon.launch();
    for plan in ["a", "b"] {
        daemon.ctl_ends(0, &["plan", "create", daemon.path(&format!("{plan}.yaml")).to_str().unwrap()]);
    }
    daemon
}

fn start(id: u64) -> String {
    items(&[(id, 0, "RESTART", "")])
}

fn post(daemon: &Daemon, path: &str, key: &str, body: &str) -> (u16, Value, String) {
    let headers = format!("Idempotency-Key: {key}\r\n");
    let (status, head, body) = daemon.http("POST", path, &headers, body);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null), head)
}

fn execute(daemon: &Daemon, key: &str, plan: &str) -> (u16, Value) {
    let (status, body, _) = post(daemon, "/v1/tasks", key, &format!("{{\"plan\": \"{plan}\"}}"));
    (status, body)
}

/// A first task with this key, at rest.
fn first(daemon: &Daemon, key: &str) -> u64 {
    let (status, task) = execute(daemon, key, "a");
    assert_eq!((status, &task["idempotencyKey"]), (201, &key.into()), "{task}");
    let id = task["id"].as_u64().unwrap();
    daemon.until_state(id, "SUCCEEDED");
    id
}

fn tasks(daemon: &Daemon) -> usize {
    daemon.json(&["list"])["tasks"].as_array().unwrap().len()
}

#[test]
fn a_key_with_another_request_is_refused_and_names_the_first_one() {
    let daemon = daemon();
    let id = first(&daemon, "build-7");
    // Another text under the same name.
    assert_eq!(daemon.call("POST", "/v1/plans?name=a", &format!("comment: x\n{}", start(1))).0, 201);
    let others = [
        r#"{"plan": "b"}"#,
        r#"{"plan": "none"}"#,
        r#"{"plan": "a"}"#,
        r#"{"plan": "a", "revision": 2}"#,
        r#"{"plan": "b", "revision": 1}"#,
    ];
    for body in others {
        let (status, problem, _) = post(&daemon, "/v1/tasks", "build-7", body);
        assert_eq!((status, &problem["code"]), (422, &"idempotencyKeyReused".into()), "{body}: {problem}");
        assert_eq!(
            (&problem["task"], &problem["plan"], &problem["revision"]),
            (&id.into(), &"a".into(), &1.into())
        );
        assert_eq!(problem["idempotencyKey"], "build-7");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("task {id}")), "{problem}");
    }
    let b = daemon.path("b.yaml");
    let wait = ["execute", "-f", b.to_str().unwrap(), "--wait", "--idempotency-key", "build-7"];
    let said = daemon.ctl_ends(4, &wait);
    assert!(said.contains("build-7") && said.contains(&format!("task {id}")), "{said}");
    daemon.ctl_ends(4, &["execute", "b", "--idempotency-key", "build-7"]);
    assert_eq!((tasks(&daemon), daemon.witness().len()), (1, 1));
    // The first request is not forgotten by that.
    assert_eq!(post(&daemon, "/v1/tasks", "build-7", r#"{"plan": "a", "revision": 1}"#).1["id"], id);
}

#[test]
fn the_same_request_is_answered_with_the_first_task() {
    let mut daemon = daemon();
    let id = first(&daemon, "k");
    let same = |daemon: &Daemon, body: &str| {
        let (status, task, head) = post(daemon, "/v1/tasks", "k", body);
        assert_eq!(
            (status, &task["id"], &task["idempotencyKey"]),
            (200, &id.into(), &"k".into()),
            "{body}: {task}"
        );
        assert!(head.to_lowercase().contains(&format!("location: /v1/tasks/{id}")), "{head}");
    };
    same(&daemon, r#"{"plan": "a"}"#);
    same(&daemon, r#"{"revision": 1, "plan": "a", "dryRun": false}"#);
    // A plan that came back to the text of then is the same request, under whichever number.
    assert_eq!(daemon.call("POST", "/v1/plans?name=a", &start(2)).0, 201);
    assert_eq!(execute(&daemon, "k", "a").0, 422);
    assert_eq!(daemon.call("POST", "/v1/plans?name=a", &start(1)).1["revision"], 3);
    same(&daemon, r#"{"plan": "a"}"#);
    same(&daemon, r#"{"plan": "a", "revision": 3}"#);
    let file = daemon.path("a.yaml");
    let again = ["execute", "-f", file.to_str().unwrap(), "--wait", "--idempotency-key", "k"];
    assert_eq!(daemon.ctl_ends(0, &again).lines().next(), Some(&*id.to_string()));
    daemon.kill_9();
    daemon.launch();
    same(&daemon, r#"{"plan": "a"}"#);
    // A plan that is gone can't be another one now.
    daemon.ctl_ends(0, &["plan", "delete", "a"]);
    same(&daemon, r#"{"plan": "a"}"#);
    same(&daemon, r#"{"plan": "a", "revision": 1}"#);
    assert_eq!(post(&daemon, "/v1/tasks", "k", r#"{"plan": "a", "revision": 2}"#).0, 422);
    assert_eq!((tasks(&daemon), daemon.witness().len()), (1, 1));
    // A dry run starts nothing, and has no key.
    let (status, dry, _) = post(&daemon, "/v1/tasks", "k", r#"{"plan": "b", "dryRun": true}"#);
    assert_eq!((status, &dry["plan"]), (200, &"b".into()));
}

#[test]
fn a_task_shows_its_key() {
    let daemon = daemon();
    let id = first(&daemon, "build 7");
    let other = daemon.executed("c", &start(2), "SUCCEEDED");
    for (id, key) in [(id, Some("build 7")), (other, None)] {
        let key = key.map_or(Value::Null, Value::from);
        for task in [daemon.task(id), daemon.json(&["report", &id.to_string()])["task"].clone()] {
            assert_eq!(task["idempotencyKey"], key, "{task}");
        }
        let listed = daemon.json(&["list"])["tasks"].clone();
        let listed = listed.as_array().unwrap().iter().find(|task| task["id"] == id).unwrap();
        assert_eq!(listed["idempotencyKey"], key, "{listed}");
        let said = daemon.ctl_ends(0, &["status", &id.to_string()]);
        assert_eq!(said.contains("idempotency key build 7"), !key.is_null(), "{said}");
    }
}

#[test]
fn a_request_whose_task_was_deleted_is_not_executed_again() {
    let mut daemon = daemon();
    let id = first(&daemon, "k");
    daemon.ctl_ends(0, &["delete", &id.to_string()]);
    for _ in 0..2 {
        let (status, problem) = execute(&daemon, "k", "a");
        assert_eq!((status, &problem["code"]), (410, &"taskDeleted".into()), "{problem}");
        assert_eq!(
            (&problem["id"], &problem["task"], &problem["plan"]),
            (&id.into(), &id.into(), &"a".into())
        );
        assert!(
            problem["detail"].as_str().unwrap().starts_with(&format!("task {id} was deleted")),
            "{problem}"
        );
        assert_eq!(execute(&daemon, "k", "b").1["code"], "idempotencyKeyReused");
        let file = daemon.path("a.yaml");
        for wait in ["--wait", "--quiet"] {
            let again = ["execute", "-f", file.to_str().unwrap(), wait, "--idempotency-key", "k"];
            assert!(daemon.ctl_ends(4, &again).contains("was deleted"));
        }
        let (status, problem) = daemon.call("GET", &format!("/v1/tasks/{id}"), "");
        assert_eq!(
            (status, &problem["code"], &problem["idempotencyKey"]),
            (404, &"notFound".into(), &"k".into())
        );
        assert_eq!((tasks(&daemon), daemon.witness().len()), (0, 1));
        daemon.kill_9();
        daemon.launch();
    }
    assert_eq!(execute(&daemon, "l", "a").0, 201);
}

#[test]
fn requests_that_come_with_one_key_at_the_same_time_start_one_task() {
    let daemon = daemon();
    let (status, ids): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let posts: Vec<_> = (0..80).map(|_| scope.spawn(|| execute(&daemon, "k", "a"))).collect();
        posts
            .into_iter()
            .map(|post| post.join().unwrap())
            .map(|(status, task)| (status, task["id"].clone()))
            .unzip()
    });
    assert_eq!(status.iter().filter(|status| **status == 201).count(), 1, "{status:?}");
    assert_eq!(status.iter().filter(|status| **status == 200).count(), 79, "{status:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    daemon.until_state(ids[0].as_u64().unwrap(), "SUCCEEDED");
    // Two plans with one key: one of them is executed, the other is refused.
    let answers: Vec<_> = thread::scope(|scope| {
        let posts: Vec<_> = (0..40)
            .map(|n| {
                scope.spawn({
                    let daemon = &daemon;
                    move || execute(daemon, "l", ["a", "b"][n % 2])
                })
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    let count = |wanted| answers.iter().filter(|answer| answer.0 == wanted).count();
    assert_eq!((count(201), count(200), count(422)), (1, 19, 20));
    assert_eq!(tasks(&daemon), 2);
}

#[test]
fn a_daemon_that_is_killed_before_it_answers_has_executed_once() {
    for point in ["before the commit of task.started:1", "after the commit of task.started:1"] {
        let mut daemon = daemon();
        daemon.terminate();
        daemon.environment = vec![("DEPLOYD_CRASH_AT", point.into())];
        daemon.launch();
        let cut = daemon.try_http("POST", "/v1/tasks", "Idempotency-Key: k\r\n", r#"{"plan": "a"}"#);
        assert!(cut.is_none(), "{point}: {cut:?}");
        daemon.kill_9();
        daemon.environment.clear();
        daemon.launch();
        let was_durable = point.starts_with("after");
        let (status, task) = execute(&daemon, "k", "a");
        assert_eq!(status, if was_durable { 200 } else { 201 }, "{point}: {task}");
        if was_durable {
            daemon.ctl_ends(0, &["resume", "1", "--wait"]);
        }
        daemon.until_state(1, "SUCCEEDED");
        assert_eq!((tasks(&daemon), daemon.witness().len()), (1, 1), "{point}");
    }
}

#[test]
fn a_refused_request_uses_up_no_key() {
    let daemon = daemon();
    assert_eq!(execute(&daemon, "k", "none").0, 404);
    assert_eq!(post(&daemon, "/v1/tasks", "k", r#"{"plan": "a", "revision": 9}"#).0, 404);
    assert_eq!(post(&daemon, "/v1/tasks", "k", r#"{"plan": ""}"#).0, 400);
    assert_eq!(execute(&daemon, "k", "b").0, 201);
    for key in ["", " ", &"x".repeat(257)] {
        assert_eq!(execute(&daemon, key, "a").0, 400, "{key:?}");
    }
    let two = "Idempotency-Key: x\r\nIdempotency-Key: y\r\n";
    assert_eq!(daemon.http("POST", "/v1/tasks", two, r#"{"plan": "a"}"#).0, 400);
    assert_eq!(execute(&daemon, &"x".repeat(256), "a").0, 201);
}

#[test]
fn a_plan_with_unchanged_text_is_the_revision_that_is_there() {
    let daemon = daemon();
    let store = |name: &str, text: &str, key: &str| {
        let (status, body, head) = post(&daemon, &format!("/v1/plans?name={name}"), key, text);
        let location =
            head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default().to_string();
        (status, body["revision"].as_u64(), location)
    };
    let told =
        |status: u16, revision: u64| (status, Some(revision), format!("/v1/plans/p?revision={revision}"));
    let plain = |text: &str| daemon.call("POST", "/v1/plans?name=p", text);
    assert_eq!(store("p", &start(1), "k"), told(201, 1));
    assert_eq!(plain(&start(1)).0, 200);
    assert_eq!(store("p", &start(1), "l"), told(200, 1));
    assert_eq!(store("p", &start(2), "m"), told(201, 2));
    assert_eq!(store("p", &start(1), "k"), told(200, 1), "what the first request has stored");
    assert_eq!(store("p", &start(1), "n"), told(201, 3), "it is not the newest text");
    for (name, text) in [("p", start(2)), ("q", start(1))] {
        let (status, problem, _) = post(&daemon, &format!("/v1/plans?name={name}"), "k", &text);
        assert_eq!((status, &problem["code"]), (422, &"idempotencyKeyReused".into()), "{problem}");
        assert_eq!((&problem["plan"], &problem["revision"]), (&"p".into(), &1.into()));
    }
    // The key of a plan is not the key of a task.
    assert_eq!(execute(&daemon, "k", "a").0, 201);
    assert_eq!(store("p", &start(1), "k"), told(200, 1));
    daemon.ctl_ends(0, &["plan", "delete", "p"]);
    let (status, problem, _) = post(&daemon, "/v1/plans?name=p", "k", &start(1));
    assert_eq!((status, &problem["code"]), (410, &"planDeleted".into()), "{problem}");
    assert_eq!(plain(&start(1)).1["revision"], 4);
    // A name that is no ASCII leads to where it is.
    let (status, _, location) = store("%C3%A9t%C3%A9", &start(1), "o");
    assert_eq!((status, &*location), (201, "/v1/plans/%C3%A9t%C3%A9?revision=1"));
    assert_eq!(daemon.call("GET", &location, "").1["name"], "été");
    assert_eq!(daemon.json(&["plan", "list"])["plans"].as_array().unwrap().len(), 4);
}

#[test]
fn plans_that_come_at_the_same_time_with_one_text_are_one_revision() {
    let daemon = daemon();
    let answers: Vec<_> = thread::scope(|scope| {
        let posts: Vec<_> = (0..40)
            .map(|n| {
                let key = if n % 2 == 0 { "Idempotency-Key: k\r\n" } else { "" };
                let daemon = &daemon;
                scope.spawn(move || daemon.http("POST", "/v1/plans?name=p", key, &start(1)))
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.0 == 201).count(), 1);
    assert!(
        answers.iter().all(|answer| matches!(answer.0, 200 | 201) && answer.2.contains("\"revision\":1"))
    );
}
