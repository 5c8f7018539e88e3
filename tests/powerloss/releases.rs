//! Beside the store: whatever a commit claims is durable before it is made. A release, a `current` that leads to
//! it, an artifact, a repository are on the disk, with all the names that lead to them, or nothing says that they are.
//!
//! The system calls of a real daemon are recorded, and played on a disk that keeps only what was synced ([`Files`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::calls::{self, Call, Step, TRACED};
use crate::files::{Files, Kind, is_complete};
use crate::harness::{Daemon, items, user};
use crate::http::tar;
use crate::push::push;
use crate::strace::has_strace;

/// No life has more lines in its trace.
const LIFE: usize = 1 << 24;

/// A daemon under strace, with all that it has started.
struct Traced {
    daemon: Daemon,
    lives: usize,
}

impl Traced {
    /// Launches it, to be killed at a point.
    fn launch(&mut self, kill: Option<&str>) {
        self.lives += 1;
        let trace = self.trace(self.lives);
        let words = ["strace", "-f", "-y", "-qq", "-s", "4096", "-e", "signal=none", "-e"];
        self.daemon.wrapper = words.map(str::to_string).to_vec();
        self.daemon.wrapper.extend([format!("trace={TRACED}"), "-o".into(), trace.display().to_string()]);
        self.daemon.environment = vec![("DEPLOYD_CRASH_NOTE", self.note().display().to_string())];
        self.daemon.environment.extend(kill.map(|name| ("DEPLOYD_CRASH_AT", format!("{name}:1"))));
        self.daemon.launch();
    }

    fn note(&self) -> PathBuf {
        self.daemon.path("note")
    }

    fn trace(&self, life: usize) -> PathBuf {
        self.daemon.path(&format!("trace-{life}"))
    }

    fn end(&mut self) {
        let pid = fs::read_to_string(self.daemon.path("state/lock")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(self.daemon.wait(), Some(0), "{}", self.daemon.log());
    }

    /// What it did in its last life.
    fn steps(&self) -> Vec<Step> {
        let trace = fs::read_to_string(self.trace(self.lives)).unwrap();
        calls::read(&trace, &self.note(), self.lives * LIFE)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.daemon.runs() {
            // What a strace that is killed traces would go on.
            let group = nix::unistd::Pid::from_raw(self.daemon.pid());
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

/// What is complete in a directory.
fn complete(files: &Files, directory: &Path) -> Vec<PathBuf> {
    let mut all = files.children(directory);
    all.retain(|path| path.file_name().is_some_and(|name| is_complete(name.to_str().unwrap())));
    all
}

/// What has to be durable, when that is said.
fn claims(said: &str, files: &Files, state: &Path) -> Vec<PathBuf> {
    let services = files.children(&state.join("services"));
    let releases =
        || services.iter().flat_map(|service| complete(files, &service.join("releases"))).collect::<Vec<_>>();
    match said {
        "before the commit of repository.created" => complete(files, &state.join("git")),
        "before the commit of repository.deleted" => vec![state.join("git")],
        "before the commit of deployment.commitPinned" => complete(files, &state.join("git-cache")),
        "before the commit of deployment.artifactPinned" => complete(files, &state.join("artifacts")),
        "before the commit of deployment.releasePrepared" | "before the commit of operation.begun" => {
            releases()
        }
        "before the commit of operation.ended" => {
            let containers = services.iter().flat_map(|service| files.children(&service.join("containers")));
            let links = containers.map(|container| container.join("current"));
            let links = links.filter(|link| files.kind(link).is_some());
            links.flat_map(|link| [led_to(files, &link), link]).collect()
        }
        said if said.starts_with("after the commit of ") => {
            ["deployd.redb", "deployd.redb.created"].map(|name| state.join(name)).into()
        }
        _ => Vec::new(),
    }
}

/// Where `current` leads: `../../releases/<release>`.
fn led_to(files: &Files, link: &Path) -> PathBuf {
    let Some(Kind::Link(target)) = files.kind(link) else { panic!("{} is no link", link.display()) };
    let release = target.strip_prefix("../../releases/").unwrap();
    link.ancestors().nth(3).unwrap().join("releases").join(release)
}

/// Plays what was recorded.
fn play(files: &mut Files, state: &Path, steps: &[Step], found: &mut Found) {
    // What the store holds is looked at elsewhere; here it is only said to be there.
    let is_its_content =
        |call: &Call| matches!(call, Call::Change(path) if *path == state.join("deployd.redb"));
    for step in steps.iter().filter(|step| !is_its_content(&step.call)) {
        files.take(step);
        let Call::Said(_, said) = &step.call else { continue };
        let said = said.trim_end();
        for path in claims(said, files, state) {
            *found.met.entry(said.to_string()).or_default() += 1;
            found.missing.extend(files.not_durable(&path).into_iter().map(|what| format!("{said}: {what}")));
        }
    }
}

/// What lies there really.
fn real(path: &Path) -> BTreeMap<PathBuf, Kind> {
    let metadata = path.symlink_metadata().unwrap();
    let kind = if metadata.is_symlink() {
        Kind::Link(fs::read_link(path).unwrap().to_str().unwrap().into())
    } else if metadata.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    let mut all = BTreeMap::from([(path.to_path_buf(), kind.clone())]);
    if kind == Kind::Directory {
        all.extend(path.read_dir().unwrap().flat_map(|entry| real(&entry.unwrap().path())));
    }
    all
}

/// What a scene claimed, how often, and what of it was not durable then.
#[derive(Default)]
struct Found {
    met: BTreeMap<String, usize>,
    missing: BTreeSet<String>,
}

/// A release by a build and one by a package. With `kill`, the daemon is killed when it meets that point first, and
/// the next one goes on.
fn released(build_first: bool, kill: Option<&str>) -> Found {
    let mut traced = Traced { daemon: Daemon::new(), lives: 0 };
    let daemon = &traced.daemon;
    let run = format!("run:\n  command: [/bin/sleep, '1000']\n{}", user());
    daemon.add_running(1, &[("a1", ""), ("a2", "")], &run, "sharedPaths: [var/uploads]");
    daemon.add_running(2, &[("b1", "")], &run, "build: { command: [/bin/sh, build.sh], output: out }");
    let package = daemon.path("package.tar");
    fs::write(&package, tar(&[("bin/deep/tool", b"a tool"), ("top", b"a file")])).unwrap();
    daemon.write("deployd.yaml", &format!("packages: {{ allowedUris: ['file://{}'] }}\n", package.display()));
    let state = daemon.path("state");
    let (mut files, mut found) = (Files::below(state.parent().unwrap()), Found::default());

    traced.launch(None);
    assert_eq!(traced.daemon.call("POST", "/v1/repositories", "{\"name\": \"app\"}").0, 201);
    traced.end();
    play(&mut files, &state, &traced.steps(), &mut found);
    // A user's own git, which may sync nothing.
    let commit = push(
        &traced.daemon,
        "app",
        &[("build.sh", "mkdir -p out/deep && echo built > out/deep/file")],
        "main",
    );
    files.discover(&state.join("git"), (traced.lives + 1) * LIFE - 1);

    let from = format!(", httpSrcUri: 'file://{}'", package.display());
    let compiled = format!(", compileRepoPath: app, compileRepoBranch: main, compileRepoCommit: {commit}");
    let compiled = (2, i64::from(build_first), "COMPILE_DEPLOY", &*compiled);
    let plan = items(&[compiled, (1, i64::from(!build_first), "HTTP_UPLOAD_DEPLOY", &from)]);
    traced.launch(kill);
    let task = traced.daemon.execute("release", &plan);
    if kill.is_some() {
        traced.daemon.wait();
        play(&mut files, &state, &traced.steps(), &mut found);
        traced.launch(None);
        traced.daemon.ctl_ends(0, &["resume", &task.to_string(), "--wait"]);
    }
    traced.daemon.until_state(task, "SUCCEEDED");
    // strace ends with the last of what it traces.
    traced.daemon.executed("stop", &items(&[(1, 0, "STOP", ""), (2, 0, "STOP", "")]), "SUCCEEDED");
    assert_eq!(traced.daemon.call("DELETE", "/v1/repositories/app", "").0, 204);
    traced.end();
    play(&mut files, &state, &traced.steps(), &mut found);
    assert_eq!(files.all(&state), real(&state), "the disk of this test is not what happened");
    found
}

#[test]
fn whatever_a_commit_claims_is_durable_before_it() {
    if !has_strace() {
        return;
    }
    let found = released(true, None);
    assert!(found.missing.is_empty(), "not durable when it was claimed: {:#?}", found.missing);
    for (claim, times) in [
        ("repository.created", 1),
        ("repository.deleted", 1),
        ("deployment.commitPinned", 1),
        ("deployment.artifactPinned", 4),
        ("deployment.releasePrepared", 3),
        ("operation.ended", 6),
    ] {
        let met = found.met.get(&format!("before the commit of {claim}")).copied().unwrap_or_default();
        assert!(met >= times, "{claim}: met {met} times only");
    }
}

/// A daemon that finds what another one has made may not take it for durable: that one was killed before it had
/// synced the name.
#[test]
fn what_a_killed_daemon_has_left_is_durable_before_it_is_claimed() {
    if !has_strace() {
        return;
    }
    std::thread::scope(|scope| {
        for kills in [
            [(false, "after an artifact got its name"), (false, "after a release got its name")],
            [(true, "after a build was remembered"), (false, "after a switch")],
        ] {
            scope.spawn(move || {
                for (build_first, name) in kills {
                    let missing = released(build_first, Some(name)).missing;
                    assert!(
                        missing.is_empty(),
                        "killed {name}, not durable when it was claimed: {missing:#?}"
                    );
                }
            });
        }
    });
}

/// A branch never leads to what is not on the disk yet.
#[test]
fn what_is_pushed_is_synced_before_its_branch() {
    if !has_strace() {
        return;
    }
    let mut daemon = Daemon::new();
    daemon.launch();
    assert_eq!(daemon.call("POST", "/v1/repositories", "{\"name\": \"app\"}").0, 201);
    push(&daemon, "app", &[("file", "one")], "main");
    let (repository, trace) = (daemon.path("state/git/app.git"), daemon.path("trace"));
    let source = daemon.path("source-app");
    let commit =
        ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "--allow-empty", "-m", "more"];
    assert!(Command::new("git").args(commit).current_dir(&source).status().unwrap().success());
    let pushed = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "signal=none", "-e", "trace=fsync", "-o"])
        .arg(&trace)
        .args(["git", "push", "-q"])
        .arg(&repository)
        .arg("HEAD:another")
        .current_dir(&source)
        .env("GIT_CONFIG_GLOBAL", daemon.path("gitconfig"))
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let steps = calls::read(&fs::read_to_string(trace).unwrap(), Path::new("/none"), 1);
    let synced = steps.into_iter().filter_map(|step| match step.call {
        Call::Sync(path) => Some(path.strip_prefix(&repository).ok()?.to_path_buf()),
        _ => None,
    });
    let synced: Vec<PathBuf> = synced.collect();
    let (branch, objects) = synced.split_last().unwrap();
    assert_eq!(branch, Path::new("refs/heads/another.lock"), "{synced:?}");
    assert!(!objects.is_empty() && objects.iter().all(|path| path.starts_with("objects")), "{synced:?}");
}
