//! What the fault tests share: who was started how often, and what a daemon has left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Daemon;

/// How much more is tried than by default: `DEPLOYD_TEST_SCALE`.
pub fn scale() -> usize {
    std::env::var("DEPLOYD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// How often each container was started; that no operation was carried out twice.
pub fn starts(daemon: &Daemon) -> BTreeMap<String, usize> {
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
pub fn assert_starts(daemon: &Daemon, expected: &[(&str, usize)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, count)| ((*name).to_string(), *count)).collect();
    assert_eq!(starts(daemon), expected, "{}", daemon.log());
}

/// State and reason of a task.
pub fn state(daemon: &Daemon, id: u64) -> (String, String) {
    let task = daemon.task(id);
    let text = |key: &str| task[key].as_str().unwrap_or_default().to_string();
    (text("state"), text("reason"))
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
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
pub fn leftovers(daemon: &Daemon) -> Vec<PathBuf> {
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

/// Nothing is left behind by a daemon that has come to rest.
pub fn assert_tidy(daemon: &Daemon) {
    let left = leftovers(daemon);
    assert!(left.is_empty(), "left behind: {left:?}\n{}", daemon.log());
    let zombies = zombies(daemon.pid());
    assert!(zombies.is_empty(), "zombies: {zombies:?}");
}

/// Resumes a task that a fault has cut off, to its end.
pub fn resume(daemon: &Daemon, id: u64) {
    let (now, reason) = state(daemon, id);
    assert_eq!(now, "INTERRUPTED", "{reason}");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
}
