//! Which version of its interface an engine is spoken to in.

use std::time::{Duration, Instant};

use deployd::catalog::Engine;
use deployd::engine::{Connection, EngineError};
use serde_json::json;

use super::catalog_at;
use super::fake::{Answer, DOCKER_20, DOCKER_28, DOCKER_29, Fake, PODMAN_4, Persona};
use super::harness::Daemon;

fn connection(fake: &Fake) -> Connection {
    Connection::new(Engine::Docker, &fake.socket()).unwrap()
}

fn versions(fake: &Fake) -> Vec<String> {
    let asked = fake.world().asked.clone();
    asked.iter().map(|asked| asked.split(' ').next().unwrap().to_string()).collect()
}

#[tokio::test]
async fn each_engine_is_spoken_to_in_the_newest_version_that_both_know() {
    for (persona, spoken) in
        [(DOCKER_20, "v1.41"), (DOCKER_28, "v1.51"), (DOCKER_29, "v1.52"), (PODMAN_4, "v1.41")]
    {
        let fake = Fake::new(persona);
        let connection = connection(&fake);
        for _ in 0..3 {
            assert!(connection.inspect("none").await.unwrap().is_none(), "{persona:?}");
        }
        assert_eq!(versions(&fake), ["-", spoken, spoken, spoken], "{persona:?}: asked for its version once");
    }
}

#[tokio::test]
async fn an_engine_that_is_upgraded_or_downgraded_meanwhile_is_asked_again() {
    let fake = Fake::new(DOCKER_20);
    let connection = connection(&fake);
    let body = || json!({ "Image": "lab:1", "Labels": { "io.deployd.operation": "x" } });
    connection.create("a", body()).await.unwrap();
    for (persona, name) in
        [(DOCKER_29, "b"), (DOCKER_28, "c"), (DOCKER_20, "d"), (PODMAN_4, "e"), (DOCKER_29, "f")]
    {
        fake.world().persona = persona;
        connection.create(name, body()).await.unwrap();
    }
    let names: Vec<_> = fake.world().containers.iter().map(|it| it.name.clone()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"], "each deed was done once");
}

#[tokio::test]
async fn an_engine_without_a_version_in_common_says_which_it_has() {
    let future = Persona { oldest: "1.60", newest: "1.70", ..DOCKER_29 };
    let past = Persona { oldest: "1.12", newest: "1.39", ..DOCKER_20 };
    for (persona, says) in [(future, "Minimum supported API version is 1.60"), (past, "after 1.39")] {
        let fake = Fake::new(persona);
        let error = connection(&fake).inspect("none").await.unwrap_err();
        assert!(matches!(error, EngineError::Version { .. }), "{error:?}");
        assert!(error.to_string().contains(says) && error.to_string().contains("1.40 to 1.52"), "{error}");
        assert!(fake.world().asked.len() <= 6, "{:?}", fake.world().asked);
    }
}

/// Something before the engine may let through only part of its interface, or invent versions.
#[tokio::test]
async fn versions_are_found_out_behind_a_proxy_and_never_asked_for_without_end() {
    let fake = Fake::new(DOCKER_28);
    fake.script(|request, world| request.is("GET _ping").then(|| world.refuse(403, "forbidden")));
    assert!(connection(&fake).inspect("none").await.unwrap().is_none());
    assert_eq!(versions(&fake), ["-", "-", "v1.51"]);

    let fake = Fake::new(DOCKER_20);
    let mut turn = 0;
    fake.script(move |request, world| {
        turn += 1;
        world.persona.newest = if turn % 2 == 0 { "1.41" } else { "1.51" };
        world.persona.oldest = if turn % 2 == 0 { "1.12" } else { "1.51" };
        request.version.is_some().then(|| {
            world.refuse(400, "client version 1.0 is too old. Minimum supported API version is 1.99")
        })
    });
    let error = connection(&fake).inspect("none").await.unwrap_err();
    assert!(matches!(error, EngineError::Version { .. }), "{error:?}");

    for nonsense in ["", "1", "one.two", "1.99999999", "\u{1f433}"] {
        let fake = Fake::new(DOCKER_20);
        let text = nonsense.to_string();
        fake.script(move |request, world| match &*request.path {
            "_ping" => Some(world.refuse(404, "page not found")),
            _ => Some(Answer::Json(200, json!({ "Version": "1", "ApiVersion": text }))),
        });
        let error = connection(&fake).inspect("none").await.unwrap_err();
        assert!(matches!(error, EngineError::Version { .. }), "{nonsense}: {error:?}");
    }
}

#[test]
fn check_says_which_engine_answers_and_in_which_versions() {
    let daemon = Daemon::new();
    let check = || {
        let output = daemon.command().arg("check").stdout(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let line = said.lines().find(|line| line.contains(" docker: ")).unwrap_or(&said).to_string();
        (output.status.success(), line)
    };
    let newer = Persona { oldest: "1.60", newest: "1.70", ..DOCKER_29 };
    for (persona, verdict, says) in [
        (DOCKER_20, "ok", "Docker 20.10.24 at "),
        (DOCKER_29, "ok", "API 1.44 to 1.54; deployd speaks 1.52"),
        (PODMAN_4, "ok", "Podman 4.3.1 at "),
        (newer, "fail", "API 1.60 to 1.70; this deployd speaks 1.40 to 1.52. Update"),
    ] {
        let fake = Fake::new(persona);
        catalog_at(&daemon, &fake.socket());
        let (_, line) = check();
        assert!(line.starts_with(verdict) && line.contains(says), "{line}");
        fake.script(|_, _| Some(Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n".to_vec())));
        let (success, line) = check();
        assert!(!success && line.starts_with("fail") && line.contains("cannot be read"), "{line}");
    }
    // One that listens and never answers.
    let fake = Fake::new(DOCKER_20);
    fake.script(|_, _| Some(Answer::Stream(Box::new(|_| std::thread::sleep(Duration::from_mins(1))))));
    catalog_at(&daemon, &fake.socket());
    let begun = Instant::now();
    let (success, line) = check();
    assert!(!success && line.contains("does not answer within 5 s"), "{line}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}
