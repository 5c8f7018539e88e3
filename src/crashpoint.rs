//! Points at which a test lets the daemon be killed or panic: before and after every commit and every
//! touch of the host, and in every message of the actors.
//!
//! `DEPLOYD_CRASH_NOTE=FILE` writes the name of each point that is met to a file, one on a line;
//! `DEPLOYD_CRASH_AT=NAME:K` ends the process by SIGKILL when it meets the point of that name for the
//! K-th time; `DEPLOYD_PANIC_IN=NAME,NAME` panics at the points and in the messages of these names, once in
//! each. Without these variables a point costs a load or two.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The points around what is done to the host. Those of a commit are named by what it records.
pub const HOST: [&str; 26] = [
    "before a process is asked for",
    "after a process was asked for",
    "after a process was started",
    "before a signal",
    "after a signal",
    "before a run file is removed",
    "after a run file was removed",
    "before an artifact gets its name",
    "after an artifact got its name",
    "before a release gets its name",
    "after a release got its name",
    "before a switch",
    "in the middle of a switch",
    "after a switch",
    "before a build is remembered",
    "after a build was remembered",
    "before git",
    "after git",
    "before a repository gets its name",
    "after a repository got its name",
    "before a repository is removed",
    "after a repository was removed",
    "before a release is removed",
    "after a release was removed",
    "before the log of a task is removed",
    "after the log of a task was removed",
];

/// The same, around units: only a real systemd meets them.
pub const UNITS: [&str; 10] = [
    "before a unit is written",
    "after a unit was written",
    "before a unit job",
    "after a unit job was asked for",
    "after a unit job",
    "before systemd is reloaded",
    "after systemd was reloaded",
    "before a unit is disabled",
    "before a unit's mark is removed",
    "after a unit's mark was removed",
];

/// The same, around an engine's containers: only a real engine meets them.
pub const ENGINE: [&str; 8] = [
    "before an engine makes a container",
    "after an engine made a container",
    "before an engine starts a container",
    "after an engine started a container",
    "before an engine stops a container",
    "after an engine stopped a container",
    "before an engine removes a container",
    "after an engine removed a container",
];

/// On which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it is durable.
    Before,
    /// All of it is.
    After,
}

impl Side {
    /// The name of the point on this side of a commit that records `what`.
    pub fn of(self, what: &str) -> String {
        match self {
            Self::Before => format!("before the commit of {what}"),
            Self::After => format!("after the commit of {what}"),
        }
    }
}

/// A point around what is done to the host: one of [`HOST`], [`UNITS`] or [`ENGINE`].
///
/// # Panics
/// When a test asks for it.
pub fn point(name: &'static str) {
    handling(name);
    if let Some(test) = &*TEST {
        debug_assert!(
            [&HOST[..], &UNITS, &ENGINE].iter().any(|points| points.contains(&name)),
            "{name} is missing in the list of points"
        );
        test.meet(name);
    }
}

/// A point on one side of a commit that records these.
///
/// # Panics
/// When a test asks for it.
pub fn commit(side: Side, what: impl Iterator<Item = &'static str>) {
    handling(match side {
        Side::Before => "before a commit",
        Side::After => "after a commit",
    });
    if let Some(test) = &*TEST {
        what.for_each(|what| test.meet(&side.of(what)));
    }
}

/// As [`point`], for what happens in memory only: a kill there is the kill at the point before it.
///
/// # Panics
/// When a test asks for it.
pub fn handling(name: &str) {
    let Some(panics) = &*PANICS else { return };
    let asked_for = {
        let mut names = panics.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.iter().position(|asked| asked == name);
        found.map(|index| names.remove(index)).is_some()
    };
    assert!(!asked_for, "a test asked for it: {name}");
}

static PANICS: LazyLock<Option<Mutex<Vec<String>>>> = LazyLock::new(|| {
    let names = std::env::var("DEPLOYD_PANIC_IN").ok()?;
    Some(Mutex::new(names.split(',').map(str::to_string).collect()))
});

static TEST: LazyLock<Option<Test>> = LazyLock::new(Test::from_environment);

/// What a test asks for.
struct Test {
    at: Option<(String, u64)>,
    met: Mutex<Met>,
}

struct Met {
    note: Option<File>,
    /// How often the point that is asked for was met.
    count: u64,
}

impl Test {
    fn from_environment() -> Option<Self> {
        let at = std::env::var("DEPLOYD_CRASH_AT").ok();
        let note = std::env::var_os("DEPLOYD_CRASH_NOTE");
        if at.is_none() && note.is_none() {
            return None;
        }
        let at = at.as_deref().and_then(|at| at.rsplit_once(':'));
        let at = at.and_then(|(name, k)| Some((name.to_string(), k.parse().ok()?)));
        let open = |path: &Path| File::options().append(true).create(true).open(path).ok();
        let note = note.and_then(|path| open(path.as_ref()));
        Some(Self { at, met: Mutex::new(Met { note, count: 0 }) })
    }

    fn meet(&self, name: &str) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = &mut met.note {
            note.write_all(format!("{name}\n").as_bytes()).ok();
        }
        if let Some((at, k)) = &self.at
            && at == name
        {
            met.count += 1;
            if met.count == *k {
                die();
            }
        }
    }
}

fn die() -> ! {
    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).ok();
    // Nothing more is done on this thread, however long the signal takes.
    loop {
        std::thread::park();
    }
}
