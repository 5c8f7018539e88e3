//! kill -9 of the daemon at each call to an engine: before the engine does it, after it has done it, and while it
//! does it only when the next daemon has looked.

use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::fake::{Answer, DOCKER_28, Fake, PODMAN_4, Persona, Request};
use super::harness::Daemon;
use super::{catalog_at, plan};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Never,
    Before,
    /// After the next daemon's first look.
    Late,
}

/// Kills the daemon at deed number `at` of a task; `None`: the task makes fewer.
fn killed_at(daemon: &mut Daemon, fake: &Fake, way: &str, at: usize, when: When) -> Option<u64> {
    let ((send, killed), (go, gone)) = (mpsc::channel(), mpsc::channel::<()>());
    let (pid, mut deeds, mut late) = (Pid::from_raw(daemon.pid()), 0, None::<Request>);
    fake.script(move |request, world| {
        if let Some(request) = late.take_if(|_| request.is("GET containers/")) {
            // This look sees it as it was before.
            let seen = world.usual(&Request {
                method: "GET".into(),
                path: "containers/deployd-web-a/json".into(),
                ..request.clone()
            });
            world.usual(&request);
            return Some(seen);
        }
        deeds += usize::from(request.is_deed());
        if !request.is_deed() || deeds != at {
            return None;
        }
        // Its client has its number.
        gone.recv().ok();
        match when {
            When::Never => {}
            When::Before => drop(world.usual(request)),
            When::Late => late = Some(request.clone()),
        }
        send.send(()).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        Some(Answer::Raw(Vec::new()))
    });
    let task = daemon.execute("killed", &plan(way));
    drop(go);
    if let Some(mut events) = daemon.try_events(&format!("task={task}")) {
        while events
            .next()
            .is_some_and(|event| event["state"] != "SUCCEEDED" || event["type"] != "task.succeeded")
        {}
    }
    if killed.try_recv().is_err() {
        fake.unscripted();
        return None;
    }
    daemon.wait();
    Some(task)
}

fn killed_at_each_call(persona: Persona, ways: &[(&str, usize)]) {
    let (mut daemon, fake) = (Daemon::new(), Fake::new(persona));
    catalog_at(&daemon, &fake.socket());
    fake.world().images.insert("lab:1".into(), json!({ "Volumes": { "/data": {} } }));
    daemon.launch();
    for (way, deeds) in ways {
        for when in [When::Never, When::Before, When::Late] {
            let mut kills = 0;
            loop {
                daemon.executed("up", &plan(if *way == "START" { "STOP" } else { "START" }), "SUCCEEDED");
                let Some(task) = killed_at(&mut daemon, &fake, way, kills + 1, when) else { break };
                kills += 1;
                daemon.launch();
                daemon.ctl_ends(0, &["resume", &task.to_string()]);
                daemon.until_state(task, "SUCCEEDED");
                fake.unscripted();
                let world = fake.world();
                let place = format!("{way}, killed at deed {kills}, done: {when:?}: {:#?}", world.asked);
                let (containers, starts) = if *way == "STOP" { (0, 0) } else { (1, 1) };
                assert!(world.starts.values().all(|starts| *starts == 1), "{place}: {:?}", world.starts);
                let running = world.containers.iter().filter(|it| it.status == "running").count();
                assert_eq!((world.containers.len(), running), (containers, containers), "{place}");
                let own = world.starts.keys().filter(|id| id.split('.').nth(1) == Some(&task.to_string()));
                assert_eq!(own.count(), starts, "{place}: {:?}", world.starts);
                assert_eq!(world.volumes.len(), 1, "{place}");
                assert!(!world.asked.iter().any(|asked| asked.contains("force") || asked.contains("?v=")));
            }
            assert_eq!(kills, *deeds, "{way}: deeds");
        }
    }
}

#[test]
fn killed_at_each_call_to_docker_each_program_is_started_once() {
    killed_at_each_call(DOCKER_28, &[("RESTART", 5), ("STOP", 2), ("START", 3)]);
}

#[test]
fn killed_at_each_call_to_podman_each_program_is_started_once() {
    killed_at_each_call(PODMAN_4, &[("RESTART", 5), ("STOP", 2), ("START", 3)]);
}
