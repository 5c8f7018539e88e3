//! A task's logs: one file for each service, `<tasks>/<id>/<serviceId>.log`.
//!
//! They carry what builds and hooks print and what operations do, line by line with the time. They
//! are for people: nothing is ever read back from them, and a full disk costs lines, not releases.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::catalog::ServiceId;
use crate::clock;
use crate::crashpoint::point;
use crate::task::TaskId;

/// A log ends here; the rest is dropped, and says so.
const MAX_BYTES: u64 = 64 << 20;
/// A line is cut here.
const MAX_LINE: usize = 16 << 10;

/// The logs of all tasks.
#[derive(Debug, Clone)]
pub struct TaskLogs {
    directory: PathBuf,
}

impl TaskLogs {
    /// Logs below `directory`.
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The log of one service of one task. It is created with its first line.
    pub fn open(&self, task: TaskId, service: ServiceId) -> TaskLog {
        let path = self.directory.join(task.to_string()).join(format!("{service}.log"));
        TaskLog { path, file: Mutex::new(None) }
    }

    /// The tasks that have logs.
    pub fn tasks(&self) -> io::Result<Vec<TaskId>> {
        let id =
            |entry: io::Result<fs::DirEntry>| Some(TaskId(entry.ok()?.file_name().to_str()?.parse().ok()?));
        match fs::read_dir(&self.directory) {
            Ok(entries) => Ok(entries.filter_map(id).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Removes the logs of a task that is deleted.
    pub fn remove(&self, task: TaskId) -> io::Result<()> {
        point("before the log of a task is removed");
        match fs::remove_dir_all(self.directory.join(task.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        point("after the log of a task was removed");
        Ok(())
    }
}

/// One log.
#[derive(Debug)]
pub struct TaskLog {
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

impl TaskLog {
    /// Appends a line: the time, who says it (`build`, `web-1`, …), the text.
    pub fn line(&self, who: &str, text: &str) {
        if let Err(error) = self.append(who, text) {
            tracing::debug!(path = %self.path.display(), %error, "cannot write to a task's log");
        }
    }

    fn append(&self, who: &str, text: &str) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (file, bytes) = match &mut *file {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        if *bytes >= MAX_BYTES {
            return Ok(());
        }
        let mut line = format!("{} {who}: {}\n", time(), cut(text));
        *bytes += line.len() as u64;
        if *bytes >= MAX_BYTES {
            line.push_str("(the log has reached its limit; the rest is not kept)\n");
        }
        file.write_all(line.as_bytes())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC);
    let file = match (options.open(path), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
            options.open(path)?
        }
        (other, _) => other?,
    };
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn time() -> String {
    jiff::Timestamp::from_microsecond(clock::now().0).map(|now| format!("{now:.3}")).unwrap_or_default()
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_LINE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end_matches(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_cut() {
        let directory = tempfile::tempdir().unwrap();
        let logs = TaskLogs::new(directory.path().join("tasks"));
        let service = ServiceId::new(111).unwrap();
        logs.open(TaskId(7), service).line("build", "one");
        logs.open(TaskId(7), service).line("web-1", &"ä".repeat(MAX_LINE));
        let text = fs::read_to_string(directory.path().join("tasks/7/111.log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("build: one"), "{}", lines[0]);
        assert!(lines[1].len() <= MAX_LINE + 64);
        assert_eq!(logs.tasks().unwrap(), [TaskId(7)]);
        logs.remove(TaskId(7)).unwrap();
        assert!(!directory.path().join("tasks/7").exists());
        logs.remove(TaskId(7)).unwrap();
    }
}
