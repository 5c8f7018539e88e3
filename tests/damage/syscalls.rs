//! The daemon is killed at the n-th call of a system call, or that call fails: strace does it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::harness::{Daemon, PATIENCE, items};
use crate::scale;
use crate::strace::has_strace;

/// A daemon under strace; it and strace are ended when this is dropped.
struct Traced {
    strace: Child,
}

impl Traced {
    /// `inject` as in `strace -e inject=…`. Calls are counted in each thread.
    fn launch(daemon: &Daemon, inject: &str) -> Self {
        let command = daemon.command();
        let call = inject.split(':').next().unwrap();
        let log = File::options().append(true).create(true).open(daemon.path("deployd.log")).unwrap();
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={inject}")])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Self { strace }
    }

    /// Waits until the daemon answers; false when it ends instead.
    fn answers(&mut self, daemon: &Daemon) -> bool {
        let begun = Instant::now();
        while UnixStream::connect(daemon.socket()).is_err() {
            if self.strace.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "it neither answers nor ends:\n{}", daemon.log());
            std::thread::yield_now();
        }
        true
    }

    /// The daemon's exit code.
    fn end(mut self) -> Option<i32> {
        self.strace.wait().unwrap().code()
    }

    /// Tells the daemon to end; whether it did. (It answers before its start is over, and may be killed then.)
    fn terminate(self, daemon: &Daemon) -> bool {
        let pid = fs::read_to_string(daemon.path("state/lock")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        let told = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        assert!(matches!(told, Ok(()) | Err(nix::errno::Errno::ESRCH)), "{told:?}");
        self.end() == Some(0)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            // What a strace that is killed traces would go on.
            let group = nix::unistd::Pid::from_raw(self.strace.id().try_into().unwrap());
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
            self.strace.wait().ok();
        }
    }
}

/// Kills the first start at every `step`-th call until it comes through; at how many.
fn first_start_killed_at(call: &str, step: usize) -> usize {
    let mut killed = 0;
    for n in (1..).step_by(step) {
        let mut daemon = Daemon::new();
        let mut traced = Traced::launch(&daemon, &format!("{call}:signal=KILL:when={n}"));
        let came_through = if traced.answers(&daemon) {
            traced.terminate(&daemon)
        } else {
            traced.end();
            false
        };
        killed += usize::from(!came_through);
        daemon.launch();
        assert_eq!(daemon.call("GET", "/v1/info", "").0, 200, "{call} {n}");
        if came_through {
            break;
        }
    }
    killed
}

#[test]
fn a_first_start_that_is_killed_at_any_system_call_is_made_good_by_the_next() {
    if !has_strace() {
        return;
    }
    let often = if scale() > 1 { 1 } else { 5 };
    let calls = [
        ("fdatasync", 1, 2),
        ("fsync", 1, 2),
        ("ftruncate", 1, 1),
        ("?rename,?renameat,?renameat2", 1, 1),
        ("?mkdir,?mkdirat", 1, 3),
        ("?unlink,?unlinkat", 1, 1),
        ("flock", 1, 1),
        ("pwrite64", often, 1),
        ("openat", often, 3),
    ];
    for (call, step, least) in calls {
        let killed = first_start_killed_at(call, step);
        eprintln!("{call}: killed {killed} first starts");
        assert!(killed >= least, "{call}: only {killed} calls were met");
    }
}

/// Stores plans until the n-th call fails; the next start has all that were acknowledged, and at most
/// the one that was not. Whether the daemon was up by then.
fn stored_until_failure(call: &str, n: usize) -> bool {
    let mut daemon = Daemon::gated(1);
    daemon.terminate();
    let mut traced = Traced::launch(&daemon, &format!("{call}:error=EIO:when={n}"));
    let plan = items(&[(1, 0, "START", "")]);
    let mut acknowledged = 0;
    let came_up = traced.answers(&daemon);
    let store = |name: usize| {
        let answer = daemon.try_http("POST", &format!("/v1/plans?name=p{name:03}"), "", &plan);
        answer.is_some_and(|(status, ..)| status == 201)
    };
    while came_up && acknowledged < 200 && store(acknowledged) {
        acknowledged += 1;
    }
    if acknowledged == 200 {
        // The one write that may fail alone: the mark beside the store, which says how far its history reaches.
        assert!(daemon.log().contains("how far"), "{call} {n} never failed:\n{}", daemon.log());
        assert!(traced.terminate(&daemon), "{call} {n}:\n{}", daemon.log());
        daemon.launch();
        let stored = daemon.call("GET", "/v1/plans", "").1["plans"].as_array().unwrap().len();
        assert_eq!(stored, acknowledged, "{call} {n}");
        return false;
    }
    let code = traced.end();
    if came_up {
        assert_eq!(code, Some(74), "{call} {n}:\n{}", daemon.log());
    } else {
        assert!(code.is_some_and(|code| code != 0), "{call} {n}:\n{}", daemon.log());
    }
    daemon.launch();
    let stored = daemon.call("GET", "/v1/plans", "").1["plans"].as_array().unwrap().len();
    assert!((acknowledged..=acknowledged + 1).contains(&stored), "{call} {n}: {acknowledged}, {stored}");
    came_up
}

#[test]
fn a_write_or_sync_that_fails_ends_the_daemon_and_loses_nothing_acknowledged() {
    if !has_strace() {
        return;
    }
    let counts: Vec<usize> = if scale() > 1 { (1..=12).collect() } else { vec![1, 2, 3, 6] };
    for call in ["fdatasync", "pwrite64"] {
        let at = |n: &&usize| stored_until_failure(call, if call == "pwrite64" { **n * 3 } else { **n });
        let came_up = counts.iter().filter(at).count();
        assert!(came_up > 0, "no {call} failed after the start");
    }
}
