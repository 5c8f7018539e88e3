//! A panic in every message that the actors have, in the pool for blocking work, in the store, in the
//! spawner's reader, and during the shutdown.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::items;
use crate::http::PackageServer;
use crate::scene::{Daemon, assert_starts, resume, state};

/// What a panic comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    /// Its task is interrupted, and nothing else happens.
    Interrupted,
    /// Nothing is left to be interrupted: the task has ended.
    Unharmed,
    /// The daemon ends with this exit code.
    Ends(i32),
}

/// What makes the message be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Release,
    Pause,
    Reload,
    Terminate,
}

/// Where the daemon panics, each once; what for; what then.
const TABLE: [(&str, By, Then); 28] = [
    ("task: started", By::Release, Then::Interrupted),
    ("task: BatchDone", By::Release, Then::Interrupted),
    ("task: Hold", By::Pause, Then::Interrupted),
    ("task: HoldBack", By::Terminate, Then::Ends(0)),
    ("batch: started,task: ChildCrashed", By::Release, Then::Interrupted),
    ("task: End", By::Release, Then::Unharmed),
    ("batch: started", By::Release, Then::Interrupted),
    ("batch: PlaceFree", By::Release, Then::Interrupted),
    ("batch: LookAgain", By::Pause, Then::Interrupted),
    ("batch: DeploymentDone", By::Release, Then::Interrupted),
    ("deployment: started,batch: ChildCrashed", By::Release, Then::Interrupted),
    ("deployment: started", By::Release, Then::Interrupted),
    ("deployment: End", By::Release, Then::Interrupted),
    ("supervisor: Execute", By::Release, Then::Ends(70)),
    ("supervisor: CommandTask", By::Pause, Then::Ends(70)),
    ("supervisor: ReplaceCatalog", By::Reload, Then::Ends(70)),
    ("supervisor: Rested", By::Release, Then::Ends(70)),
    ("task: started,supervisor: Crashed", By::Release, Then::Ends(70)),
    ("supervisor: Drain", By::Terminate, Then::Ends(70)),
    ("supervisor: InterruptAll", By::Terminate, Then::Ends(70)),
    // Not actors: the host's threads, the pool for blocking work, the store, the spawner's reader.
    ("before a process is asked for", By::Release, Then::Interrupted),
    ("after a process was started", By::Release, Then::Interrupted),
    ("before a switch", By::Release, Then::Interrupted),
    ("before a release gets its name", By::Release, Then::Interrupted),
    ("before an artifact gets its name", By::Release, Then::Interrupted),
    ("before a commit", By::Release, Then::Ends(74)),
    ("after a commit", By::Release, Then::Ends(74)),
    ("the reader of the spawner", By::Release, Then::Interrupted),
];

struct Stage {
    daemon: Daemon,
    server: PackageServer,
}

impl Stage {
    /// Services 1 and 2 in one batch and 3 in the next one are the task in which it panics; 4 goes on.
    fn new(panic_in: &str) -> Self {
        let daemon = Daemon::new();
        // With one place, the others wait until the one that panics has given it back.
        let places = if matches!(panic_in, "batch: PlaceFree" | "deployment: started") { 1 } else { 2 };
        daemon.write("deployd.yaml", &format!("concurrency: {{ services: {places} }}\nshutdownGrace: 0s\n"));
        for id in 1..=4 {
            daemon.add(id, &[(&format!("c{id}"), "")], &daemon.gate());
        }
        Self { daemon, server: PackageServer::new() }
    }

    fn store(&self, name: &str, plan: &str) {
        assert_eq!(self.daemon.http("POST", &format!("/v1/plans?name={name}"), "", plan).0, 201);
    }

    /// Asks for a task; whoever asks again gets the same one. `None` when the daemon ends over it.
    fn execute(&self, name: &str) -> Option<u64> {
        let key = format!("Idempotency-Key: {name}\r\n");
        let (_, _, answer) =
            self.daemon.try_http("POST", "/v1/tasks", &key, &format!("{{\"plan\": \"{name}\"}}"))?;
        serde_json::from_str::<serde_json::Value>(&answer).ok()?["id"].as_u64()
    }
}

fn is_begun(event: &serde_json::Value) -> bool {
    event["type"] == "operation.begun" || event["type"] == "task.interrupted"
}

fn panicking(panic_in: &str, by: By, then: Then) {
    let what = format!("{panic_in} ({by:?})");
    let mut stage = Stage::new(panic_in);
    stage.daemon.launch();
    let package = format!(", httpSrcUri: '{}'", stage.server.url("/ok.tar"));
    let plan = [(1, 1, "START", ""), (2, 1, "HTTP_UPLOAD_DEPLOY", &*package), (3, 0, "START", "")];
    stage.store("victim", &items(&plan));
    stage.store("other", &items(&[(4, 0, "START", "")]));
    stage.daemon.terminate();
    stage.daemon.environment = vec![("DEPLOYD_PANIC_IN", panic_in.into())];
    let mut launched = stage.daemon.try_launch();
    let (mut victim, mut other) = (None, None);
    let mut begun = Instant::now();
    if launched {
        victim = stage.execute("victim");
        if let Some(id) = victim
            && then == Then::Interrupted
            && by != By::Release
        {
            stage.daemon.until(id, is_begun);
        }
        other = victim.and_then(|_| stage.execute("other"));
        begun = Instant::now();
        match by {
            By::Release => {}
            By::Pause => {
                let id = victim.unwrap();
                stage.daemon.try_http("POST", &format!("/v1/tasks/{id}/pause"), "", "");
            }
            By::Reload => drop(stage.daemon.try_http("POST", "/v1/services/reload", "", "")),
            By::Terminate => {
                stage.daemon.until(victim.unwrap(), is_begun);
                begun = Instant::now();
                assert_eq!(stage.daemon.terminate(), Some(code(then)), "{what}\n{}", stage.daemon.log());
                launched = false;
            }
        }
    }
    for container in ["c1", "c2", "c3"] {
        stage.daemon.release(container);
    }
    match then {
        Then::Ends(_) if by == By::Terminate => {}
        Then::Ends(code) => {
            assert_eq!(stage.daemon.wait(), Some(code), "{what}\n{}", stage.daemon.log());
            launched = false;
        }
        Then::Interrupted => {
            let id = victim.unwrap();
            stage.daemon.until_state(id, "INTERRUPTED");
            assert_eq!(state(&stage.daemon, id).1, "actorCrashed", "{what}");
        }
        Then::Unharmed => stage.daemon.until_state(victim.unwrap(), "SUCCEEDED"),
    }
    // Less than the daemon's grace and limits: nothing has waited for what has crashed.
    assert!(begun.elapsed() < Duration::from_secs(25), "{what}: it took {:?}", begun.elapsed());
    if launched {
        // The other task has noticed nothing.
        let id = other.unwrap();
        assert_eq!(state(&stage.daemon, id).0, "RUNNING", "{what}\n{}", stage.daemon.log());
        stage.daemon.release("c4");
        stage.daemon.until_state(id, "SUCCEEDED");
    } else {
        stage.daemon.environment.clear();
        stage.daemon.launch();
        stage.daemon.release("c4");
    }
    for name in ["victim", "other"] {
        let id = stage.execute(name).unwrap();
        if state(&stage.daemon, id).0 == "INTERRUPTED" {
            resume(&stage.daemon, id);
        }
        stage.daemon.until_state(id, "SUCCEEDED");
    }
    assert_starts(&stage.daemon, &[("c1", 1), ("c2", 1), ("c3", 1), ("c4", 1)]);
    assert!(stage.daemon.log().contains("a test asked for it"), "{what}: nothing panicked");
}

const fn code(then: Then) -> i32 {
    if let Then::Ends(code) = then { code } else { 0 }
}

#[test]
fn a_panic_anywhere_is_a_crash_like_any_other() {
    std::thread::scope(|scope| {
        for half in TABLE.chunks(TABLE.len().div_ceil(3)) {
            scope.spawn(|| half.iter().for_each(|&(panic_in, by, then)| panicking(panic_in, by, then)));
        }
    });
}

/// Every message has a point to panic at, and every one of these is in the table.
#[test]
fn no_message_of_an_actor_is_left_out() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/actors");
    let mut handlers = 0;
    let mut points = BTreeSet::new();
    let mut open = vec![sources];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                open.push(path);
            } else if path.is_file() && !path.ends_with("guard.rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                handlers += text.matches("Handler<").count() + text.matches("fn started(").count();
                let found = text.split("handling(\"").skip(1).map(|part| part.split('"').next().unwrap());
                points.extend(found.map(str::to_string));
            }
        }
    }
    assert_eq!(handlers, points.len(), "a handler has no point to panic at: {points:?}");
    let tested: BTreeSet<_> = TABLE.iter().flat_map(|row| row.0.split(',')).collect();
    // Only the watchdog of systemd asks that; without an answer the daemon ends like any that is stuck.
    points.remove("supervisor: AreYouThere");
    let missing: Vec<_> = points.iter().filter(|point| !tested.contains(&***point)).collect();
    assert!(missing.is_empty(), "not tested: {missing:?}");
}
