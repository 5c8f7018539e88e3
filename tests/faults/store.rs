//! The store fails while tasks are going on: the next start says so of each of them, and of no other one.

use std::fs;

use crate::harness::items;
use crate::scene::{Daemon, assert_starts, resume, state};

#[test]
fn whom_a_failing_store_has_interrupted_the_next_start_says() {
    let mut daemon = Daemon::new();
    for id in 1..=3 {
        daemon.add(id, &[(&format!("c{id}"), "")], &daemon.gate());
    }
    daemon.launch();
    let begun = |daemon: &Daemon, service: u64| {
        let id = daemon.execute(&format!("t{service}"), &items(&[(service, 0, "START", "")]));
        daemon.until(id, |event| event["type"] == "operation.begun");
        id
    };
    let reasons = |daemon: &Daemon, ids: &[u64]| -> Vec<String> {
        let of = |id: &u64| {
            let (state, reason) = state(daemon, *id);
            assert_eq!(state, "INTERRUPTED");
            reason
        };
        ids.iter().map(of).collect()
    };
    let (first, second) = (begun(&daemon, 1), begun(&daemon, 2));
    // Its file has another name for a while: what is written meanwhile may or may not be in it.
    let (file, elsewhere) = (daemon.path("state/deployd.redb"), daemon.path("state/elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    daemon.try_http("POST", "/v1/plans?name=p", "", &items(&[(1, 0, "STOP", "")]));
    assert_eq!(daemon.wait(), Some(74), "{}", daemon.log());
    fs::rename(&elsewhere, &file).unwrap();
    daemon.launch();
    assert_eq!(reasons(&daemon, &[first, second]), ["storeFailed", "storeFailed"]);
    // Once it is said, it is not said again of what comes later.
    daemon.release("c1");
    resume(&daemon, first);
    let third = begun(&daemon, 3);
    daemon.kill_9();
    daemon.launch();
    assert_eq!(reasons(&daemon, &[second, third]), ["storeFailed", "daemonDied"]);
    for (id, container) in [(second, "c2"), (third, "c3")] {
        daemon.release(container);
        resume(&daemon, id);
    }
    assert_starts(&daemon, &[("c1", 1), ("c2", 1), ("c3", 1)]);
}
