//! The processes that start containers are killed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{items, skip, user};
use crate::scene::{Daemon, assert_starts, resume, state};

const TWO: [(u64, i64, &str, &str); 2] = [(1, 1, "START", ""), (2, 1, "START", "")];

/// A daemon with two services, each of which starts at once.
fn daemon() -> Daemon {
    let mut daemon = Daemon::new();
    for id in [1, 2] {
        daemon.add(id, &[(&format!("c{id}"), "")], "");
    }
    daemon.launch();
    daemon
}

/// Sends a signal to all of its spawners; how many there are.
fn signal_spawners(daemon: &Daemon, signal: Signal) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(daemon.path("state")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("spawner") && name.ends_with(".lock") {
            let pid = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
            kill(Pid::from_raw(pid), signal).unwrap();
            count += 1;
        }
    }
    count
}

/// Waits for its end, and resumes it if the spawner that was asked was just ending.
fn bring_to_its_end(daemon: &Daemon, id: u64) {
    daemon.until(id, |event| matches!(event["type"].as_str(), Some("task.succeeded" | "task.interrupted")));
    if state(daemon, id).0 == "INTERRUPTED" {
        resume(daemon, id);
    }
    assert_eq!(state(daemon, id).0, "SUCCEEDED");
}

#[test]
fn what_a_killed_spawner_had_started_runs_on_and_another_one_takes_its_place() {
    let daemon = daemon();
    daemon.executed("up", &items(&TWO), "SUCCEEDED");
    assert!(signal_spawners(&daemon, Signal::SIGKILL) > 0);
    let again = daemon.executed("same", &items(&TWO), "SUCCEEDED");
    let deployments = &daemon.report(again)["deployments"];
    for deployment in deployments.as_array().unwrap() {
        assert_eq!(deployment["operations"][0]["detail"], "already running");
    }
    let plan = items(&[(1, 1, "RESTART", ""), (2, 1, "RESTART", "")]);
    let id = daemon.execute("restart", &plan);
    bring_to_its_end(&daemon, id);
    assert_starts(&daemon, &[("c1", 2), ("c2", 2)]);
}

/// What it had not begun is never begun; the task says so, and its resume does it.
#[test]
fn what_a_spawner_was_asked_for_before_it_was_killed_is_done_once() {
    let daemon = daemon();
    assert!(signal_spawners(&daemon, Signal::SIGSTOP) > 0);
    let id = daemon.execute("up", &items(&TWO));
    daemon.until(id, |event| event["type"] == "operation.begun");
    signal_spawners(&daemon, Signal::SIGKILL);
    bring_to_its_end(&daemon, id);
    assert_starts(&daemon, &[("c1", 1), ("c2", 1)]);
}

/// A mount whose server never answers: whoever looks into it hangs in the kernel.
struct DeadMount {
    path: PathBuf,
    /// As long as it is open, nobody is told that there is no server.
    device: Option<fs::File>,
}

impl DeadMount {
    /// `None` where none can be made.
    fn at(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let device = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other", "dead"])
            .arg(&path)
            .stdin(device.try_clone().unwrap())
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Self { path, device: Some(device) })
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        drop(self.device.take());
        Command::new("umount").arg("-l").arg(&self.path).status().unwrap();
    }
}

/// Containers 8 and 9 lie on a dead mount: they fail and say why, everything else goes on, and so does the next daemon.
#[test]
fn programs_on_a_dead_mount_fail_alone_and_are_never_started_later() {
    let mut daemon = Daemon::new();
    let Some(dead) = DeadMount::at(daemon.path("dead")) else { return skip("no mount of type fuse") };
    for id in 1..=3 {
        daemon.add(id, &[(&format!("c{id}"), "")], "");
    }
    for (id, command) in [(8, "program"), (9, "other")] {
        let run = format!("run:\n  command: [{}/{command}]\n{}", dead.path.display(), user());
        daemon.add_running(id, &[(&format!("c{id}"), "")], &run, "");
    }
    daemon.launch();
    let hung = [8, 9].map(|id| daemon.execute(&format!("dead{id}"), &items(&[(id, 0, "START", "")])));
    for id in hung {
        daemon.until(id, |event| event["type"] == "operation.begun");
    }
    let begun = Instant::now();
    daemon.executed(
        "meanwhile",
        &items(&[(1, 0, "START", ""), (2, 0, "START", ""), (3, 0, "START", "")]),
        "SUCCEEDED",
    );
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "they have waited for the dead mount: {:?}",
        begun.elapsed()
    );
    for id in hung {
        daemon.until_state(id, "FAILED");
        let error = &daemon.report(id)["deployments"][0]["error"];
        assert!(
            error["message"].as_str().unwrap().contains("file system has not answered for 10 s"),
            "{error}"
        );
    }
    // Killed while it hangs, and after all that the next one starts, resumes, and fails in the same way.
    let id = daemon.execute("again", &items(&[(8, 0, "START", ""), (1, 0, "RESTART", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun" && event["service"] == 8);
    daemon.kill_9();
    daemon.launch();
    daemon.ctl_ends(0, &["resume", &id.to_string()]);
    daemon.until_state(id, "FAILED");
    daemon.executed("stop", &items(&[(8, 0, "STOP", "")]), "SUCCEEDED");
    // Nobody has waited for the mount: nothing begins when it answers again.
    drop(dead);
    daemon.executed(
        "end",
        &items(&[(1, 0, "STOP", ""), (2, 0, "STOP", ""), (3, 0, "STOP", "")]),
        "SUCCEEDED",
    );
    assert!(daemon.witness().iter().all(|start| !["c8", "c9"].contains(&&*start.container)));
    assert_eq!(daemon.terminate(), Some(0));
}
