//! Hooks and builds of plain processes outlive their daemon: they are joined, or ended before they are repeated.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use deployd::spawn::proc;
use deployd::spawn::tree::Run;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Daemon, PATIENCE, items};
use crate::push::push;

const START: [(u64, i64, &str, &str); 1] = [(1, 0, "START", "")];
const COMPILE: [(u64, i64, &str, &str); 1] =
    [(1, 0, "COMPILE_DEPLOY", ", compileRepoPath: app, compileRepoBranch: main")];

/// Waits for what no event tells.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_string).collect()
}

/// A service with these scripts as its hooks; `@` is the daemon's directory.
fn hooked(daemon: &Daemon, pre: &str, post: &str) {
    let hook = |name: &str, script: &str| {
        let script = script.replace('@', &daemon.path("").display().to_string());
        format!("  {name}: {}\n", serde_json::to_string(&["/bin/sh", "-c", &*script]).unwrap())
    };
    let hooks = format!("hooks:\n{}{}", hook("preDeploy", pre), hook("postDeploy", post));
    daemon.add(1, &[("c1", "")], &hooks);
}

/// Writes down that it has begun, waits until it may end, and writes that down.
fn gated(name: &str) -> String {
    format!(
        "echo begin $$ >> @{name}; echo waits; until test -e @open-{name}; do sleep 0.01; done; echo end $$ >> @{name}; echo goes on"
    )
}

fn begun(daemon: &Daemon, name: &str) {
    until("it has begun", || !lines(&daemon.path(name)).is_empty());
}

/// The shim of a hook or build, and the command itself.
fn processes(daemon: &Daemon, command: &str) -> [i32; 2] {
    ["run", "main"].map(|file| {
        let text = fs::read_to_string(daemon.path(&format!("state/commands/{command}.{file}"))).unwrap();
        Run::from_text(&text).unwrap().pid
    })
}

fn is_up(pid: i32) -> bool {
    proc::Stat::read(pid).unwrap().is_some_and(|stat| stat.is_alive())
}

fn nothing_is_left(daemon: &Daemon) {
    let names = |directory: &str| -> Vec<_> {
        let entries = fs::read_dir(daemon.path(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    until("its notes are gone", || names("state/commands").is_empty());
    until("its directory is gone", || names("state/builds").is_empty());
}

fn resume(daemon: &Daemon, task: u64) {
    daemon.ctl_ends(0, &["resume", &task.to_string()]);
}

fn error(daemon: &Daemon, task: u64) -> Value {
    daemon.report(task)["deployments"][0]["error"].clone()
}

#[test]
fn hooks_are_joined_after_a_kill_and_run_once() {
    let mut daemon = Daemon::new();
    hooked(&daemon, &gated("pre"), &gated("post"));
    daemon.launch();
    let task = daemon.execute("plan", &items(&START));
    for name in ["pre", "post"] {
        begun(&daemon, name);
        daemon.kill_9();
        daemon.launch();
        let told = format!("{name}Deploy of task {task} still runs since before deployd was started");
        until("it is told", || daemon.log().contains(&told));
        resume(&daemon, task);
        daemon.write(&format!("open-{name}"), "");
    }
    daemon.until_state(task, "SUCCEEDED");
    for name in ["pre", "post"] {
        let said = lines(&daemon.path(name));
        assert_eq!(said.len(), 2, "{said:?}");
        let pids: Vec<_> = said.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(pids[0], pids[1]);
    }
    // What it has printed before and after is in the log, once.
    let log = daemon.ctl_ends(0, &["logs", &task.to_string()]);
    for line in ["preDeploy: waits", "preDeploy: goes on", "postDeploy: waits", "postDeploy: goes on"] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    nothing_is_left(&daemon);
}

#[test]
fn a_hook_that_ended_while_no_daemon_was_there_is_not_run_again() {
    for (code, state) in [(0, "SUCCEEDED"), (7, "FAILED")] {
        let mut daemon = Daemon::new();
        hooked(&daemon, &format!("{}; exit {code}", gated("pre")), "exit 0");
        daemon.launch();
        let task = daemon.execute("plan", &items(&START));
        begun(&daemon, "pre");
        daemon.kill_9();
        daemon.write("open-pre", "");
        let note = daemon.path(&format!("state/commands/deployd-preDeploy-{task}-0-1.end"));
        until("its end is noted", || note.symlink_metadata().is_ok());
        daemon.launch();
        resume(&daemon, task);
        daemon.until_state(task, state);
        assert_eq!(lines(&daemon.path("pre")).len(), 2);
        if code == 7 {
            let error = error(&daemon, task);
            assert!(error["message"].as_str().unwrap().contains("exited with status 7"), "{error}");
            assert_eq!(error["log"], serde_json::json!(["waits", "goes on"]));
        }
        nothing_is_left(&daemon);
    }
}

#[test]
fn a_signal_to_end_leaves_a_hook_to_be_joined() {
    let mut daemon = Daemon::new();
    daemon.write("deployd.yaml", "shutdownGrace: 50ms\n");
    hooked(&daemon, &gated("pre"), "exit 0");
    daemon.launch();
    let task = daemon.execute("plan", &items(&START));
    begun(&daemon, "pre");
    assert_eq!(daemon.terminate(), Some(0));
    daemon.launch();
    assert_eq!(daemon.task(task)["state"], "INTERRUPTED");
    daemon.write("open-pre", "");
    resume(&daemon, task);
    daemon.until_state(task, "SUCCEEDED");
    assert_eq!(lines(&daemon.path("pre")).len(), 2);
}

/// Leaves processes behind that clear their environment, begin sessions and ignore signals.
const RUNAWAY: &str = "trap '' TERM; \
    setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$ >> @pids; while :; do sleep 0.1; done' & \
    (setsid /bin/sh -c 'echo $$ >> @pids; exec sleep 1000' &) ; \
    until test $(wc -l < @pids) = 2; do sleep 0.01; done; \
    echo $$ >> @pids; echo up >> @pre; while :; do sleep 0.1; done";

#[test]
fn what_a_hook_has_started_ends_with_its_task() {
    for end in ["stop --now", "kill stop", "kill delete"] {
        let mut daemon = Daemon::new();
        hooked(&daemon, RUNAWAY, "exit 0");
        daemon.write("pids", "");
        daemon.launch();
        let task = daemon.execute("plan", &items(&START));
        begun(&daemon, "pre");
        let pids: Vec<i32> = lines(&daemon.path("pids")).iter().map(|pid| pid.parse().unwrap()).collect();
        assert!(pids.len() == 3 && pids.iter().all(|pid| is_up(*pid)), "{pids:?}");
        if end.starts_with("kill") {
            daemon.kill_9();
            daemon.launch();
            assert!(pids.iter().all(|pid| is_up(*pid)));
        }
        let number = task.to_string();
        match end {
            "stop --now" => drop(daemon.ctl_ends(0, &["stop", "--now", &number])),
            "kill stop" => drop(daemon.ctl_ends(0, &["stop", &number])),
            _ => drop(daemon.ctl_ends(0, &["delete", &number])),
        }
        until("all of it is gone", || !pids.iter().any(|pid| is_up(*pid)));
        nothing_is_left(&daemon);
    }
}

#[test]
fn a_hook_that_has_lost_its_shim_is_ended_before_it_is_run_again() {
    let mut daemon = Daemon::new();
    // Each life says that it is there; a second one beside it would say so, too. Without its shim it cannot print.
    let script = "exec > /dev/null 2>&1; test -e @second && { echo again >> @pre; exit 0; }; touch @second; \
                  trap 'sleep 0.3; echo over >> @pre; exit 1' TERM; \
                  setsid /bin/sh -c 'echo $$ > @stray; exec sleep 1000' & \
                  until test -s @stray; do sleep 0.01; done; echo up >> @pre; \
                  while :; do sleep 0.02; done";
    hooked(&daemon, script, "exit 0");
    daemon.launch();
    let task = daemon.execute("plan", &items(&START));
    begun(&daemon, "pre");
    let stray: i32 = lines(&daemon.path("stray"))[0].parse().unwrap();
    let command = format!("deployd-preDeploy-{task}-0-1");
    let [shim, main] = processes(&daemon, &command);
    daemon.kill_9();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    until("the shim is gone", || !is_up(shim));
    assert!(is_up(main) && is_up(stray));
    daemon.launch();
    resume(&daemon, task);
    daemon.until_state(task, "SUCCEEDED");
    assert_eq!(lines(&daemon.path("pre")), ["up", "over", "again"]);
    assert!(!is_up(main) && !is_up(stray));
    let log = daemon.ctl_ends(0, &["logs", &task.to_string()]);
    assert!(log.contains("preDeploy: (it had begun before, and how it ended is not known"), "{log}");
    nothing_is_left(&daemon);
}

#[test]
fn a_shim_that_is_killed_under_its_daemon_interrupts_the_task() {
    let mut daemon = Daemon::new();
    let script = "echo begin >> @pre; test -e @again && exit 0; touch @again; exec sleep 1000";
    hooked(&daemon, script, "exit 0");
    daemon.launch();
    let task = daemon.execute("plan", &items(&START));
    begun(&daemon, "pre");
    let [shim, main] = processes(&daemon, &format!("deployd-preDeploy-{task}-0-1"));
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    daemon.until(task, |event| event["type"] == "task.interrupted");
    assert!(!is_up(main));
    resume(&daemon, task);
    daemon.until_state(task, "SUCCEEDED");
    assert_eq!(lines(&daemon.path("pre")).len(), 2);
}

#[test]
fn a_hook_does_not_notice_that_its_spawner_is_killed() {
    let mut daemon = Daemon::new();
    hooked(&daemon, &gated("pre"), "exit 0");
    daemon.launch();
    let task = daemon.execute("plan", &items(&START));
    begun(&daemon, "pre");
    for lock in ["spawner.lock", "spawner-1.lock", "spawner-2.lock", "spawner-3.lock"] {
        if let Some(pid) = lines(&daemon.path("state").join(lock)).first() {
            kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
    }
    daemon.write("open-pre", "");
    daemon.until_state(task, "SUCCEEDED");
    assert_eq!(lines(&daemon.path("pre")).len(), 2);
}

#[test]
fn hooks_that_cannot_be_executed_or_end_by_strange_signals_are_told() {
    let mut daemon = Daemon::new();
    for (id, hook) in
        [(1, "[./nothing]"), (2, "[/bin/sh, -c, 'kill -40 $$']"), (3, "[/bin/sh, -c, 'kill -9 $$']")]
    {
        daemon.add(id, &[(&format!("c{id}"), "")], &format!("hooks: {{ preDeploy: {hook} }}"));
    }
    daemon.launch();
    for (id, why) in
        [(1, "cannot execute ./nothing"), (2, "was killed by signal 40"), (3, "was killed by SIGKILL")]
    {
        let task = daemon.executed("plan", &items(&[(id, 0, "START", "")]), "FAILED");
        let error = error(&daemon, task);
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
    nothing_is_left(&daemon);
}

/// A repository with this build.
fn building(daemon: &mut Daemon, build: &str, more: &str) {
    daemon.add(1, &[("c1", "")], &format!("build: {{ command: [/bin/sh, build.sh], output: out{more} }}"));
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    let build = build.replace('@', &daemon.path("").display().to_string());
    push(daemon, "app", &[("build.sh", &build)], "main");
    // Builds write down what they do as a user of their own.
    fs::set_permissions(daemon.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
}

#[test]
fn builds_are_joined_after_a_kill_and_built_once() {
    let mut daemon = Daemon::new();
    building(&mut daemon, &format!("mkdir out; echo x > out/x; {}", gated("build")), "");
    let task = daemon.execute("plan", &items(&COMPILE));
    begun(&daemon, "build");
    daemon.kill_9();
    daemon.launch();
    resume(&daemon, task);
    until("it is joined", || daemon.ctl_ends(0, &["logs", &task.to_string()]).contains("picked up again"));
    daemon.kill_9();
    daemon.write("open-build", "");
    let note = daemon.path(&format!("state/commands/deployd-build-{task}-0-1.end"));
    until("its end is noted", || note.symlink_metadata().is_ok());
    daemon.launch();
    resume(&daemon, task);
    daemon.until_state(task, "SUCCEEDED");
    assert_eq!(lines(&daemon.path("build")).len(), 2);
    nothing_is_left(&daemon);
}

/// Prints without end, from the build itself and from what it leaves behind.
const FLOOD: &str = "mkdir out; echo x > out/x; echo the first line\n\
    yes 'a line of a build that has lost its mind' & yes & yes ''\n";

#[test]
fn builds_that_flood_their_output_are_bounded_and_hold_up_nobody() {
    let mut daemon = Daemon::new();
    daemon.write("deployd.yaml", "builds: { maxOutputBytes: 2MiB }\n");
    daemon.add(2, &[("c2", "")], "");
    daemon.add(
        3,
        &[("c3", "")],
        "build: { command: [/bin/sh, build.sh], output: out, timeout: 10m, environment: { A: b } }",
    );
    building(&mut daemon, FLOOD, ", timeout: 3s");
    let first = daemon.execute("first", &items(&COMPILE));
    let second = daemon.execute("second", &items(&[(3, 0, COMPILE[0].2, COMPILE[0].3)]));
    for (task, service) in [(first, 1), (second, 3)] {
        let log = daemon.path(&format!("state/tasks/{task}/{service}.log"));
        until("it floods", || log.metadata().is_ok_and(|log| log.len() > 500 << 10));
    }
    daemon.executed("other", &items(&[(2, 0, "START", "")]), "SUCCEEDED");
    daemon.until_state(first, "FAILED");
    let error = error(&daemon, first);
    assert!(error["message"].as_str().unwrap().contains("took longer than 3 s"), "{error}");
    let text = fs::read_to_string(daemon.path(&format!("state/tasks/{first}/1.log"))).unwrap();
    assert!(text.len() < (2 << 20) + 4096, "{}", text.len());
    assert!(text.contains("build: the first line\n"));
    assert_eq!(text.lines().filter(|line| line.contains("of output left out here …")).count(), 1);
    // The end comes after it.
    let gap = text.find("left out here").unwrap();
    assert!(text.len() - gap > 500 << 10 && gap > 500 << 10, "{gap} of {}", text.len());
    daemon.ctl_ends(0, &["stop", "--now", &second.to_string()]);
    daemon.until_state(second, "STOPPED");
    nothing_is_left(&daemon);
}

#[test]
fn outputs_without_bounds_are_refused_before_they_are_packed() {
    for (build, code) in [
        ("mkdir out; truncate -s 1T out/sparse", "outputTooLarge"),
        ("truncate -s 1T out", "outputTooLarge"),
        ("mkdir out; cd out; seq 300 | xargs touch", "outputTooLarge"),
        ("mkdir out; mkfifo out/pipe", "buildFailed"),
    ] {
        let mut daemon = Daemon::new();
        daemon.write("deployd.yaml", "packages: { maxEntries: 200 }\n");
        building(&mut daemon, build, "");
        let task = daemon.executed("plan", &items(&COMPILE), "FAILED");
        assert_eq!(error(&daemon, task)["code"], code, "{build}: {}", error(&daemon, task));
        let left: Vec<_> = fs::read_dir(daemon.path("state/artifacts")).unwrap().collect();
        assert_eq!(left.len(), 1, "{build}: {left:?}");
        nothing_is_left(&daemon);
    }
}

#[test]
fn a_second_daemon_on_a_copy_leaves_the_first_ones_hook_alone() {
    let mut daemon = Daemon::new();
    hooked(&daemon, &gated("pre"), "exit 0");
    daemon.launch();
    let task = daemon.execute("plan", &items(&START));
    begun(&daemon, "pre");
    let [shim, main] = processes(&daemon, &format!("deployd-preDeploy-{task}-0-1"));
    let mut other = Daemon::new();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(daemon.path("state"))
        .arg(other.path("state"))
        .status()
        .unwrap();
    assert!(copied.success());
    hooked(&other, "exit 0", "exit 0");
    other.launch();
    other.ctl(&["stop", &task.to_string()]);
    other.ctl(&["delete", &task.to_string()]);
    assert!(is_up(shim) && is_up(main));
    daemon.write("open-pre", "");
    daemon.until_state(task, "SUCCEEDED");
    assert_eq!(lines(&daemon.path("pre")).len(), 2);
}
