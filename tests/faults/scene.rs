//! What the fault tests share: who was started how often, and what a daemon has left behind.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{self, PATIENCE};

/// A daemon of the harness, of which nothing may be left behind whatever the fault was: when the test is
/// through with it and it still runs, it has no zombie, no descriptor more than after its start, and nothing unfinished lies in its state directory.
pub struct Daemon {
    daemon: harness::Daemon,
    /// How many descriptors it had when it first answered.
    at_start: usize,
}

impl Daemon {
    pub fn new() -> Self {
        Self { daemon: harness::Daemon::new(), at_start: 0 }
    }

    /// As [`harness::Daemon::launch`].
    pub fn launch(&mut self) {
        assert!(self.try_launch(), "the daemon ended:\n{}", self.log());
    }

    /// As [`harness::Daemon::try_launch`].
    pub fn try_launch(&mut self) -> bool {
        let launched = self.daemon.try_launch();
        if launched {
            // By its first answer all of its threads are there.
            self.try_http("GET", "/v1/info", "", "");
            self.at_start = descriptors(self.pid());
        }
        launched
    }

    /// Ends what a test had begun, and looks at what is left of it.
    fn assert_tidy(&self) {
        let left = leftovers(self);
        assert!(left.is_empty(), "left behind: {left:?}\n{}", self.log());
        let zombies = zombies(self.pid());
        assert!(zombies.is_empty(), "zombies: {zombies:?}");
        let begun = Instant::now();
        // Connections of this test and of health checks end a moment later than their use.
        while descriptors(self.pid()) > self.at_start {
            assert!(begun.elapsed() < PATIENCE, "left open: {:#?}", open(self.pid()));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Deref for Daemon {
    type Target = harness::Daemon;
    fn deref(&self) -> &harness::Daemon {
        &self.daemon
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut harness::Daemon {
        &mut self.daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.daemon.runs() {
            self.assert_tidy();
        }
    }
}

/// How much more is tried than by default: `DEPLOYD_TEST_SCALE`.
pub fn scale() -> usize {
    std::env::var("DEPLOYD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// How often each container was started; that no operation was carried out twice.
pub fn starts(daemon: &harness::Daemon) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    let mut operations = BTreeMap::new();
    for start in daemon.witness() {
        *starts.entry(start.container).or_default() += 1;
        *operations.entry(start.operation).or_default() += 1;
    }
    operations.retain(|_, count: &mut usize| *count > 1);
    assert!(operations.is_empty(), "carried out more than once: {operations:?}\n{}", daemon.log());
    starts
}

/// Each of these containers was started exactly so often, and no other one at all.
pub fn assert_starts(daemon: &harness::Daemon, expected: &[(&str, usize)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, count)| ((*name).to_string(), *count)).collect();
    assert_eq!(starts(daemon), expected, "{}", daemon.log());
}

/// State and reason of a task.
pub fn state(daemon: &harness::Daemon, id: u64) -> (String, String) {
    let task = daemon.task(id);
    let text = |key: &str| task[key].as_str().unwrap_or_default().to_string();
    (text("state"), text("reason"))
}

/// What a process has open.
fn open(pid: i32) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut all: Vec<_> = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect();
    all.sort();
    all
}

/// How many descriptors a process has open. (Its watch over quiet logs comes and goes.)
pub fn descriptors(pid: i32) -> usize {
    open(pid).iter().filter(|path| !path.ends_with("anon_inode:inotify")).count()
}

/// The children of a process that have ended and that it has not waited for.
pub fn zombies(parent: i32) -> Vec<i32> {
    let is_zombie = |pid: &i32| {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[0] == "Z" && fields[1] == parent.to_string()
    };
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(is_zombie).collect()
}

/// What is unfinished below the state directory.
pub fn leftovers(daemon: &harness::Daemon) -> Vec<PathBuf> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "part" || extension == "tmp") {
                found.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    below(&daemon.path("state"), &mut found);
    found
}

/// Resumes a task that a fault has cut off, to its end.
pub fn resume(daemon: &harness::Daemon, id: u64) {
    let (now, reason) = state(daemon, id);
    assert_eq!(now, "INTERRUPTED", "{reason}");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
}
