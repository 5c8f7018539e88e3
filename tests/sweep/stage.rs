//! A scene on its stage: a daemon, a script of requests, and a client that repeats what had no answer.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::calls::Calls;
use crate::harness::{Daemon, user};
use crate::http::PackageServer;

/// What `--now` says.
const NOW: &str = "{\"now\": true}";

/// What a client wants, in this order. Each is repeated until it was answered.
#[derive(Clone)]
pub enum Step {
    /// Store a plan.
    Store(&'static str, String),
    /// Forget a plan.
    Forget(&'static str),
    /// Execute a plan; who asks again gets the same task.
    Execute(&'static str),
    /// Wait for the first event of this type of the plan's task.
    Until(&'static str, &'static str),
    /// Pause or stop the plan's task, wherever it is.
    Command(&'static str, &'static str),
    /// Let a container become healthy whose health check waits for it.
    Open(&'static str),
    /// Bring the plan's task to this state; a task at rest is given this command.
    Rest(&'static str, &'static str, &'static str),
    /// Delete the plan's task.
    Delete(&'static str),
    /// Put another service into the catalog, and reload it.
    Catalog(u64, &'static str),
    /// Create a repository.
    CreateRepository(&'static str),
    /// Push a commit with this build script.
    Push(&'static str, String),
    /// Delete a repository.
    DeleteRepository(&'static str),
    /// SIGTERM to the daemon, which ends this life.
    Terminate,
}

/// Where a daemon is killed.
#[derive(Debug, Clone)]
pub enum Kill {
    /// At the point of this name, when it is met for the n-th time.
    Point(String, u64),
    /// Before the n-th system call of this kind.
    Call(&'static str, u64),
}

/// What was seen of one life of the daemon.
pub struct Life {
    /// Whether all is done.
    pub done: bool,
    /// The names of the points that were met, in this order.
    pub trail: Vec<String>,
    /// How many system calls of each kind there were, if they were counted.
    pub calls: Vec<(&'static str, u64)>,
}

impl Life {
    /// Whether a kill came in this life: what goes on at once may change places from play to play.
    pub fn met(&self, kill: &Kill) -> bool {
        match kill {
            Kill::Point(name, n) => self.trail.iter().filter(|met| *met == name).count() as u64 >= *n,
            Kill::Call(kind, n) => self.calls.iter().any(|(name, count)| name == kind && count >= n),
        }
    }
}

/// How a container is in the end.
#[derive(Debug, Clone, Copy)]
pub struct Fate {
    /// The least and the most of its starts.
    pub starts: (usize, usize),
    /// Whether it runs; `None`: as its last operation left it.
    pub up: Option<bool>,
}

/// A scene on its stage.
pub struct Stage {
    pub daemon: Daemon,
    pub server: PackageServer,
    pub script: Vec<Step>,
    pub fates: BTreeMap<&'static str, Fate>,
    /// How often something leaves its mark in the directory `marks` in an undisturbed play.
    pub marks: BTreeMap<&'static str, usize>,
    /// How often a path of the server is fetched in an undisturbed play.
    pub fetched: BTreeMap<&'static str, usize>,
    /// Counts the daemon's system calls.
    pub calls: Option<Calls>,
    done: usize,
    tasks: BTreeMap<&'static str, u64>,
}

impl Stage {
    pub fn new() -> Self {
        let daemon = Daemon::new();
        let marks = daemon.path("marks");
        fs::create_dir(&marks).unwrap();
        // Builds and hooks leave theirs as users of their own.
        fs::set_permissions(&marks, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        Self {
            daemon,
            server: PackageServer::new(),
            script: Vec::new(),
            fates: BTreeMap::new(),
            marks: BTreeMap::new(),
            fetched: BTreeMap::new(),
            calls: None,
            done: 0,
            tasks: BTreeMap::new(),
        }
    }

    /// A service whose containers write down their starts and their ends.
    pub fn add(&self, id: u64, containers: &[&str], more: &str) {
        let (witness, stops) = (self.daemon.path("witness"), self.daemon.path("stops"));
        let line = "$DEPLOYD_CONTAINER $DEPLOYD_OPERATION $$ $(date +%s.%N)";
        let script = format!(
            "trap 'echo {line} >> {}; exit 0' TERM; echo {line} >> {}; sleep 1000 & wait",
            stops.display(),
            witness.display()
        );
        let run = format!(
            "run:\n  command: [/bin/sh, -c, {}]\n{}  stopTimeout: 50s\n",
            serde_json::to_string(&script).unwrap(),
            user()
        );
        let written = format!(
            "health: {{ command: [/bin/sh, -c, '{}'], interval: 10ms, timeout: 50s, settle: 0s }}",
            self.daemon.wrote()
        );
        let health = if more.contains("health:") { String::new() } else { written };
        let containers: Vec<_> = containers.iter().map(|name| (*name, "")).collect();
        self.daemon.add_running(id, &containers, &run, &format!("{health}\n{more}"));
    }

    /// A command that leaves a mark.
    pub fn mark(&self, name: &str) -> String {
        format!("mktemp {}/{name}.XXXXXXXX", self.daemon.path("marks").display())
    }

    /// These containers are started this often, and run in the end or don't.
    pub fn fate(&mut self, containers: &[&'static str], starts: usize, up: bool) {
        self.fate_between(containers, (starts, starts), Some(up));
    }

    /// As [`Self::fate`], where it depends on when the daemon dies.
    pub fn fate_between(&mut self, containers: &[&'static str], starts: (usize, usize), up: Option<bool>) {
        self.fates.extend(containers.iter().map(|container| (*container, Fate { starts, up })));
    }

    /// Starts the daemon, brings containers up that are there before, and ends it again.
    pub fn before(&mut self, services: &[u64]) {
        self.daemon.launch();
        if !services.is_empty() {
            let items: Vec<_> = services.iter().map(|id| (*id, 0, "START", "")).collect();
            self.daemon.executed("before", &crate::harness::items(&items), "SUCCEEDED");
        }
        assert_eq!(self.daemon.terminate(), Some(0), "{}", self.daemon.log());
    }

    /// One life of the daemon, killed there.
    pub fn live(&mut self, kill: Option<&Kill>) -> Life {
        let note = self.daemon.path("note");
        self.daemon.environment = vec![("DEPLOYD_CRASH_NOTE", note.display().to_string())];
        if let Some(Kill::Point(name, n)) = kill {
            self.daemon.environment.push(("DEPLOYD_CRASH_AT", format!("{name}:{n}")));
        }
        if let Some(calls) = &self.calls {
            let at = if let Some(Kill::Call(kind, n)) = kill { Some((*kind, *n)) } else { None };
            self.daemon.environment.extend(calls.begin(at));
        }
        if self.daemon.try_launch() {
            while let Some(step) = self.script.get(self.done).cloned() {
                if self.carry_out(&step).is_none() {
                    break;
                }
                self.done += 1;
                if matches!(step, Step::Terminate) {
                    break;
                }
            }
        }
        let done = self.done == self.script.len();
        // When all is done a kill may still come, as long as this daemon lives.
        let may_be_killed = done && kill.is_some();
        if may_be_killed {
            self.daemon.terminate();
        } else if !done {
            self.daemon.wait();
        }
        let text = fs::read_to_string(&note).unwrap_or_default();
        let trail: Vec<_> = text.lines().map(str::to_string).collect();
        fs::remove_file(&note).ok();
        let calls = self.calls.as_ref().map(Calls::counted).unwrap_or_default();
        if may_be_killed {
            self.daemon.environment.clear();
            self.daemon.launch();
        }
        Life { done, trail, calls }
    }

    /// `None` when the daemon died meanwhile, or ends as it should.
    fn carry_out(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Store(name, plan) => self.ask("POST", &format!("/v1/plans?name={name}"), plan, &[201]),
            Step::Forget(name) => self.ask("DELETE", &format!("/v1/plans/{name}"), "", &[204, 404]),
            Step::Execute(name) => {
                let (body, key) =
                    (format!("{{\"plan\": \"{name}\"}}"), format!("Idempotency-Key: {name}\r\n"));
                let (status, _, answer) = self.daemon.try_http("POST", "/v1/tasks", &key, &body)?;
                assert!(matches!(status, 200..=202), "{status} {answer}");
                let answer: Value = serde_json::from_str(&answer).ok()?;
                self.tasks.insert(name, answer["id"].as_u64()?);
                Some(())
            }
            Step::Until(name, kind) => self.until(self.tasks[name], kind),
            Step::Command(name, verb) => {
                // A task that was interrupted can't be paused any more: 409.
                let (verb, body) = verb.strip_suffix(" --now").map_or((*verb, ""), |verb| (verb, NOW));
                self.ask("POST", &format!("/v1/tasks/{}/{verb}", self.tasks[name]), body, &[200, 202, 409])
            }
            Step::Open(container) => {
                self.daemon.release(container);
                Some(())
            }
            Step::Rest(name, state, verb) => self.rest(self.tasks[name], state, verb),
            Step::Delete(name) => {
                self.ask("DELETE", &format!("/v1/tasks/{}", self.tasks[name]), "", &[204, 404])
            }
            Step::Catalog(id, container) => {
                self.add(*id, &[container], "");
                self.ask("POST", "/v1/services/reload", "", &[200])
            }
            Step::CreateRepository(name) => {
                self.ask("POST", "/v1/repositories", &format!("{{\"name\": \"{name}\"}}"), &[201, 409])
            }
            Step::Push(name, script) => {
                self.push(name, script);
                Some(())
            }
            Step::DeleteRepository(name) => {
                self.ask("DELETE", &format!("/v1/repositories/{name}"), "", &[204, 404])
            }
            Step::Terminate => {
                let pid = nix::unistd::Pid::from_raw(self.daemon.pid());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
                Some(())
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str, wanted: &[u16]) -> Option<()> {
        let (status, _, answer) = self.daemon.try_http(method, path, "", body)?;
        assert!(wanted.contains(&status), "{method} {path}: {status} {answer}\n{}", self.daemon.log());
        Some(())
    }

    fn push(&self, name: &str, script: &str) {
        let source = self.daemon.path("source");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("build.sh"), script).unwrap();
        let repository = self.daemon.path(&format!("state/git/{name}.git")).display().to_string();
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["add", "."],
            &["commit", "-q", "--allow-empty", "-m", "a commit"],
            &["-c", "safe.directory=*", "push", "-q", &repository, "main"],
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

    fn get(&self, path: &str) -> Option<Value> {
        let (_, _, answer) = self.daemon.try_http("GET", path, "", "")?;
        serde_json::from_str(&answer).ok()
    }

    /// The numbers of the task's events of these types.
    fn events(&self, id: u64, wanted: impl Fn(&str) -> bool) -> Option<Vec<u64>> {
        let report = self.get(&format!("/v1/tasks/{id}/report"))?;
        let events = report["events"].as_array()?.iter();
        Some(
            events
                .filter(|event| wanted(event["type"].as_str().unwrap()))
                .filter_map(|e| e["seq"].as_u64())
                .collect(),
        )
    }

    fn command(&self, id: u64, verb: &str) -> Option<()> {
        self.ask("POST", &format!("/v1/tasks/{id}/{verb}"), "", &[200, 202])
    }

    fn until(&self, id: u64, wanted: &str) -> Option<()> {
        if !self.events(id, |kind| kind == wanted)?.is_empty() {
            return Some(());
        }
        if self.get(&format!("/v1/tasks/{id}"))?["state"] == "INTERRUPTED" {
            self.command(id, "resume")?;
        }
        let mut events = self.daemon.try_events(&format!("task={id}"))?;
        while events.next()?["type"] != wanted {}
        Some(())
    }

    /// Follows a task to the state in which it is to end.
    fn rest(&self, id: u64, wanted: &str, verb: &str) -> Option<()> {
        loop {
            let task = self.get(&format!("/v1/tasks/{id}"))?;
            match task["state"].as_str()? {
                state if state == wanted => return Some(()),
                "PAUSED" | "INTERRUPTED" => self.command(id, verb)?,
                "RUNNING" | "PAUSING" | "STOPPING" => {
                    // The last event says where it is; what follows is waited for.
                    let last = *self.events(id, |_| true)?.last()?;
                    let mut events = self.daemon.try_events(&format!("task={id}"))?;
                    loop {
                        let event = events.next()?;
                        let rests = matches!(
                            event["state"].as_str(),
                            Some("SUCCEEDED" | "PAUSED" | "FAILED" | "STOPPED" | "INTERRUPTED")
                        );
                        let is_task = event["type"].as_str()?.starts_with("task.");
                        if event["seq"].as_u64()? >= last && is_task && rests {
                            break;
                        }
                    }
                }
                other => panic!("the task is {other}: {:#}\n{}", self.daemon.report(id), self.daemon.log()),
            }
        }
    }
}
