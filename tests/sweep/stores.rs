//! Stores that released versions have written, and what was told of them then: a later version tells the same.
//!
//! A version has a directory in `tests/fixtures/stores`, with a store of each scene that has an event which none before
//! it has. It is made once, when there is none, with `DEPLOYD_UPDATE=1`, and is never changed again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use deployd::task::event::Event;
use deployd::task::host_event::HostEvent;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

use crate::harness::{Daemon, Events};
use crate::scenes::SCENES;

/// The store below a daemon's directory.
const STORE: &str = "state/deployd.redb";

fn versions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores")
}

fn all(events: &mut Events) -> Vec<Value> {
    std::iter::from_fn(|| events.next()).collect()
}

/// Everything that is read out of the store alone, with so many events: what follows is this daemon's own.
fn told(daemon: &Daemon, count: usize) -> Map<String, Value> {
    let tasks = daemon.call("GET", "/v1/tasks", "").1;
    let ids: Vec<_> = tasks["tasks"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect();
    let each = |what: &str| -> Value {
        ids.iter().map(|id| daemon.call("GET", &format!("/v1/tasks/{id}{what}"), "").1).collect()
    };
    let mut events = all(&mut daemon.events("follow=false"));
    events.truncate(count);
    Map::from_iter([
        ("events".into(), events.into()),
        ("history".into(), daemon.call("GET", "/v1/history", "").1),
        ("plans".into(), daemon.call("GET", "/v1/plans", "").1),
        ("reports".into(), each("/report")),
        ("shown".into(), each("")),
        ("tasks".into(), tasks),
    ])
}

/// Whether all that was said then is said now; more may be.
fn says(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            then.iter().all(|(key, then)| now.get(key).is_some_and(|now| says(now, then)))
        }
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| says(now, then))
        }
        (now, then) => now == then,
    }
}

/// Plays the scenes, and keeps the stores of those that have something new.
fn make(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let mut seen = BTreeSet::new();
    for (name, scene) in SCENES {
        let mut stage = scene();
        while !stage.live(None).done {}
        let events = all(&mut stage.daemon.events("follow=false"));
        let kinds: BTreeSet<_> = events.iter().map(|event| event["type"].to_string()).collect();
        if kinds.is_subset(&seen) {
            continue;
        }
        seen.extend(kinds);
        stage.daemon.terminate();
        let place = directory.join(format!("{name}.json"));
        let store = File::create(place.with_extension("redb.gz")).unwrap();
        let mut store = GzEncoder::new(store, Compression::best());
        store.write_all(&fs::read(stage.daemon.path(STORE)).unwrap()).unwrap();
        store.finish().unwrap();
        // Nothing of the catalog is in it.
        let text = serde_json::to_string(&told(&daemon_on(&place), events.len())).unwrap();
        fs::write(place, text + "\n").unwrap();
    }
    let never: Vec<_> = Event::NAMES
        .into_iter()
        .chain(HostEvent::NAMES)
        .filter(|name| !seen.contains(&format!("\"{name}\"")))
        .collect();
    assert!(never.is_empty(), "no scene has {never:?}");
}

/// A daemon on the store that was kept under this name.
fn daemon_on(place: &Path) -> Daemon {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(place.with_extension("redb.gz")).unwrap()).read_to_end(&mut bytes).unwrap();
    let mut daemon = Daemon::new();
    fs::create_dir(daemon.path("state")).unwrap();
    let mut store = fs::OpenOptions::new();
    let store = std::os::unix::fs::OpenOptionsExt::mode(store.write(true).create_new(true), 0o600);
    store.open(daemon.path(STORE)).unwrap().write_all(&bytes).unwrap();
    daemon.launch();
    daemon
}

#[test]
fn what_earlier_versions_have_written_is_told_as_they_told_it() {
    let ours = versions().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("DEPLOYD_UPDATE").is_some() && !ours.exists() {
        make(&ours);
    }
    assert!(ours.exists(), "no stores of this version are kept; DEPLOYD_UPDATE=1 makes them");
    let places =
        fs::read_dir(versions()).unwrap().flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap());
    let places = places
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"));
    let mut count = 0;
    for place in places {
        let then: Map<String, Value> = serde_json::from_str(&fs::read_to_string(&place).unwrap()).unwrap();
        let now = told(&daemon_on(&place), then["events"].as_array().unwrap().len());
        for (what, then) in &then {
            assert!(says(&now[what], then), "{what} of {}: {:#}\nnot {then:#}", place.display(), now[what]);
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn what_is_said_no_more_is_noticed() {
    let then = serde_json::json!({ "a": [1, { "b": null }] });
    assert!(says(&serde_json::json!({ "a": [1, { "b": null, "new": 2 }], "new": 3 }), &then));
    for less in [r#"{"a":[1,{}]}"#, r#"{"a":[1]}"#, r#"{"a":[1,{"b":null},2]}"#, r#"{"a":[1,{"b":0}]}"#, "{}"]
    {
        assert!(!says(&serde_json::from_str(less).unwrap(), &then), "{less}");
    }
}
