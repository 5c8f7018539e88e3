//! SIGTERM and SIGINT, whatever is going on: the daemon ends in time and well, nothing that was going on has
//! failed by it, and the next daemon goes on without repeating anything.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{deployctl, items, user};
use crate::push::push;
use crate::scene::{Daemon, assert_starts, state};

/// `shutdownGrace`: nothing here ends within it by itself.
const GRACE: Duration = Duration::from_millis(300);
/// What a daemon on a busy machine may take to write down what is left.
const SLACK: Duration = Duration::from_secs(10);

/// What goes on when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    /// A container that waits for its health.
    Health,
    /// A package whose second half does not come.
    Download,
    /// A build that does not end.
    Build,
    /// A hook that does not end.
    Hook,
    /// A container that does not listen to SIGTERM is stopped.
    Stop,
    /// … or restarted.
    Restart,
}

/// In which state its task is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum In {
    Running,
    Pausing,
    Stopping,
    Paused,
    Interrupted,
    /// Another plan waits behind it (`--wait`).
    Awaited,
}

const WORKS: [Work; 6] = [Work::Health, Work::Download, Work::Build, Work::Hook, Work::Stop, Work::Restart];
const STATES: [In; 6] = [In::Running, In::Pausing, In::Stopping, In::Paused, In::Interrupted, In::Awaited];

/// Sends half of a package, and the rest when the file is there.
fn slow_package(gate: PathBuf) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |mut stream: TcpStream| -> std::io::Result<()> {
        // As much of the request as there is.
        let _ = stream.read(&mut [0; 4096])?;
        let package = crate::http::tar(&[("file", &[b'x'; 10_000])]);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", package.len())?;
        let (half, rest) = package.split_at(package.len() / 2);
        stream.write_all(half)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        // Until then, or until the other side hangs up.
        while !gate.exists() && !matches!(stream.read(&mut [0]), Ok(0)) {}
        stream.write_all(rest)
    };
    std::thread::spawn(move || {
        let answer = std::sync::Arc::new(answer);
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer(stream).ok());
        }
    });
    port
}

/// Service 1 is at work; service 2 comes after it, service 3 waits for both.
struct Stage {
    daemon: Daemon,
    work: Work,
    plan: String,
}

impl Stage {
    fn new(work: Work) -> Self {
        let mut daemon = Daemon::new();
        daemon.write("deployd.yaml", &format!("shutdownGrace: {}ms\n", GRACE.as_millis()));
        let wait = format!("until test -e {}; do sleep 0.02; done", daemon.path("open-work").display());
        daemon.add(2, &[("c2", "")], "");
        daemon.add(3, &[("c3", "")], "");
        let (way, more) = match work {
            Work::Health => ("START", String::new()),
            Work::Download => {
                let port = slow_package(daemon.path("open-work"));
                ("HTTP_UPLOAD_DEPLOY", format!(", httpSrcUri: 'http://127.0.0.1:{port}/p.tar'"))
            }
            Work::Build => ("COMPILE_DEPLOY", ", compileRepoPath: app, compileRepoBranch: main".to_string()),
            Work::Hook => ("START", String::new()),
            Work::Stop => ("STOP", String::new()),
            Work::Restart => ("RESTART", String::new()),
        };
        match work {
            Work::Health => {
                daemon.add(1, &[("c1", "")], &daemon.gate().replace("$DEPLOYD_CONTAINER", "work"));
            }
            Work::Build => {
                daemon.add(1, &[("c1", "")], "build: { command: [/bin/sh, build.sh], output: out }");
            }
            Work::Hook => {
                let hook = format!("hooks: {{ preDeploy: [/bin/sh, -c, '{wait}'] }}");
                daemon.add(1, &[("c1", "")], &hook);
            }
            Work::Stop | Work::Restart => deaf(&daemon),
            Work::Download => daemon.add(1, &[("c1", "")], ""),
        }
        daemon.launch();
        if work == Work::Build {
            daemon.ctl_ends(0, &["repo", "create", "app"]);
            push(&daemon, "app", &[("build.sh", &format!("{wait}; mkdir out; touch out/file"))], "main");
        }
        if matches!(work, Work::Stop | Work::Restart) {
            daemon.executed("before", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
        }
        let plan = items(&[(1, 1, way, &more), (2, 0, "START", "")]);
        Self { daemon, work, plan }
    }

    /// Executes the plan until the work is under way.
    fn begin(&self) -> u64 {
        let id = self.daemon.execute("release", &self.plan);
        self.under_way(id);
        id
    }

    fn under_way(&self, id: u64) {
        let wanted = match self.work {
            Work::Health | Work::Stop | Work::Restart => "operation.begun",
            Work::Build => "deployment.commitPinned",
            Work::Download | Work::Hook => "deployment.begun",
        };
        self.daemon.until(id, |event| event["type"] == wanted);
    }

    /// Lets whatever goes on end well.
    fn open(&self) {
        self.daemon.release("work");
    }

    fn signal(&mut self, signal: Signal) {
        let begun = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.daemon.pid()), signal).unwrap();
        let code = self.daemon.wait();
        assert_eq!(code, Some(0), "{signal}\n{}", self.daemon.log());
        let took = begun.elapsed();
        assert!(took < GRACE + SLACK, "{signal}: the end took {took:?}\n{}", self.daemon.log());
        assert!(!self.daemon.socket().exists());
    }
}

/// A container that is ended by SIGKILL only, after `stopTimeout`, which is longer than the grace.
fn deaf(daemon: &Daemon) {
    let witness = daemon.path("witness");
    let script = format!(
        "trap '' TERM; echo $DEPLOYD_CONTAINER $DEPLOYD_OPERATION $$ $(date +%s.%N) >> {}; \
         while :; do sleep 0.1; done",
        witness.display()
    );
    let run = format!(
        "run:\n  command: [/bin/sh, -c, {}]\n{}  stopTimeout: 2s\n",
        serde_json::to_string(&script).unwrap(),
        user()
    );
    let health =
        format!("health: {{ command: [/bin/sh, -c, '{}'], interval: 10ms, settle: 0s }}", daemon.wrote());
    daemon.add_running(1, &[("c1", "")], &run, &health);
}

fn signalled(work: Work, state_of: In, signal: Signal) {
    let what = format!("{work:?} {state_of:?} {signal}");
    let mut stage = Stage::new(work);
    let id = stage.begin();
    let number = id.to_string();
    let mut queued = None;
    let mut expected = ("INTERRUPTED", "daemonShutDown");
    match state_of {
        In::Running => {}
        In::Pausing => drop(stage.daemon.ctl_ends(0, &["pause", &number])),
        In::Stopping => drop(stage.daemon.ctl_ends(0, &["stop", &number])),
        In::Paused => {
            stage.daemon.ctl_ends(0, &["pause", &number]);
            stage.open();
            stage.daemon.until_state(id, "PAUSED");
            expected = ("PAUSED", "pausedByUser");
        }
        In::Interrupted => {
            stage.daemon.kill_9();
            stage.daemon.launch();
            expected = ("INTERRUPTED", "daemonDied");
        }
        In::Awaited => {
            let plan = stage.daemon.write("queued.yaml", &items(&[(2, 1, "START", ""), (3, 0, "START", "")]));
            let mut client = Command::new(deployctl());
            client.args(["execute", "--wait", "-f"]).arg(plan).env("DEPLOYD_SOCKET", stage.daemon.socket());
            client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut client = client.spawn().unwrap();
            // Its first words: whom it waits for.
            let mut word = [0; 1];
            client.stderr.as_mut().unwrap().read_exact(&mut word).unwrap();
            queued = Some(client);
        }
    }
    stage.signal(signal);
    stage.daemon.launch();
    let found = state(&stage.daemon, id);
    assert_eq!((&*found.0, &*found.1), expected, "{what}\n{}", stage.daemon.log());
    let report = stage.daemon.report(id);
    for deployment in report["deployments"].as_array().unwrap() {
        assert!(deployment["state"] != "FAILED" && deployment["error"].is_null(), "{what}: {deployment:#}");
    }
    stage.open();
    let mut starts = vec![("c1", if work == Work::Restart { 2 } else { 1 }), ("c2", 1)];
    let mut verbs = vec!["resume", "--wait"];
    if let Some(mut client) = queued {
        // It has kept its place over the restart; what it has changed is no drift to who knows of it.
        assert_eq!(client.wait().unwrap().code(), Some(0), "{what}");
        starts.push(("c3", 1));
        verbs.push("--force");
    }
    verbs.push(&number);
    stage.daemon.ctl_ends(0, &verbs);
    assert_eq!(state(&stage.daemon, id).0, "SUCCEEDED", "{what}: {:#}", stage.daemon.report(id));
    assert_starts(&stage.daemon, &starts);
}

#[test]
fn a_signal_to_end_is_obeyed_in_every_state_and_whatever_is_going_on() {
    // Each work in each state, the two signals in turn.
    let all: Vec<_> = WORKS
        .iter()
        .flat_map(|&work| STATES.map(|state| (work, state)))
        .enumerate()
        .map(|(n, (work, state))| {
            (
                work,
                state,
                if (n + n / STATES.len()).is_multiple_of(2) { Signal::SIGTERM } else { Signal::SIGINT },
            )
        })
        .collect();
    std::thread::scope(|scope| {
        for part in all.chunks(all.len().div_ceil(3)) {
            scope.spawn(|| part.iter().for_each(|&(work, state, signal)| signalled(work, state, signal)));
        }
    });
}
