//! The wall clock jumps, ten years on and ten years back, while everything goes on: no wait ends early or
//! hangs, no duration is negative, and what came later is still listed as later.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{items, user};
use crate::scene::{Daemon, assert_starts, resume, state};

/// Ten years, in seconds.
const JUMP: i64 = 10 * 365 * 86_400;

/// A clock that a test sets (`clock.c`). Building the project needs a C compiler, too.
fn library(into: &Path) -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock.c");
    let library = into.join("clock.so").display().to_string();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", &library, source, "-ldl"]);
    let built = cc.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

struct Stage {
    daemon: Daemon,
}

impl Stage {
    fn new() -> Self {
        let mut daemon = Daemon::new();
        let clock = daemon.path("clock");
        fs::write(&clock, 0_i64.to_ne_bytes()).unwrap();
        daemon.environment =
            vec![("LD_PRELOAD", library(&daemon.path(""))), ("CLOCK_FILE", clock.display().to_string())];
        daemon.write("deployd.yaml", "shutdownGrace: 300ms\n");
        daemon.add(1, &[("c1", "")], &daemon.gate());
        daemon.add(2, &[("c2", "")], "");
        let never = "health: { command: ['false'], interval: 10ms, timeout: 1s, settle: 0s }";
        daemon.add(3, &[("c3", "")], never);
        let deaf = "trap '' TERM; while :; do sleep 0.1; done";
        let deaf = format!("run:\n  command: [/bin/sh, -c, \"{deaf}\"]\n{}  stopTimeout: 1s\n", user());
        daemon.add_running(4, &[("c4", "")], &deaf, "");
        let hook = format!("until test -e {}; do sleep 0.02; done", daemon.path("open-hook").display());
        daemon.add(5, &[("c5", "")], &format!("hooks: {{ preDeploy: [/bin/sh, -c, '{hook}'] }}"));
        daemon.launch();
        Self { daemon }
    }

    /// In place: the daemon has the file mapped.
    fn set(&self, offset: i64) {
        let file = fs::File::options().write(true).open(self.daemon.path("clock")).unwrap();
        file.write_all_at(&offset.to_ne_bytes(), 0).unwrap();
    }

    /// The year that the daemon believes it is.
    fn year(&self, id: u64) -> i64 {
        let events = self.daemon.report(id)["events"].clone();
        let last = events.as_array().unwrap().last().unwrap()["at"].as_str().unwrap().to_string();
        last[..4].parse().unwrap()
    }
}

fn jumping(jump: i64) {
    let mut stage = Stage::new();
    let daemon = &stage.daemon;
    let start = |id: u64, way: &str| daemon.execute(&format!("t{id}"), &items(&[(id, 0, way, "")]));
    daemon.executed("deaf", &items(&[(4, 0, "START", "")]), "SUCCEEDED");
    let waiting = start(1, "START");
    daemon.until(waiting, |event| event["type"] == "operation.begun");
    let hook = start(5, "START");
    daemon.until(hook, |event| event["type"] == "deployment.begun");
    let (never, deaf) = (start(3, "START"), start(4, "STOP"));
    for id in [never, deaf] {
        daemon.until(id, |event| event["type"] == "operation.begun");
    }
    let begun = Instant::now();
    stage.set(jump);
    // What has a limit comes to it, no later than by the real clock; what has time left, has it still.
    daemon.until_state(never, "FAILED");
    daemon.until_state(deaf, "SUCCEEDED");
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    let error = daemon.report(never)["deployments"][0]["error"].to_string();
    assert!(error.contains("healthTimedOut") && error.contains("1.0 s"), "{error}");
    for id in [waiting, hook] {
        assert_eq!(state(daemon, id).0, "RUNNING", "{:#}", daemon.report(id));
    }
    let during = daemon.executed("t2", &items(&[(2, 0, "START", "")]), "SUCCEEDED");
    let years = stage.year(during) - stage.year(never);
    assert!(years.abs() <= 10);
    daemon.release("hook");
    daemon.until_state(hook, "SUCCEEDED");
    // And back: what has begun in the future, or in the past, ends now.
    stage.set(0);
    daemon.release("c1");
    daemon.until_state(waiting, "SUCCEEDED");
    assert!((stage.year(during) - stage.year(waiting)).abs() >= 9, "the clock was never set");
    let after = daemon.executed("t2", &items(&[(2, 0, "STOP", "")]), "SUCCEEDED");
    // Nothing of it is shown as less than nothing, in any form.
    for id in [waiting, hook, never, deaf, during, after] {
        for form in ["table", "markdown", "html", "yaml", "json"] {
            let shown = daemon.ctl_ends(0, &["report", &id.to_string(), "-o", form]);
            let negative = shown.split([' ', '>', '|', '(']).any(|word| {
                word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            });
            assert!(!negative, "{form}: {shown}");
        }
        daemon.ctl_ends(0, &["status", &id.to_string()]);
    }
    let info = daemon.json(&["info"]);
    assert!(info["uptime"].as_u64().unwrap() < 600, "{info}");
    // Later is what has the larger number.
    let listed: Vec<u64> = daemon.json(&["list"])["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_u64().unwrap())
        .collect();
    assert!(listed.len() == 7 && listed.is_sorted_by(|a, b| a > b), "{listed:?}");
    // An end, a resume and a start under another time.
    let id = daemon.execute("t2", &items(&[(2, 1, "START", ""), (3, 0, "STOP", ""), (5, 0, "STOP", "")]));
    daemon.until_state(id, "SUCCEEDED");
    fs::remove_file(daemon.path("open-c1")).unwrap();
    let cut = daemon.execute("t1", &items(&[(1, 0, "RESTART", "")]));
    daemon.until(cut, |event| event["type"] == "operation.begun");
    while daemon.witness().iter().filter(|start| start.container == "c1").count() < 2 {
        std::thread::yield_now();
    }
    stage.set(jump);
    assert_eq!(stage.daemon.terminate(), Some(0));
    stage.daemon.launch();
    assert_eq!(state(&stage.daemon, cut), ("INTERRUPTED".into(), "daemonShutDown".into()));
    stage.set(-jump);
    stage.daemon.release("c1");
    resume(&stage.daemon, cut);
    assert_starts(&stage.daemon, &[("c1", 2), ("c2", 2), ("c3", 1), ("c5", 1)]);
}

#[test]
fn the_wall_clock_may_jump() {
    std::thread::scope(|scope| {
        scope.spawn(|| jumping(JUMP));
        scope.spawn(|| jumping(-JUMP));
    });
}
