//! The daemon is killed at every point that it meets: before and after every commit and every touch of
//! the host ([`deployd::crashpoint`]). Wherever that is, the release ends as it would have without, and
//! the containers themselves say that nothing was done twice and nothing was left out.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/http.rs"]
mod http;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::{Daemon, items};
use http::PackageServer;

/// How often each container is to be started in all.
type Starts = BTreeMap<String, usize>;

struct Stage {
    daemon: Daemon,
    server: PackageServer,
    /// Plans to execute, all at the same time, and a command for the first one meanwhile.
    plans: Vec<&'static str>,
    meanwhile: Option<&'static str>,
    expected: Starts,
}

fn expected(starts: &[(&str, usize)]) -> Starts {
    starts.iter().map(|(name, count)| ((*name).to_string(), *count)).collect()
}

/// All five ways, one after another and at once, in three batches.
fn five_ways() -> Stage {
    let (mut daemon, server) = (Daemon::new(), PackageServer::new());
    let build = "build: { command: [/bin/sh, build.sh], output: out }";
    daemon.add(1, &[("a1", ""), ("a2", "")], "hooks: { preDeploy: ['true'], postDeploy: ['true'] }");
    daemon.add(2, &[("b1", ""), ("b2", "")], "");
    daemon.add(3, &[("c1", ""), ("c2", "")], build);
    daemon.add(4, &[("d1", "")], "");
    daemon.add(5, &[("e1", "")], "");
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon);
    daemon.executed("before", &items(&[(4, 0, "START", ""), (5, 0, "START", "")]), "SUCCEEDED");
    let package = format!(", containerExecMethod: PARALLEL, httpSrcUri: '{}'", server.url("/ok.tar"));
    let plan = items(&[
        (1, 3, "START", ""),
        (4, 3, "STOP", ""),
        (2, 2, "HTTP_UPLOAD_DEPLOY", &package),
        (3, 2, "COMPILE_DEPLOY", ", compileRepoPath: app, compileRepoBranch: main"),
        (5, 1, "RESTART", ""),
    ]);
    store(&daemon, "release", &plan);
    let expected =
        expected(&[("a1", 1), ("a2", 1), ("b1", 1), ("b2", 1), ("c1", 1), ("c2", 1), ("d1", 1), ("e1", 2)]);
    Stage { daemon, server, plans: vec!["release"], meanwhile: None, expected }
}

/// Two tasks at once, of which one is paused on its way.
fn two_tasks() -> Stage {
    let (mut daemon, server) = (Daemon::new(), PackageServer::new());
    for id in 1..=4 {
        daemon.add(id, &[(&format!("s{id}a"), ""), (&format!("s{id}b"), "")], "");
    }
    daemon.launch();
    let all: Vec<_> = (1..=4).map(|id| (id, 0, "START", "")).collect();
    daemon.executed("before", &items(&all), "SUCCEEDED");
    let parallel = ", containerExecMethod: PARALLEL";
    store(&daemon, "first", &items(&[(1, 2, "RESTART", parallel), (2, 1, "STOP", "")]));
    store(&daemon, "second", &items(&[(3, 2, "STOP", parallel), (4, 1, "RESTART", "")]));
    let expected = expected(&[
        ("s1a", 2),
        ("s1b", 2),
        ("s2a", 1),
        ("s2b", 1),
        ("s3a", 1),
        ("s3b", 1),
        ("s4a", 2),
        ("s4b", 2),
    ]);
    Stage { daemon, server, plans: vec!["first", "second"], meanwhile: Some("pause"), expected }
}

fn store(daemon: &Daemon, name: &str, plan: &str) {
    assert_eq!(daemon.http("POST", &format!("/v1/plans?name={name}"), "", plan).0, 201);
}

fn push(daemon: &Daemon) {
    let source = daemon.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("build.sh"), "mkdir out; echo built > out/file").unwrap();
    let repository = daemon.path("state/git/app.git");
    let repository = repository.to_str().unwrap();
    for arguments in [
        &["init", "-q", "-b", "main"][..],
        &["add", "."],
        &["commit", "-q", "-m", "a commit"],
        &["-c", "safe.directory=*", "push", "-q", repository, "main"],
    ] {
        let ran = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(arguments)
            .current_dir(&source)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Stage {
    /// Lets the daemon be killed at the n-th point of its next life.
    fn crash_at(&mut self, n: Option<u64>) {
        let note = self.daemon.path("note").display().to_string();
        let at = n.map(|n| ("DEPLOYD_CRASH_AT", n.to_string()));
        self.daemon.environment = at.into_iter().chain([("DEPLOYD_CRASH_NOTE", note)]).collect();
    }

    /// The point at which the daemon was killed.
    fn note(&self) -> Option<String> {
        let path = self.daemon.path("note");
        let note = fs::read_to_string(&path).ok();
        fs::remove_file(path).ok();
        note
    }

    /// Asks for all tasks; who asks again gets the same ones.
    fn execute(&self) -> Option<Vec<u64>> {
        let execute = |plan: &&str| {
            let body = format!("{{\"plan\": \"{plan}\"}}");
            let (_, _, answer) =
                self.daemon.try_http("POST", "/v1/tasks", &format!("Idempotency-Key: {plan}\r\n"), &body)?;
            serde_json::from_str::<serde_json::Value>(&answer).ok()?["id"].as_u64()
        };
        self.plans.iter().map(execute).collect()
    }

    /// One life of the daemon: everything is asked for that is not done yet. True when it has seen the
    /// end of all tasks.
    fn live(&mut self) -> bool {
        let done = self.daemon.try_launch() && self.release().is_some();
        if !done {
            self.daemon.wait();
        }
        done
    }

    fn release(&self) -> Option<()> {
        let tasks = self.execute()?;
        if let Some(verb) = self.meanwhile {
            self.daemon.try_http("POST", &format!("/v1/tasks/{}/{verb}", tasks[0]), "", "")?;
        }
        for id in tasks {
            self.finish(id)?;
        }
        Some(())
    }

    /// Follows a task to its end, and resumes it where it rests before; `None` when the daemon dies.
    fn finish(&self, id: u64) -> Option<()> {
        loop {
            let (_, _, answer) = self.daemon.try_http("GET", &format!("/v1/tasks/{id}"), "", "")?;
            let task: serde_json::Value = serde_json::from_str(&answer).ok()?;
            match task["state"].as_str()? {
                "SUCCEEDED" => return Some(()),
                "PAUSED" | "INTERRUPTED" => {
                    self.daemon.try_http("POST", &format!("/v1/tasks/{id}/resume"), "", "")?;
                }
                "RUNNING" | "PAUSING" => {
                    let mut events = self.daemon.try_events(&format!("task={id}"))?;
                    // The last event says where it is; what follows is waited for.
                    let rests = |state: &str| matches!(state, "SUCCEEDED" | "PAUSED" | "FAILED" | "STOPPED");
                    let last = self.last(id)?;
                    loop {
                        let event = events.next()?;
                        let now = event["state"].as_str().unwrap_or_default();
                        let is_task = event["type"].as_str()?.starts_with("task.");
                        if event["seq"].as_u64()? >= last && is_task && rests(now) {
                            break;
                        }
                    }
                }
                other => panic!("the task is {other}: {:#}", self.daemon.report(id)),
            }
        }
    }

    fn last(&self, id: u64) -> Option<u64> {
        let (_, _, answer) = self.daemon.try_http("GET", &format!("/v1/tasks/{id}/report"), "", "")?;
        let report: serde_json::Value = serde_json::from_str(&answer).ok()?;
        report["events"].as_array()?.last()?["seq"].as_u64()
    }

    fn check(&self, what: &str) {
        let mut starts = Starts::new();
        let mut operations = BTreeMap::new();
        for start in self.daemon.witness() {
            *starts.entry(start.container).or_default() += 1;
            *operations.entry(start.operation).or_insert(0) += 1;
        }
        let twice: Vec<_> = operations.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{what}: carried out more than once: {twice:?}\n{}", self.daemon.log());
        assert_eq!(starts, self.expected, "{what}\n{}", self.daemon.log());
        for name in ["artifacts", "builds", "services/s2/releases", "services/s3/releases"] {
            let left: Vec<_> = fs::read_dir(self.daemon.path("state").join(name))
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.contains(".tmp") || name.contains(".part"))
                .collect();
            assert!(left.is_empty(), "{what}: {name} holds {left:?}");
        }
        assert!(self.server.count("/ok.tar") <= 3, "{what}: fetched again and again");
    }
}

/// Kills at the n-th point of the release, and at the m-th of the recovery; the points' names. An empty
/// list: the release had ended before.
fn killed_at(scene: fn() -> Stage, n: u64, m: Option<u64>) -> Vec<String> {
    let mut stage = scene();
    stage.daemon.terminate();
    let mut notes = Vec::new();
    for at in [Some(n), m] {
        stage.crash_at(at);
        let done = stage.live();
        let Some(note) = stage.note() else {
            assert!(done, "the daemon ended by itself:\n{}", stage.daemon.log());
            break;
        };
        notes.push(note);
        stage.daemon.wait();
    }
    if stage.daemon.was_killed() {
        stage.crash_at(None);
        assert!(stage.live(), "it does not come to an end:\n{}", stage.daemon.log());
    }
    stage.check(&format!("killed {notes:?} ({n}, {m:?})"));
    notes
}

/// Every point of a release, on all processors; the points' names.
fn sweep(scene: fn() -> Stage) -> BTreeSet<String> {
    let (next, over) = (AtomicU64::new(1), AtomicBool::new(false));
    let names = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let met = killed_at(scene, n, None);
                    over.fetch_or(met.is_empty(), Ordering::Relaxed);
                    names.lock().unwrap().extend(met);
                }
            });
        }
    });
    let points = next.load(Ordering::Relaxed);
    assert!(points > 40, "only {points} points were met");
    names.into_inner().unwrap()
}

#[test]
fn killed_at_every_point_of_a_release_in_all_five_ways() {
    let met = sweep(five_ways);
    let known: BTreeSet<String> = [
        "before a commit",
        "after a commit",
        "before a process is asked for",
        "after a process was asked for",
        "after a process was started",
        "before a signal",
        "after a signal",
        "before a run file is removed",
        "after a run file was removed",
        "before a switch",
        "in the middle of a switch",
        "after a switch",
        "before a release gets its name",
        "after a release got its name",
        "before an artifact gets its name",
        "after an artifact got its name",
        "before git",
        "after git",
        "before a build is remembered",
        "after a build was remembered",
    ]
    .map(str::to_string)
    .into();
    // Which of several things that go on at once comes n-th differs from run to run; most kinds are met.
    assert!(met.is_subset(&known), "{met:?}");
    assert!(met.len() >= 12, "a point that is never met proves nothing: {met:?}");
}

#[test]
fn killed_at_every_point_of_two_tasks_one_of_them_paused() {
    sweep(two_tasks);
}

#[test]
fn killed_again_during_the_recovery() {
    let pairs: Vec<(u64, u64)> =
        (5..80).step_by(12).flat_map(|n| (1..60).step_by(7).map(move |m| (n, m))).collect();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((n, m)) =
                    pairs.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap())
                {
                    killed_at(five_ways, *n, Some(*m));
                }
            });
        }
    });
}
