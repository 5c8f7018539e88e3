//! Two daemons of one host, of which one began as a copy of the other: neither takes the other's containers for its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Daemon, Start, items};
use crate::put;

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

fn is_up(start: &Start) -> bool {
    Path::new(&format!("/proc/{}/cwd", start.pid)).exists()
        && fs::read_to_string(format!("/proc/{}/environ", start.pid))
            .is_ok_and(|all| all.contains(&start.operation))
}

fn service(daemon: &Daemon) {
    daemon.add(1, &[("c1", ""), ("c2", "")], "");
}

fn does(daemon: &Daemon, what: &str) -> u64 {
    daemon.executed(&what.to_lowercase(), &items(&[(1, 0, what, "")]), "SUCCEEDED")
}

/// What becomes of a second daemon whose directory was made from the first one's by this script: `$1` is the first
/// one's state directory, `$2` the second one's.
fn lives_beside(script: &str, while_it_runs: bool) {
    let mut first = Daemon::new();
    service(&first);
    first.launch();
    does(&first, "START");
    first.ctl_ends(0, &["backup", "backup"]);
    if !while_it_runs {
        first.terminate();
    }
    let mut second = Daemon::new();
    service(&second);
    let (from, to) = (first.path("state"), second.path("state"));
    sh(&format!("set -- {} {}\n{script}", from.display(), to.display()));
    if !while_it_runs {
        first.launch();
    }
    second.launch();
    let instance = |daemon: &Daemon| daemon.call("GET", "/v1/info", "").1["instance"].clone();
    assert_ne!(instance(&first), instance(&second), "{script}");
    let state = |daemon: &Daemon| daemon.json(&["service", "show", "s1"])["containers"][0]["state"].clone();
    assert_eq!((state(&first), state(&second)), ("running".into(), "stopped".into()), "{script}");
    let firsts = first.witness();
    // Each does everything to its own, and nothing to the other's.
    for way in ["STOP", "START", "RESTART", "STOP"] {
        does(&second, way);
        assert!(firsts.iter().all(is_up), "{way} of the copy, after {script}");
    }
    does(&second, "START");
    let seconds = second.witness();
    assert_eq!(seconds.len(), 6);
    let theirs: Vec<_> = seconds[4..].to_vec();
    for way in ["RESTART", "STOP"] {
        does(&first, way);
        assert!(theirs.iter().all(is_up), "{way} of the original, after {script}");
    }
    assert!(!firsts.iter().any(is_up));
    // And it stays so.
    first.terminate();
    second.kill_9();
    first.launch();
    second.launch();
    assert_eq!((state(&first), state(&second)), ("stopped".into(), "running".into()), "{script}");
    assert!(theirs.iter().all(is_up));
}

#[test]
fn a_copied_state_directory_belongs_to_another_daemon() {
    lives_beside("cp -a $1 $2", false);
    lives_beside("cp -a $1 $2", true);
    lives_beside("mkdir $2; tar -C $1 -c . | tar -C $2 -x", true);
}

#[test]
fn a_backup_restored_elsewhere_belongs_to_another_daemon() {
    lives_beside("mkdir $2; install -m 600 $1/../backup $2/deployd.redb", true);
    lives_beside("mkdir $2; install -m 600 $1/../backup $2/deployd.redb; cp -a $1/services $2", true);
    // Over a store that was used there.
    lives_beside("mkdir $2; cp -a $1/deployd.redb $2; cp -a $1/services $2", false);
}

#[test]
fn a_moved_state_directory_keeps_its_containers() {
    let mut daemon = Daemon::new();
    service(&daemon);
    daemon.launch();
    does(&daemon, "START");
    let before = daemon.witness();
    daemon.terminate();
    let (state, moved) = (daemon.path("state"), daemon.path("moved"));
    fs::rename(&state, &moved).unwrap();
    // The command line names the same path: a link leads there now.
    std::os::unix::fs::symlink(&moved, &state).unwrap();
    daemon.launch();
    let shown = daemon.json(&["service", "show", "s1"]);
    assert_eq!(shown["containers"][0]["pid"], before[0].pid, "{shown:#}");
    does(&daemon, "STOP");
    assert!(!before.iter().any(is_up));
    assert_eq!(daemon.call("GET", "/v1/info", "").1["epoch"], 1);
}

#[test]
fn restored_files_of_services_hide_nothing_that_runs() {
    for store_too in [true, false] {
        let mut daemon = Daemon::new();
        service(&daemon);
        daemon.launch();
        does(&daemon, "START");
        daemon.ctl_ends(0, &["backup", "backup"]);
        sh(&format!(
            "tar -C {} -cf {} services",
            daemon.path("state").display(),
            daemon.path("tar").display()
        ));
        does(&daemon, "RESTART");
        let running = daemon.witness()[2..].to_vec();
        daemon.terminate();
        if store_too {
            put(&daemon.path("state/deployd.redb"), &fs::read(daemon.path("backup")).unwrap());
        }
        // The run files name processes that have ended.
        sh(&format!("tar -C {} -xf {}", daemon.path("state").display(), daemon.path("tar").display()));
        daemon.launch();
        let shown = daemon.json(&["service", "show", "s1"]);
        assert_eq!(shown["containers"][1]["pid"], running[1].pid, "{shown:#}");
        does(&daemon, "START");
        assert_eq!(daemon.witness().len(), 4, "nothing is started beside what runs");
        does(&daemon, "STOP");
        assert!(!running.iter().any(is_up));
    }
}

#[test]
fn a_stranger_that_claims_to_be_a_container_is_not_adopted() {
    let mut daemon = Daemon::new();
    service(&daemon);
    daemon.launch();
    does(&daemon, "START");
    let operation = daemon.witness()[0].operation.clone();
    does(&daemon, "STOP");
    daemon.terminate();
    let mut stranger = Command::new("setsid");
    stranger.args(["sleep", "1000"]).env("DEPLOYD_OPERATION", operation);
    stranger.env("DEPLOYD_SERVICE", "s1").env("DEPLOYD_CONTAINER", "c1");
    let mut stranger = stranger.spawn().unwrap();
    daemon.launch();
    let state = daemon.json(&["service", "show", "s1"])["containers"][0]["state"].clone();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(state, "stopped");
}
