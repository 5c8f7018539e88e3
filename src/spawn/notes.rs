//! What is written down of a command that outlives its daemon:
//!
//! ```text
//! NAME.env     the environment that its unit reads
//! NAME.out     its output, as its copier writes it
//! NAME.at      how far the output was passed on
//! NAME.run     which process its shim is (none for a unit)
//! NAME.main    which process it is itself (none for a unit)
//! NAME.end     how it ended
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::ExitStatus;
use super::tree::Run;

/// The files of a command; the last one is needed longest.
const FILES: [&str; 8] = ["env", "out", "at", "run", "run.tmp", "main", "main.tmp", "end"];

/// How the names of those begin that their daemon waits for, and no other one will.
pub const PASSING: &str = "deployd-passing-";

/// Makes the directory of all notes. What a daemon has waited for and no other one will is no longer needed.
///
/// # Errors
/// When it cannot be made.
pub fn prepare(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PASSING) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The names of the commands of which there are notes.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let stem = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.split_once('.')?.0.to_string());
    let mut names: Vec<_> = entries.filter_map(stem).collect();
    names.sort();
    names.dedup();
    names
}

/// How a command has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// systemd's word for it: `success`, `exit-code`, `signal`, `timeout`, …; [`End::REFUSED`] if it never ran.
    pub result: String,
    /// How its main process ended.
    pub status: ExitStatus,
    /// At which step its start failed, and why.
    pub refused: Option<(String, i32)>,
}

impl End {
    /// The result of a command that could not be executed.
    pub const REFUSED: &'static str = "refused";
    /// The result of a command that has taken too long.
    pub const TIMEOUT: &'static str = "timeout";
}

/// The notes of one command.
#[derive(Debug, Clone)]
pub struct Notes {
    directory: PathBuf,
    name: String,
    operation: String,
}

impl Notes {
    /// The notes of the command of this name and operation.
    pub fn new(directory: &Path, name: &str, operation: &str) -> Self {
        Self { directory: directory.into(), name: name.into(), operation: operation.into() }
    }

    /// Where one of the files is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(format!("{}.{file}", self.name))
    }

    /// Whether there are any.
    pub fn exist(&self) -> bool {
        FILES.iter().any(|file| self.path(file).symlink_metadata().is_ok())
    }

    /// The file that the output goes to, and what a unit needs.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn begin(&self, environment: Option<&str>) -> io::Result<()> {
        self.forget();
        let create =
            |file: &str| OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(file));
        create("out")?;
        environment.map_or(Ok(()), |text| create("env")?.write_all(text.as_bytes()))
    }

    /// What is noted at its end: the target of a link, whose variables systemd fills in.
    pub fn says(&self) -> String {
        format!("{} ${{SERVICE_RESULT}} ${{EXIT_CODE}} ${{EXIT_STATUS}}", self.operation)
    }

    /// How it ended; `None`: it has not, or was never begun.
    pub fn end(&self) -> Option<End> {
        let target = fs::read_link(self.path("end")).ok()?;
        parse(target.to_str()?, &self.operation)
    }

    /// Which process this is: `run` its shim, `main` the command itself.
    pub fn process(&self, file: &str) -> Option<Run> {
        Run::from_text(&fs::read_to_string(self.path(file)).ok()?)
    }

    /// Removes all but the note that it has ended.
    pub fn tidy(&self) {
        for file in &FILES[..FILES.len() - 1] {
            fs::remove_file(self.path(file)).ok();
        }
    }

    /// Removes all: as if it had never been begun.
    pub fn forget(&self) {
        self.tidy();
        fs::remove_file(self.path("end")).ok();
    }
}

/// What the shim notes at a command's end, as [`Notes::end`] reads it.
pub(super) fn ended(operation: &str, result: &str, status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("{operation} {result} exited {code}"),
        ExitStatus::Signal(signal) => format!("{operation} {result} killed {signal}"),
    }
}

/// What the shim notes of a command that it could not execute.
pub(super) fn refused(operation: &str, step: &str, errno: i32) -> String {
    format!("{operation} {} {} {errno}", End::REFUSED, step.replace(' ', "_"))
}

fn parse(text: &str, operation: &str) -> Option<End> {
    let mut words = text.strip_prefix(operation)?.strip_prefix(' ')?.split(' ');
    let (result, code, status) = (words.next()?, words.next()?, words.next()?);
    if result == End::REFUSED {
        let refused = Some((code.replace('_', " "), status.parse().ok()?));
        return Some(End { result: result.into(), status: ExitStatus::Code(255), refused });
    }
    let status = match code {
        "exited" => ExitStatus::Code(status.parse().ok()?),
        "killed" | "dumped" => ExitStatus::Signal(signal(status)?),
        // Nothing was executed, for lack of something.
        _ => ExitStatus::Code(255),
    };
    Some(End { result: result.into(), status, refused: None })
}

/// The number of a signal: as a number, by its name, or by its distance from the first one for real time.
fn signal(text: &str) -> Option<i32> {
    let of_name = || format!("SIG{text}").parse::<Signal>().ok().map(|signal| signal as i32);
    let real_time = || {
        let distance = text.strip_prefix("RTMIN")?;
        let distance: i32 = if distance.is_empty() { 0 } else { distance.parse().ok()? };
        Some(nix::libc::SIGRTMIN() + distance)
    };
    text.parse().ok().or_else(of_name).or_else(real_time)
}

/// The text of an environment file.
pub fn environment_file(environment: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in environment {
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            if matches!(character, '"' | '\\' | '`' | '$') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push_str("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_was_noted() {
        let operation = "a.7.0.build";
        let end = |text: &str| parse(text, operation);
        let is = |result: &str, status| Some(End { result: result.into(), status, refused: None });
        assert_eq!(end("a.7.0.build success exited 0"), is("success", ExitStatus::Code(0)));
        assert_eq!(end("a.7.0.build exit-code exited 3"), is("exit-code", ExitStatus::Code(3)));
        assert_eq!(end("a.7.0.build timeout killed KILL"), is("timeout", ExitStatus::Signal(9)));
        assert_eq!(end("a.7.0.build signal killed RTMIN+2"), is("signal", ExitStatus::Signal(36)));
        assert_eq!(end("a.7.0.build resources  "), is("resources", ExitStatus::Code(255)));
        assert_eq!(end("a.7.0.builder success exited 0"), None);
        assert_eq!(end("b.7.0.build success exited 0"), None);
        assert_eq!(end("a.7.0.build success"), None);
        for status in [ExitStatus::Code(3), ExitStatus::Signal(9), ExitStatus::Signal(40)] {
            assert_eq!(end(&ended(operation, "x", status)), is("x", status));
        }
        let never = end(&refused(operation, "enter the working directory", 2)).unwrap();
        assert_eq!(never.refused, Some(("enter the working directory".into(), 2)));
    }

    #[test]
    fn the_files_of_a_command_have_one_name() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path(), "deployd-build-1-0-1", "a.1.0.build");
        assert!(!notes.exist());
        notes.begin(Some("")).unwrap();
        fs::File::create(notes.path("run.tmp")).unwrap();
        assert_eq!(names(directory.path()), ["deployd-build-1-0-1"]);
        std::os::unix::fs::symlink("a.1.0.build success exited 0", notes.path("end")).unwrap();
        notes.tidy();
        assert!(notes.end().is_some() && fs::read_dir(directory.path()).unwrap().count() == 1);
        notes.forget();
        assert!(!notes.exist() && names(directory.path()).is_empty());
    }
}
