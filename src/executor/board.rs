//! What deployments do before their containers are touched (how many bytes have come, what a build said last), and
//! what they wait for at their containers.
//!
//! In memory only, for people who watch: nothing is decided by it, nothing of it outlives the daemon,
//! and reading it waits for no work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock;
use crate::runtime::Standing;
use crate::task::{TaskId, Timestamp};

/// A line is cut here.
const MAX_LINE: usize = 200;

/// What a deployment is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits for a place among the downloads.
    AwaitDownload,
    /// Fetches its package.
    Download,
    /// Waits for a place among the builds.
    AwaitBuild,
    /// Builds its commit.
    Build,
    /// Runs a hook.
    Hook,
}

impl Stage {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwaitDownload => "awaitDownload",
            Self::Download => "download",
            Self::AwaitBuild => "awaitBuild",
            Self::Build => "build",
            Self::Hook => "hook",
        }
    }
}

/// How far a deployment is with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// What it is about.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// How many bytes have come.
    pub bytes: u64,
    /// How many there are, if the server has said it.
    pub total: Option<u64>,
    /// What was printed last, without control characters, cut.
    pub line: Option<String>,
}

/// What an operation does with its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Looks at it, and waits until what others do to it is over.
    Look,
    /// Stops it.
    Stop,
    /// Starts it.
    Start,
    /// Waits until it is up.
    Health,
}

impl Doing {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Health => "health",
        }
    }

    /// The same in a sentence.
    pub const fn deed(self) -> &'static str {
        match self {
            Self::Look => "look at",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Health => "health check",
        }
    }
}

/// What an operation waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The deployment's index.
    pub deployment: usize,
    /// The container.
    pub container: String,
    /// What is being done.
    pub doing: Doing,
    /// Since when.
    pub since: Timestamp,
    /// What its unit said last, once that takes a while.
    pub standing: Option<Standing>,
}

type Notes = BTreeMap<(TaskId, usize), Preparation>;
type Waits = BTreeMap<(TaskId, usize, String), Wait>;

/// The preparations that are going on, and what operations wait for.
#[derive(Debug, Default)]
pub struct Board {
    notes: Arc<Mutex<Notes>>,
    waits: Mutex<Waits>,
}

impl Board {
    /// A note about a deployment; it stays as long as what is returned.
    pub fn pin(&self, task: TaskId, deployment: usize, stage: Stage) -> Note {
        let note = Note { notes: self.notes.clone(), key: (task, deployment) };
        note.stage(stage);
        note
    }

    /// What the deployments of a task are about, by their index.
    pub fn of(&self, task: TaskId) -> BTreeMap<usize, Preparation> {
        let notes = lock(&self.notes);
        let theirs = notes.iter().filter(|(key, _)| key.0 == task);
        theirs.map(|(key, preparation)| (key.1, preparation.clone())).collect()
    }

    /// A note about what an operation waits for; it stays as long as what is returned.
    pub fn wait(&self, task: TaskId, deployment: usize, container: &str, doing: Doing) -> WaitNote<'_> {
        let (since, container) = (clock::now(), container.to_string());
        let key = (task, deployment, container.clone());
        self.waits().insert(key.clone(), Wait { deployment, container, doing, since, standing: None });
        WaitNote { board: self, key }
    }

    /// What the operations of a task wait for.
    pub fn waits_of(&self, task: TaskId) -> Vec<Wait> {
        let waits = self.waits();
        waits.iter().filter(|(key, _)| key.0 == task).map(|(_, wait)| wait.clone()).collect()
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A note on the board.
#[derive(Debug)]
pub struct Note {
    notes: Arc<Mutex<Notes>>,
    key: (TaskId, usize),
}

impl Note {
    /// It goes on to another stage.
    pub fn stage(&self, stage: Stage) {
        let fresh = Preparation { stage, since: clock::now(), bytes: 0, total: None, line: None };
        lock(&self.notes).insert(self.key, fresh);
    }

    /// So many bytes have come, of so many.
    pub fn bytes(&self, bytes: u64, total: Option<u64>) {
        if let Some(preparation) = lock(&self.notes).get_mut(&self.key) {
            (preparation.bytes, preparation.total) = (bytes, total);
        }
    }

    /// This was printed.
    pub fn line(&self, text: &str) {
        // A tab is a blank here, and nothing else that could move a cursor gets in.
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let clean: String = text.chars().map(harmless).take(MAX_LINE).collect();
        if !clean.trim().is_empty()
            && let Some(preparation) = lock(&self.notes).get_mut(&self.key)
        {
            preparation.line = Some(clean.trim_end().to_string());
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        lock(&self.notes).remove(&self.key);
    }
}

/// A note about what an operation waits for.
#[derive(Debug)]
pub struct WaitNote<'a> {
    board: &'a Board,
    key: (TaskId, usize, String),
}

impl WaitNote<'_> {
    /// This is what its unit says.
    pub fn standing(&self, standing: Standing) {
        if let Some(wait) = self.board.waits().get_mut(&self.key) {
            wait.standing = Some(standing);
        }
    }

    /// What its unit said last.
    pub fn last(&self) -> Option<Standing> {
        self.board.waits().get(&self.key).and_then(|wait| wait.standing.clone())
    }
}

impl Drop for WaitNote<'_> {
    fn drop(&mut self) {
        self.board.waits().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operation_waits_for_is_told_until_it_is_over() {
        let board = Board::default();
        let note = board.wait(TaskId(7), 3, "c", Doing::Stop);
        let standing = Standing {
            name: "c.service".into(),
            active: "deactivating".into(),
            sub: "stop-sigterm".into(),
            text: "saving".into(),
            job: None,
        };
        note.standing(standing.clone());
        let seen = board.waits_of(TaskId(7)).remove(0);
        assert_eq!((seen.deployment, &*seen.container, seen.doing), (3, "c", Doing::Stop));
        assert_eq!(seen.standing.as_ref(), Some(&standing));
        assert_eq!(standing.to_string(), "c.service is deactivating (stop-sigterm), status: saving");
        drop(note);
        assert!(board.waits_of(TaskId(7)).is_empty());
    }

    #[test]
    fn a_note_stays_as_long_as_its_work() {
        let board = Board::default();
        let note = board.pin(TaskId(7), 3, Stage::AwaitDownload);
        note.stage(Stage::Download);
        note.bytes(3, Some(9));
        let seen = board.of(TaskId(7)).remove(&3).unwrap();
        assert_eq!((seen.stage, seen.bytes, seen.total), (Stage::Download, 3, Some(9)));
        assert!(board.of(TaskId(8)).is_empty());
        drop(note);
        assert!(board.of(TaskId(7)).is_empty());
    }

    #[test]
    fn a_line_is_bounded_and_drives_nothing() {
        let board = Board::default();
        let note = board.pin(TaskId(7), 3, Stage::Build);
        note.line(&format!("cc\t\u{1b}[31m{}", "ä".repeat(1000)));
        note.line("  \u{7}  ");
        let line = board.of(TaskId(7)).remove(&3).unwrap().line.unwrap();
        assert_eq!(line.chars().count(), MAX_LINE);
        assert!(line.starts_with("cc  [31mä") && !line.chars().any(char::is_control));
    }
}
