//! Getting an image: whatever an engine says meanwhile, nothing is stopped before the image is there.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use deployd::catalog::Engine;
use deployd::engine::{Connection, EngineError};
use serde_json::json;

use super::fake::{Answer, DOCKER_29, Fake, PODMAN_4, World};
use super::harness::{Daemon, PATIENCE};
use super::{catalog_at, plan};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const LINE: &[u8] =
    b"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"0123\"}\r\n";

fn chunk(stream: &mut UnixStream, bytes: &[u8]) -> bool {
    let head = format!("{:x}\r\n", bytes.len());
    stream.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat()).is_ok()
}

/// Progress of this many MiB, and this at its end.
fn progress(mib: usize, last: &'static str) -> Answer {
    Answer::Stream(Box::new(move |stream| {
        let lines = LINE.repeat((1 << 20) / LINE.len());
        stream.write_all(HEAD).unwrap();
        if (0..mib).all(|_| chunk(stream, &lines)) && (last.is_empty() || chunk(stream, last.as_bytes())) {
            stream.write_all(b"0\r\n\r\n").ok();
        }
    }))
}

fn raw(text: &str) -> Answer {
    Answer::Raw(text.as_bytes().to_vec())
}

/// An engine that answers so when it is asked for an image that it has not.
fn engine(persona: super::fake::Persona, answer: fn(&mut World) -> Answer) -> Fake {
    let fake = Fake::new(persona);
    fake.script(move |request, world| request.is("POST images/create").then(|| answer(world)));
    fake
}

async fn obtain(fake: &Fake) -> Result<(), EngineError> {
    let connection = Connection::new(Engine::Docker, &fake.socket()).unwrap();
    connection.with_stall(Duration::from_millis(500)).obtain("lab:2").await.map(|_| ())
}

fn long(world: &mut World) -> Answer {
    world.images.insert("lab:2".into(), json!({}));
    progress(64, "{\"status\":\"Status: Downloaded\"}\n")
}

#[tokio::test]
async fn progress_of_any_length_is_heard_to_its_end() {
    let fake = engine(DOCKER_29, long);
    obtain(&fake).await.unwrap();
    assert_eq!(fake.asked("GET images").len(), 2, "it is looked at before and afterwards");
    assert_eq!(fake.asked("POST images"), ["POST images/create?fromImage=lab%3A2"]);
}

/// What is said, and how the engine comes to it.
type Fails = (&'static str, fn(&mut World) -> Answer);

/// Each way not to get an image, and what is said of it.
const FAILURES: [Fails; 12] = [
    ("connection refused", |world| world.refuse(500, "Get \"http://x/v2/\": connection refused")),
    ("not found", |world| world.refuse(404, "repository lab not found")),
    ("denied", |_| progress(5, "{\"errorDetail\":{\"message\":\"denied\"},\"error\":\"denied\"}\n")),
    ("denied", |_| progress(0, "{\"errorDetail\":{\"message\":\"denied\"}}")),
    ("denied", |_| progress(0, "{\"progressDetail\":{},\"error\":\"denied\"}\n{\"status\":\"x\"}\n")),
    ("is not there", |_| progress(5, "")),
    ("is not there", |_| raw("HTTP/1.1 200 OK\r\n\r\n")),
    ("was cut off", |_| raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"status\":\"x\"}\n")),
    ("was cut off", |_| raw("")),
    ("longer than 64 KiB", |_| {
        Answer::Stream(Box::new(|stream| {
            stream.write_all(HEAD).unwrap();
            while chunk(stream, &vec![b'x'; 1 << 16]) {}
        }))
    }),
    ("says nothing about its progress", |_| {
        Answer::Stream(Box::new(|stream| {
            stream.write_all(HEAD).unwrap();
            chunk(stream, LINE);
            std::thread::sleep(PATIENCE);
        }))
    }),
    ("says nothing about its progress", |_| Answer::Stream(Box::new(|_| std::thread::sleep(PATIENCE)))),
];

#[tokio::test]
async fn each_way_not_to_get_an_image_is_a_failure() {
    for (says, answer) in FAILURES {
        for persona in [DOCKER_29, PODMAN_4] {
            let error = obtain(&engine(persona, answer)).await.unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}

#[test]
fn nothing_is_stopped_for_an_image_that_has_not_come() {
    let (mut daemon, fake) = (Daemon::new(), Fake::new(DOCKER_29));
    catalog_at(&daemon, &fake.socket());
    daemon.launch();
    daemon.executed("start", &plan("START"), "SUCCEEDED");
    let text = std::fs::read_to_string(daemon.path("services.d/web.yaml")).unwrap();
    daemon.write("services.d/web.yaml", &text.replace("lab:1", "lab:2"));
    daemon.ctl_ends(0, &["service", "reload"]);
    // All but those that stall, for which nobody waits here.
    for (says, answer) in &FAILURES[..10] {
        let answer = *answer;
        fake.script(move |request, world| request.is("POST images/create").then(|| answer(world)));
        let task = daemon.executed("restart", &plan("RESTART"), "FAILED");
        let report = daemon.report(task);
        let error = &report["deployments"][0]["operations"][0]["error"];
        assert_eq!(error["code"], "imageFailed", "{says}: {report}");
        assert_eq!(fake.asked("POST containers/").iter().filter(|it| it.contains("/stop")).count(), 0);
        assert_eq!(fake.world().containers[0].status, "running");
    }
    fake.script(|request, world| request.is("POST images/create").then(|| long(world)));
    daemon.executed("restart", &plan("RESTART"), "SUCCEEDED");
    assert_eq!(fake.world().containers[0].made["Image"], "lab:2");
}

#[test]
fn stop_now_ends_a_pull() {
    let (mut daemon, fake) = (Daemon::new(), Fake::new(DOCKER_29));
    catalog_at(&daemon, &fake.socket());
    fake.world().images.clear();
    let (hung_up, hangs_up) = std::sync::mpsc::channel();
    fake.script(move |request, _| {
        let hung_up = hung_up.clone();
        request.is("POST images/create").then(|| {
            Answer::Stream(Box::new(move |stream| {
                stream.write_all(HEAD).unwrap();
                while chunk(stream, LINE) {
                    std::thread::yield_now();
                }
                hung_up.send(()).unwrap();
            }))
        })
    });
    daemon.launch();
    let task = daemon.execute("start", &plan("START"));
    daemon.until(task, |event| event["type"] == "operation.begun");
    daemon.ctl_ends(11, &["stop", &task.to_string(), "--now", "--wait"]);
    hangs_up.recv_timeout(PATIENCE).expect("the pull goes on after its task was stopped");
    assert_eq!(fake.asked("POST containers/create"), [""; 0]);
}
