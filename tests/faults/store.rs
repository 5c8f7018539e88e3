//! The store fails while tasks are going on: the next start says so of each of them, and of no other one.

use std::fs;
use std::time::Instant;

use crate::harness::{PATIENCE, is_root, items, skip};
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

#[test]
fn on_a_disk_that_can_only_be_read_it_says_so_and_does_not_start() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    assert_eq!(daemon.terminate(), Some(0));
    let before = fs::read(daemon.path("state/deployd.redb")).unwrap();
    let state = daemon.path("state").display().to_string();
    let mount = format!("mount --bind {state} {state} && mount -o remount,bind,ro {state} && exec \"$@\"");
    daemon.wrapper = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &mount, "sh"]
        .map(str::to_string)
        .into();
    let refused = daemon.command().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("Read-only file system"), "{said}");
    assert!(said.contains("cannot") && said.contains(&state), "{said}");
    assert!(fs::read(daemon.path("state/deployd.redb")).unwrap() == before);
    daemon.wrapper.clear();
    daemon.launch();
    daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
}

/// Nobody reads the log, down to its last detail, of a daemon that works: it works on.
#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    // A fifo that this test has open, and does not read.
    let fifo = daemon.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut log = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    daemon.environment = vec![("DEPLOYD_LOG", "trace".into())];
    let redirect = format!("exec \"$@\" 2>{}", fifo.display());
    daemon.wrapper = ["/bin/sh", "-c", &redirect, "sh"].map(str::to_string).into();
    daemon.launch();
    let begun = Instant::now();
    for round in 0..30 {
        let way = if round % 2 == 0 { "START" } else { "STOP" };
        daemon.executed("plan", &items(&[(1, 0, way, "")]), "SUCCEEDED");
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    // All that a pipe takes is there; and who reads again is told how much is not.
    nix::fcntl::fcntl(&log, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut log, &mut said).ok();
    assert!(said.len() >= 48 << 10, "the log was never full: {} bytes", said.len());
    daemon.ctl_ends(0, &["list"]);
    let begun = Instant::now();
    while !String::from_utf8_lossy(&said).contains("lines of the log were lost") {
        assert!(begun.elapsed() < PATIENCE);
        std::io::Read::read_to_end(&mut log, &mut said).ok();
        daemon.ctl_ends(0, &["list"]);
    }
    assert_eq!(daemon.terminate(), Some(0));
}
