//! What is done in which order, proved from what the processes wrote down themselves.

use crate::harness::{Daemon, items};
use crate::http::PackageServer;
use crate::push::push;

/// The seed's example plan, byte for byte.
const SEED: &str = include_str!("../fixtures/seed-plan.yaml");

fn of<'a>(daemon: &Daemon, container: &'a str) -> (f64, &'a str) {
    let witness = daemon.witness();
    let starts: Vec<_> = witness.iter().filter(|start| start.container == container).collect();
    assert_eq!(starts.len(), 1, "{container}: {witness:?}");
    (starts[0].at, container)
}

#[test]
fn the_seeds_example_is_accepted_as_it_stands_and_executed_in_order() {
    let mut daemon = Daemon::new();
    daemon.add(111, &[("a-1", "label1"), ("a-2", "label1"), ("a-3", "other")], "");
    daemon.add(222, &[("b-1", "")], "");
    daemon.launch();
    let file = daemon.write("seed.yaml", SEED);
    let file = file.to_str().unwrap();
    assert!(daemon.ctl_ends(0, &["plan", "check", file]).contains("valid: 2 items in 2 batches"));
    daemon.ctl_ends(0, &["plan", "create", file, "--name", "seed"]);
    assert_eq!(daemon.ctl_ends(0, &["plan", "show", "seed"]), SEED);

    let server = PackageServer::new();
    let answering = SEED.replace("http://exapmle.zip", &server.url("/ok.tar"));
    daemon.executed("before", &items(&[(222, 0, "START", "")]), "SUCCEEDED");
    let id = daemon.executed("seed", &answering, "SUCCEEDED");
    let report = daemon.report(id);
    let deployments = report["deployments"].as_array().unwrap();
    let order: Vec<_> =
        deployments.iter().map(|deployment| deployment["serviceId"].as_u64().unwrap()).collect();
    assert_eq!(order, [111, 222]);
    // 111 has deployed both containers with the label before 222 was stopped.
    assert!(deployments[0]["finishedAt"].as_str() <= deployments[1]["startedAt"].as_str());
    assert_eq!(deployments[0]["operations"].as_array().unwrap().len(), 2);
    assert_eq!(deployments[1]["operations"][0]["state"], "SUCCEEDED");
    let containers: Vec<_> = daemon.witness().iter().map(|start| start.container.clone()).collect();
    assert_eq!(containers.iter().filter(|name| name.starts_with("a-")).count(), 2, "{containers:?}");
    assert!(!containers.contains(&"a-3".to_string()));
}

#[test]
fn all_five_ways_in_three_batches() {
    let mut daemon = Daemon::new();
    let build = "build: { command: [/bin/sh, build.sh], output: out }";
    daemon.add(1, &[("start-1", ""), ("start-2", "")], "");
    daemon.add(2, &[("stop-1", "")], "");
    daemon.add(3, &[("http-1", "x"), ("http-2", "x"), ("http-3", "y")], &daemon.gate());
    daemon.add(4, &[("git-1", "")], &format!("{build}\n{}", daemon.gate()));
    daemon.add(5, &[("restart-1", "")], "");
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon, "app", &[("build.sh", "mkdir out; echo built > out/file")], "main");
    daemon.executed("before", &items(&[(2, 0, "START", ""), (5, 0, "START", "")]), "SUCCEEDED");
    let server = PackageServer::new();
    let package =
        format!(", httpSrcUri: '{}', containerExecMethod: PARALLEL, deployLabel: 'x'", server.url("/ok.tar"));
    let plan = items(&[
        (5, -1, "RESTART", ""),
        (4, 2, "COMPILE_DEPLOY", ", compileRepoPath: app, compileRepoBranch: main"),
        (3, 2, "HTTP_UPLOAD_DEPLOY", &package),
        (1, 9, "START", ""),
        (2, 9, "STOP", ""),
    ]);
    let id = daemon.execute("release", &plan);
    // Everything of the middle batch is begun before anything of it is up: they run at the same time.
    let mut begun = daemon.events(&format!("task={id}"));
    let mut going_on = Vec::new();
    while going_on.len() < 3 {
        let event = begun.next().unwrap();
        if event["type"] == "operation.begun" && event["priority"] == 2 {
            going_on.push(event["container"].as_str().unwrap().to_string());
        }
        assert!(event["type"] != "operation.ended" || event["priority"] != 2, "{event}");
    }
    going_on.sort();
    assert_eq!(going_on, ["git-1", "http-1", "http-2"]);
    for container in &going_on {
        daemon.release(container);
    }
    daemon.until_state(id, "SUCCEEDED");

    let first = of(&daemon, "start-1").0.max(of(&daemon, "start-2").0);
    let middle = ["http-1", "http-2", "git-1"].map(|name| of(&daemon, name).0);
    let restarts: Vec<_> =
        daemon.witness().into_iter().filter(|start| start.container == "restart-1").collect();
    assert_eq!(restarts.len(), 2);
    assert!(restarts[0].pid != restarts[1].pid);
    assert!(middle.iter().all(|at| first < *at && *at < restarts[1].at), "{:?}", daemon.witness());
    assert!(!daemon.witness().iter().any(|start| start.container == "http-3"));
    let stopped = daemon.json(&["service", "show", "s2"]);
    assert_eq!(stopped["containers"][0]["state"], "stopped");
}

#[test]
fn sequential_is_one_after_another_and_the_first_failure_ends_it() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", ""), ("c2", ""), ("c3", "")], &daemon.gate());
    daemon.launch();
    let id = daemon.execute("plan", &items(&[(1, 0, "START", "")]));
    for name in ["c1", "c2", "c3"] {
        daemon.until(id, |event| event["type"] == "operation.begun" && event["container"] == name);
        let started: Vec<_> = daemon.report(id)["deployments"][0]["operations"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|operation| operation["state"] == "RUNNING")
            .map(|operation| operation["container"].as_str().unwrap().to_string())
            .collect();
        assert_eq!(started, [name]);
        daemon.release(name);
    }
    daemon.until_state(id, "SUCCEEDED");
    let mut daemon = Daemon::new();
    let run = format!(
        "run:\n  command: [/bin/sh, -c, 'echo the reason; test $DEPLOYD_CONTAINER != c2 && exec sleep 1000']\n{}",
        crate::harness::user()
    );
    daemon.add_running(1, &[("c1", ""), ("c2", ""), ("c3", "")], &run, "health: { settle: 100ms }");
    daemon.launch();
    let id = daemon.executed("plan", &items(&[(1, 0, "START", "")]), "FAILED");
    let report = daemon.report(id);
    let states: Vec<_> = report["deployments"][0]["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|operation| operation["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["SUCCEEDED", "FAILED", "SKIPPED"]);
    let error = &report["deployments"][0]["error"];
    assert_eq!(error["code"], "exited");
    assert_eq!(error["log"][0], "the reason", "{error:#}");
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    let state = |id| daemon.report(id)["deployments"][0]["operations"][0].clone();
    let stop = daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    assert_eq!(
        (&state(stop)["state"], &state(stop)["detail"]),
        (&"UNCHANGED".into(), &"already stopped".into())
    );
    daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let again = daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    assert_eq!(
        (&state(again)["state"], &state(again)["detail"]),
        (&"UNCHANGED".into(), &"already running".into())
    );
    assert_eq!(daemon.witness().len(), 1);
}
