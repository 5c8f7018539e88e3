//! What is written down of a command: `NAME.env` for its unit to read, `NAME.out` that it writes to,
//! `NAME.at` how far that was told, `NAME.end` how it ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

use super::End;
use crate::spawn::ExitStatus;
use crate::spawn::command::MAX_LINE;

/// What was told is cut out of the file when it is as much as this.
const TOLD: u64 = 4 << 20;
/// No more is read at once.
const CHUNK: usize = 64 << 10;
/// The files of a command.
const FILES: [&str; 4] = ["env", "out", "at", "end"];

/// Makes the directory of all notes. What a daemon has waited for and no other one will is no longer needed.
pub fn prepare(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("deployd-passing-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The names of the commands of which there are notes.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let stem = |entry: fs::DirEntry| Some(entry.path().file_stem()?.to_str()?.to_string());
    let mut names: Vec<_> = entries.filter_map(stem).collect();
    names.sort();
    names.dedup();
    names
}

/// The notes of one command.
#[derive(Debug, Clone)]
pub struct Notes {
    directory: PathBuf,
    name: String,
    operation: String,
}

impl Notes {
    pub fn new(directory: &Path, name: &str, operation: &str) -> Self {
        Self { directory: directory.into(), name: name.into(), operation: operation.into() }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(format!("{}.{file}", self.name))
    }

    pub fn exist(&self) -> bool {
        FILES.iter().any(|file| self.path(file).symlink_metadata().is_ok())
    }

    /// Everything that its unit needs.
    pub fn begin(&self, environment: &str) -> io::Result<()> {
        self.forget();
        let create = |file: &str, mode| {
            OpenOptions::new().write(true).create_new(true).mode(mode).open(self.path(file))
        };
        create("out", 0o600)?;
        create("env", 0o600)?.write_all(environment.as_bytes())
    }

    /// What its unit notes at its end: the target of a link, whose variables systemd fills in.
    pub fn says(&self) -> String {
        format!("{} ${{SERVICE_RESULT}} ${{EXIT_CODE}} ${{EXIT_STATUS}}", self.operation)
    }

    /// How it ended; `None`: it has not, or was never begun.
    pub fn end(&self) -> Option<End> {
        let target = fs::read_link(self.path("end")).ok()?;
        parse(target.to_str()?, &self.operation)
    }

    /// Only that it has ended is still of use.
    pub fn tidy(&self) {
        for file in &FILES[..3] {
            fs::remove_file(self.path(file)).ok();
        }
    }

    /// As if it had never been begun.
    pub fn forget(&self) {
        self.tidy();
        fs::remove_file(self.path("end")).ok();
    }
}

fn parse(text: &str, operation: &str) -> Option<End> {
    let mut words = text.strip_prefix(operation)?.strip_prefix(' ')?.split(' ');
    let (result, code, status) = (words.next()?, words.next()?, words.next()?);
    let status = match code {
        "exited" => ExitStatus::Code(status.parse().ok()?),
        "killed" | "dumped" => {
            let signal: nix::sys::signal::Signal = format!("SIG{status}").parse().ok()?;
            ExitStatus::Signal(signal as i32)
        }
        // Nothing was executed, for lack of something.
        _ => ExitStatus::Code(255),
    };
    Some(End { result: result.into(), status })
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

/// The output of a command, told line by line. How far is noted, so that the daemon that joins it goes on there
/// (what was told last before a crash may be told again).
pub struct Output {
    file: Option<File>,
    note: Option<File>,
    /// What stands before it was told.
    told: u64,
    /// Up to here there is nothing in the file any more.
    cut: u64,
}

impl Output {
    pub fn of(notes: &Notes) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(notes.path("out")).ok();
        let told = fs::read_to_string(notes.path("at")).ok().and_then(|text| text.trim().parse().ok());
        let mut options = OpenOptions::new();
        let note = options.write(true).create(true).truncate(false).mode(0o600).open(notes.path("at")).ok();
        Self { file, note, told: told.unwrap_or(0), cut: 0 }
    }

    /// Tells all lines that are complete.
    pub fn tell(&mut self, on_line: &mut (dyn FnMut(String) + Send)) {
        let before = self.told;
        while self.tell_some(on_line, false) {}
        if self.told == before {
            return;
        }
        if let Some(note) = &self.note {
            // As many digits as any number has: it overwrites the one before.
            note.write_all_at(format!("{:020}\n", self.told).as_bytes(), 0).ok();
        }
        if let Some(file) = &self.file
            && self.told - self.cut > TOLD
        {
            // A flood of output must not fill the disk. The file keeps its length: nothing written meanwhile is lost.
            let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(file, mode, 0, i64::try_from(self.told).unwrap_or(0)).ok();
            self.cut = self.told;
        }
    }

    /// Tells the rest, too: nobody is going to complete the last line.
    pub fn finish(&mut self, on_line: &mut (dyn FnMut(String) + Send)) {
        while self.tell_some(on_line, true) {}
    }

    /// Whether there was something to tell.
    fn tell_some(&mut self, on_line: &mut (dyn FnMut(String) + Send), last: bool) -> bool {
        let Some(file) = &self.file else { return false };
        let mut chunk = vec![0; CHUNK];
        let Ok(read) = file.read_at(&mut chunk, self.told) else { return false };
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            let line = rest.iter().position(|&byte| byte == b'\n').map(|end| end + 1);
            let length = match line {
                Some(length) => length.min(MAX_LINE),
                None if rest.len() >= MAX_LINE => MAX_LINE,
                None if last => rest.len(),
                None => break,
            };
            let text = String::from_utf8_lossy(&rest[..length]);
            on_line(text.trim_end_matches(['\n', '\r']).to_string());
            rest = &rest[length..];
            self.told += length as u64;
        }
        rest.len() < read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_was_noted() {
        let end = |text| parse(text, "a.7.0.build");
        let is = |result: &str, status| Some(End { result: result.into(), status });
        assert_eq!(end("a.7.0.build success exited 0"), is("success", ExitStatus::Code(0)));
        assert_eq!(end("a.7.0.build exit-code exited 3"), is("exit-code", ExitStatus::Code(3)));
        assert_eq!(end("a.7.0.build timeout killed KILL"), is("timeout", ExitStatus::Signal(9)));
        assert_eq!(end("a.7.0.build resources  "), is("resources", ExitStatus::Code(255)));
        assert_eq!(end("a.7.0.builder success exited 0"), None);
        assert_eq!(end("b.7.0.build success exited 0"), None);
        assert_eq!(end("a.7.0.build success"), None);
    }

    #[test]
    fn output_is_told_once_and_joined_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path(), "deployd-build-1-0-1", "a.1.0.build");
        assert!(!notes.exist());
        notes.begin("").unwrap();
        assert_eq!(names(directory.path()), ["deployd-build-1-0-1"]);
        let mut unit = OpenOptions::new().append(true).open(notes.path("out")).unwrap();
        let mut lines = Vec::new();
        unit.write_all(b"one\ntwo\nth").unwrap();
        Output::of(&notes).tell(&mut |line| lines.push(line));
        unit.write_all(b"ree\n").unwrap();
        unit.write_all(&vec![b'x'; MAX_LINE + 1]).unwrap();
        let mut joined = Output::of(&notes);
        joined.tell(&mut |line| lines.push(line));
        assert_eq!(lines[..3], ["one", "two", "three"]);
        assert_eq!((lines.len(), lines[3].len()), (4, MAX_LINE));
        joined.finish(&mut |line| lines.push(line));
        assert_eq!(lines[4], "x");
        notes.forget();
        assert!(!notes.exist() && names(directory.path()).is_empty());
    }

    #[test]
    fn a_flood_is_cut_out_of_the_file() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path(), "flood", "o");
        notes.begin("").unwrap();
        let mut unit = OpenOptions::new().append(true).open(notes.path("out")).unwrap();
        unit.write_all(&b"0123456789abcde\n".repeat(1 << 19)).unwrap();
        let mut told = 0;
        Output::of(&notes).tell(&mut |_| told += 1);
        assert_eq!(told, 1 << 19);
        assert!(unit.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
