//! The disk is full, or broken, for one call: whichever it is, the task says so or the daemon ends with a
//! word, what runs goes on running, and once there is room again the release is made good.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use crate::calls::Calls;
use crate::check::is_up;
use crate::harness::{Daemon, items};
use crate::http::PackageServer;
use crate::{each, scale};

/// The kinds of calls that a disk can refuse.
const REFUSABLE: [&str; 9] =
    ["open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "rename", "mkdir", "symlink"];

/// A service of two containers on a first release; the server has the second one.
struct Scene {
    daemon: Daemon,
    server: PackageServer,
    calls: Calls,
}

impl Scene {
    fn new() -> Self {
        let (mut daemon, server) = (Daemon::new(), PackageServer::new());
        daemon.add(1, &[("a1", ""), ("a2", "")], "");
        daemon.launch();
        daemon.executed("one", &package(&server, "/ok.tar"), "SUCCEEDED");
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
        let calls = Calls::new(daemon.path("calls"));
        Self { daemon, server, calls }
    }

    /// Executes the second release, as far as that goes.
    fn try_release(&self) -> Option<String> {
        let plan = package(&self.server, "/big.tar");
        let (status, _, answer) = self.daemon.try_http("POST", "/v1/plans?name=two", "", &plan)?;
        if !(200..300).contains(&status) {
            return Some(answer);
        }
        let (status, _, answer) = self.daemon.try_http("POST", "/v1/tasks", "", "{\"plan\": \"two\"}")?;
        if !(200..300).contains(&status) {
            return Some(answer);
        }
        let mut events = self.daemon.try_events("task=2")?;
        loop {
            let event = events.next()?;
            let rests = ["SUCCEEDED", "FAILED", "INTERRUPTED"].iter().any(|state| event["state"] == *state);
            if rests && event["type"].as_str()?.starts_with("task.") {
                break;
            }
        }
        let (_, _, report) = self.daemon.try_http("GET", "/v1/tasks/2/report", "", "")?;
        Some(report)
    }

    /// The containers that run.
    fn running(&self) -> usize {
        self.daemon.witness().iter().filter(|start| is_up(start.pid)).count()
    }

    /// With room again: the release is finished, whatever became of it.
    fn make_good(&mut self, what: &str) {
        self.daemon.environment.clear();
        self.daemon.launch();
        let (_, tasks) = self.daemon.call("GET", "/v1/tasks?limit=1", "");
        let task = &tasks["tasks"][0];
        let id = task["id"].as_u64().unwrap();
        if task["state"] == "INTERRUPTED" {
            self.daemon.ctl_ends(0, &["resume", &id.to_string(), "--watch"]);
        }
        self.daemon.executed("three", &package(&self.server, "/big.tar"), "SUCCEEDED");
        let mut operations: Vec<_> = self.daemon.witness().into_iter().map(|start| start.operation).collect();
        let all = operations.len();
        operations.sort();
        operations.dedup();
        assert_eq!(operations.len(), all, "{what}: something was done twice\n{}", self.daemon.log());
        assert_eq!(self.running(), 2, "{what}\n{}", self.daemon.log());
        let (_, service) = self.daemon.call("GET", "/v1/services/1", "");
        let releases: Vec<_> =
            service["containers"].as_array().unwrap().iter().map(|c| &c["release"]).collect();
        assert!(
            releases.len() == 2 && releases[0] == releases[1] && releases[0].is_string(),
            "{what}: {service}"
        );
        let left = unfinished(&self.daemon.path("state"));
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

fn package(server: &PackageServer, path: &str) -> String {
    items(&[(1, 1, "HTTP_UPLOAD_DEPLOY", &format!(", httpSrcUri: '{}'", server.url(path)))])
}

fn unfinished(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.contains(".tmp") || name.contains(".part") {
            found.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(unfinished(&entry.path()));
        }
    }
    found
}

/// One call fails; what is said of it.
fn refused(kind: &str, n: u64, errno: Errno) -> bool {
    let what = format!("{kind} {n}: {errno}");
    let mut scene = Scene::new();
    scene.daemon.environment = scene.calls.refusing(Some((kind, n, errno as i32)));
    let said = if scene.daemon.try_launch() { scene.try_release() } else { None };
    let met = scene.calls.counted().iter().any(|(name, count)| *name == kind && *count >= n);
    // A container that was stopped for its new release may be down; the others are not touched.
    assert!(scene.running() >= 1, "{what}: everything is down\n{said:?}\n{}", scene.daemon.log());
    match said {
        // An unknown commit ends the daemon: it says so, and has its own exit code.
        None => {
            let code = scene.daemon.wait_or_ended();
            assert!(
                matches!(code, Some(1 | 65 | 70 | 74 | 75 | 78)),
                "{what}: {code:?}\n{}",
                scene.daemon.log()
            );
            assert!(scene.daemon.log().contains("cannot"), "{what}: {}", scene.daemon.log());
        }
        Some(said) => {
            if said.contains("\"FAILED\"") {
                let words = ["No space left", "Input/output error", "disk space", "cannot"];
                assert!(words.iter().any(|word| said.contains(word)), "{what}: {said}");
            }
            // It may have answered, and then ended because of its store.
            let code = scene.daemon.terminate();
            assert!(matches!(code, Some(0 | 74)), "{what}: {code:?}\n{}", scene.daemon.log());
        }
    }
    scene.make_good(&what);
    met
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn a_disk_that_refuses_any_one_call_costs_a_word_and_no_release() {
    let mut scene = Scene::new();
    scene.daemon.environment = scene.calls.refusing(None);
    scene.daemon.launch();
    let report = scene.try_release().unwrap();
    assert!(report.contains("SUCCEEDED"), "{report}");
    assert_eq!(scene.daemon.terminate(), Some(0));
    let mut all = Vec::new();
    for (kind, count) in scene.calls.counted() {
        if !REFUSABLE.contains(&kind) {
            continue;
        }
        // Evenly spread, and two of each kind at least.
        let chosen = (count * scale() / 100).clamp(2.min(count), count);
        for i in 0..chosen {
            let errno = if i % 2 == 0 { Errno::ENOSPC } else { Errno::EIO };
            all.push((kind, i * count / chosen + 1, errno));
        }
    }
    let met = AtomicUsize::new(0);
    each(&all, |(kind, n, errno)| {
        met.fetch_add(usize::from(refused(kind, *n, *errno)), Ordering::Relaxed);
    });
    let met = met.into_inner();
    eprintln!("{met} of {} calls were refused", all.len());
    assert!(met * 10 >= all.len() * 8, "only {met} of {}", all.len());
}
