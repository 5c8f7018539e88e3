//! What deployments do before their containers are touched: how many bytes have come, what a build said last.
//!
//! In memory only, for people who watch: nothing is decided by it, nothing of it outlives the daemon,
//! and reading it waits for no work.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock;
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

type Notes = BTreeMap<(TaskId, usize), Preparation>;

/// The preparations that are going on.
#[derive(Debug, Default)]
pub struct Board {
    notes: Mutex<Notes>,
}

impl Board {
    /// A note about a deployment; it stays as long as what is returned.
    pub fn pin(&self, task: TaskId, deployment: usize, stage: Stage) -> Note<'_> {
        let note = Note { board: self, key: (task, deployment) };
        note.stage(stage);
        note
    }

    /// What the deployments of a task are about, by their index.
    pub fn of(&self, task: TaskId) -> BTreeMap<usize, Preparation> {
        let notes = self.notes();
        let theirs = notes.iter().filter(|(key, _)| key.0 == task);
        theirs.map(|(key, preparation)| (key.1, preparation.clone())).collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A note on the board.
#[derive(Debug)]
pub struct Note<'a> {
    board: &'a Board,
    key: (TaskId, usize),
}

impl Note<'_> {
    /// It goes on to another stage.
    pub fn stage(&self, stage: Stage) {
        let fresh = Preparation { stage, since: clock::now(), bytes: 0, total: None, line: None };
        self.board.notes().insert(self.key, fresh);
    }

    /// So many bytes have come, of so many.
    pub fn bytes(&self, bytes: u64, total: Option<u64>) {
        if let Some(preparation) = self.board.notes().get_mut(&self.key) {
            (preparation.bytes, preparation.total) = (bytes, total);
        }
    }

    /// This was printed.
    pub fn line(&self, text: &str) {
        // A tab is a blank here, and nothing else that could move a cursor gets in.
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let clean: String = text.chars().map(harmless).take(MAX_LINE).collect();
        if !clean.trim().is_empty()
            && let Some(preparation) = self.board.notes().get_mut(&self.key)
        {
            preparation.line = Some(clean.trim_end().to_string());
        }
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.board.notes().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
