//! What a container is doing, and what is done to it: nothing is removed, and nothing started beside it, while it
//! may still run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deployd::catalog::Engine;
use deployd::identity::{Identity, Owner};
use deployd::runtime::engine::{EngineRuntime, Marks};
use deployd::runtime::{ContainerRef, Form, Observation, Phase, Runtime};
use serde_json::json;

use super::fake::{Answer, DOCKER_28, Fake, PODMAN_4, Persona, World};
use super::harness::Daemon;
use super::{catalog_at, plan};

const ENGINES: [Persona; 2] = [DOCKER_28, PODMAN_4];
const NAME: &str = "deployd-web-a";

fn container() -> ContainerRef {
    ContainerRef { service: "web".into(), container: "a".into(), form: Form::Engine(Engine::Docker) }
}

/// A runtime at this engine, and a container of its that is in this state.
fn scene(persona: Persona, status: &str, pid: i64) -> (Fake, EngineRuntime) {
    let fake = Fake::new(persona);
    let services = fake.directory.path().join("services");
    let own = services.join("web/containers/a");
    {
        let mut world = fake.world();
        world.add(NAME, made(&own), status);
        let container = &mut world.containers[0];
        container.pid = pid;
        container.started = "2026-12-01T00:00:00Z".into();
    }
    let identity = Identity::settle(fake.directory.path()).unwrap();
    let marks = Marks { owner: Arc::new(Owner::new(&identity, "0123456789abcdef")), epoch: 1 };
    let runtime = EngineRuntime::new(Engine::Docker, &fake.socket(), services, marks).unwrap();
    (fake, runtime)
}

fn made(own: &Path) -> serde_json::Value {
    json!({ "Image": "lab:1", "Labels": { "io.deployd.container": own, "io.deployd.operation": "before" } })
}

async fn stop(runtime: &EngineRuntime) -> Result<(), String> {
    let stopped = runtime.stop(&container(), "SIGTERM", Duration::from_millis(300)).await;
    stopped.map(|_| ()).map_err(|error| error.to_string())
}

/// Lets a container go through these states, one at each look.
fn through(fake: &Fake, states: &'static [(&'static str, i64)]) {
    let mut look = 0;
    fake.script(move |request, world| {
        if request.is(&format!("GET containers/{NAME}/json"))
            && let (Some((status, pid)), Some(container)) = (states.get(look), world.containers.first_mut())
        {
            container.status = (*status).into();
            container.pid = *pid;
            look += 1;
        }
        None
    });
}

#[tokio::test]
async fn a_container_is_removed_only_when_no_process_is_left() {
    for persona in ENGINES {
        for states in [
            &[("running", 7), ("exited", 0)][..],
            &[("stopping", 7), ("stopping", 7), ("stopping", 7), ("exited", 0)],
            &[("stopping", 7), ("stopped", 7), ("stopped", 0)],
            &[("exited", 7), ("exited", 7), ("exited", 0)],
            &[("restarting", 0), ("running", 8), ("exited", 0)],
            &[("hibernating", 0), ("hibernating", 0), ("exited", 0)],
            &[("removing", 7), ("removing", 0), ("dead", 0)],
            &[("created", 0)],
            &[("initialized", 9)],
        ] {
            let (fake, runtime) = scene(persona, "running", 7);
            through(&fake, states);
            stop(&runtime).await.unwrap();
            let removed: Vec<_> = fake.asked("DELETE");
            assert_eq!(removed.len(), 1, "{states:?}: {:?}", fake.world().asked);
            assert!(!removed[0].contains('?'), "neither by force nor with volumes: {removed:?}");
            let looks = fake.asked(&format!("GET containers/{NAME}")).len();
            assert_eq!(looks, states.len() + 1, "{states:?}: it is looked at until it is gone");
            assert!(fake.world().containers.is_empty());
        }
    }
}

#[tokio::test]
async fn a_state_that_says_nothing_is_waited_for_and_then_told() {
    let told = [("hibernating", 0), ("unknown", 0), ("", 0), ("exited", 7), ("created", 7)].map(
        async |(status, pid)| {
            let (fake, runtime) = scene(PODMAN_4, status, pid);
            let seen = runtime.observe_settled(&container()).await.unwrap_err().to_string();
            assert!(seen.contains("cannot tell whether") && seen.contains(status), "{seen}");
            let stopped = stop(&runtime).await.unwrap_err();
            assert!(stopped.contains("cannot tell whether"), "{stopped}");
            assert_eq!(fake.asked("DELETE"), [""; 0]);
            assert_eq!(fake.asked("POST"), [""; 0]);
        },
    );
    futures_util::future::join_all(told).await;
}

#[tokio::test]
async fn what_is_neither_up_nor_down_is_seen_as_such() {
    for (status, phase) in [("stopping", Phase::Stopping), ("paused", Phase::Paused)] {
        let (_fake, runtime) = scene(PODMAN_4, status, 7);
        let seen = runtime.observe_settled(&container()).await.unwrap();
        let is_so = matches!(&seen, Observation::Changing { phase: found, .. } if *found == phase);
        assert!(is_so && seen.is_there(), "{status}: {seen:?}");
    }
    let (_fake, runtime) = scene(DOCKER_28, "restarting", 0);
    let seen = runtime.observe_settled(&container()).await.unwrap();
    assert!(matches!(seen, Observation::Restarting { .. }), "{seen:?}");
    let (fake, runtime) = scene(PODMAN_4, "removing", 0);
    let mut looks = 0;
    fake.script(move |request, world| {
        looks += usize::from(request.is("GET containers/"));
        if looks == 3 {
            world.containers.clear();
        }
        None
    });
    let seen = runtime.observe_settled(&container()).await.unwrap();
    assert_eq!(seen, Observation::Absent, "what is being removed is waited for");
}

#[tokio::test]
async fn what_is_paused_goes_on_before_it_ends() {
    for persona in ENGINES {
        let (fake, runtime) = scene(persona, "paused", 7);
        stop(&runtime).await.unwrap();
        let deeds = fake.asked("POST");
        assert!(deeds[0].contains("/unpause") && deeds[1].contains("/stop"), "{deeds:?}");
        assert!(fake.world().containers.is_empty());
    }
}

/// What an engine refuses in the middle is looked at again: another client, or a removal, came in between.
#[tokio::test]
async fn a_refusal_in_the_middle_of_a_stop_is_looked_at_again() {
    type Refuses = fn(&mut World) -> Option<Answer>;
    let refusals: [(&str, Refuses); 6] = [
        ("POST containers/", |world| Some(world.refuse(409, "removal is already in progress"))),
        ("POST containers/", |world| Some(world.refuse(500, "no exit event"))),
        ("POST containers/", |_| Some(Answer::Raw(Vec::new()))),
        ("DELETE containers/", |world| Some(world.refuse(409, "removal is already in progress"))),
        ("DELETE containers/", |_| Some(Answer::Raw(Vec::new()))),
        // `docker rm -f` by hand.
        ("DELETE containers/", |world| {
            world.containers.clear();
            None
        }),
    ];
    for (what, refuse) in refusals {
        let (fake, runtime) = scene(DOCKER_28, "running", 7);
        let mut refused = false;
        fake.script(move |request, world| {
            if refused || !request.is(what) {
                return None;
            }
            refused = true;
            refuse(world)
        });
        stop(&runtime).await.unwrap();
        assert!(fake.world().containers.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn what_was_started_meanwhile_is_left_alone_by_a_start() {
    let (fake, runtime) = scene(DOCKER_28, "created", 0);
    through(&fake, &[("created", 0), ("running", 7)]);
    fake.script(|request, world| {
        if request.is("DELETE") {
            world.containers[0].status = "running".into();
            world.containers[0].pid = 7;
        }
        None
    });
    let error = runtime.clear(&container(), "SIGTERM", Duration::ZERO).await.unwrap_err();
    assert!(error.is_in_doubt(), "{error}");
    assert_eq!(fake.world().containers[0].status, "running");
    // What the engine itself starts again and again is ended.
    fake.unscripted();
    fake.world().containers[0].restarts = 3;
    runtime.clear(&container(), "SIGTERM", Duration::ZERO).await.unwrap();
    assert!(fake.world().containers.is_empty());
}

/// As Docker does that was killed in the middle of a start, with live-restore.
#[test]
fn a_container_that_its_engine_has_lost_track_of_is_made_anew() {
    let (mut daemon, fake) = (Daemon::new(), Fake::new(DOCKER_28));
    catalog_at(&daemon, &fake.socket());
    daemon.launch();
    let mut lost = 0;
    fake.script(move |request, world| {
        let is_start = request.is("POST containers/") && request.path.ends_with("/start");
        lost += usize::from(is_start);
        let text = if lost == 1 { "task 0123: already exists" } else { "id already in use" };
        (is_start && lost < 3).then(|| world.refuse(409, text))
    });
    daemon.executed("start", &plan("START"), "SUCCEEDED");
    assert_eq!(fake.world().containers.len(), 1);
    assert_eq!(fake.asked("DELETE").len(), 2);
    assert_eq!(fake.world().starts.values().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn nothing_is_started_beside_a_container_that_may_run() {
    for persona in ENGINES {
        let (mut daemon, fake) = (Daemon::new(), Fake::new(persona));
        catalog_at(&daemon, &fake.socket());
        let own = daemon.path("state/services/web/containers/a");
        fake.world().add(NAME, made(&own), "hibernating");
        daemon.launch();
        for way in ["START", "RESTART", "STOP"] {
            let task = daemon.executed("beside", &plan(way), "FAILED");
            let report = daemon.report(task).to_string();
            assert!(report.contains("cannot tell whether container deployd-web-a still runs"), "{report}");
        }
        assert_eq!(fake.asked("POST"), [""; 0]);
        assert_eq!(fake.asked("DELETE"), [""; 0]);
    }
}
