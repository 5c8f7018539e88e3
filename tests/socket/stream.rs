//! The event stream over many reconnects and many deaths of the daemon: nothing is missing, nothing
//! comes twice, nothing comes in another order.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{figure, scaled};
use crate::harness::{Daemon, Events, PATIENCE, items};

/// What a reader has seen of a stream, by id.
#[derive(Default)]
struct Seen {
    events: BTreeMap<u64, Value>,
    reconnects: usize,
}

/// Reads on, connecting anew after every few events, until event `end` has come.
fn read(socket: &Path, few: usize, progress: &AtomicU64, end: &AtomicU64) -> Seen {
    let (mut seen, mut last) = (Seen::default(), 0);
    while last < end.load(Relaxed) {
        let Ok(mut stream) = UnixStream::connect(socket) else {
            std::thread::yield_now();
            continue;
        };
        // Long enough for a busy daemon, and short enough to notice the end.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nHost: d\r\nLast-Event-ID: {last}\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_err() {
            continue;
        }
        seen.reconnects += 1;
        let mut events = Events::of(stream);
        for _ in 0..few {
            let Some(event) = events.next() else { break };
            let seq = event["seq"].as_u64().unwrap();
            assert_eq!(seq, last + 1, "after {last} came {event}");
            seen.events.insert(seq, event);
            last = seq;
        }
        progress.fetch_max(last, Relaxed);
    }
    seen
}

#[test]
fn readers_that_reconnect_over_many_kills_miss_nothing_and_see_nothing_twice() {
    let mut daemon = Daemon::new();
    for id in 1..=3 {
        daemon.add(id, &[(&format!("c{id}"), "")], "");
    }
    daemon.write("deployd.yaml", "resumeOnStart: true\n");
    daemon.launch();
    let kills = scaled(6);
    let (progress, end, socket) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), daemon.socket());
    let readers: Vec<Seen> = std::thread::scope(|scope| {
        let readers: Vec<_> = [1, 3, 7]
            .map(|few| (few, &progress, &end, &socket))
            .into_iter()
            .map(|(few, progress, end, socket)| scope.spawn(move || read(socket, few, progress, end)))
            .collect();
        for round in 0..kills {
            let way = if round % 2 == 0 { "START" } else { "STOP" };
            let plan = items(&[(1, 1, way, ""), (2, 1, way, ""), (3, 0, way, "")]);
            let id = daemon.execute("plan", &plan);
            // At another moment each time.
            let target = progress.load(Relaxed) + 1 + (round as u64 * 5) % 17;
            let begun = Instant::now();
            while progress.load(Relaxed) < target && daemon.task(id)["state"] == "RUNNING" {
                assert!(begun.elapsed() < PATIENCE && readers.iter().all(|reader| !reader.is_finished()));
            }
            daemon.kill_9();
            daemon.launch();
            daemon.until_state(id, "SUCCEEDED");
        }
        let all = daemon.ctl_ends(0, &["events"]).lines().count();
        end.store(all as u64, Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let listed: BTreeMap<u64, Value> = daemon
        .ctl_ends(0, &["events"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| (event["seq"].as_u64().unwrap(), event))
        .collect();
    let reconnects: usize = readers.iter().map(|seen| seen.reconnects).sum();
    figure(&format!("{} events, {reconnects} reconnects, {kills} kills", listed.len()));
    for seen in readers {
        // What came then is what is there now: nobody was told of what did not become durable.
        for (seq, event) in &listed {
            assert_eq!(seen.events.get(seq), Some(event));
        }
    }
}

#[test]
fn a_place_that_is_not_there_yet_is_waited_for_and_nonsense_is_refused() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    for after in [u64::MAX, u64::MAX - 1, 1 << 40] {
        let (status, _, body) = daemon.http("GET", &format!("/v1/events?follow=false&after={after}"), "", "");
        assert!(status == 200 && !body.contains("data:"), "{after}: {status} {body}");
        let id = format!("Last-Event-ID: {after}\r\n");
        assert_eq!(daemon.http("GET", "/v1/events?follow=false", &id, "").0, 200);
    }
    for id in ["-1", "x", "1 2", "18446744073709551616", "0x10"] {
        let id = format!("Last-Event-ID: {id}\r\n");
        assert_eq!(daemon.http("GET", "/v1/events?follow=false", &id, "").0, 400, "{id}");
    }
}
