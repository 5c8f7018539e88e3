//! The output of a container: one file that it appends to and the daemon shortens.
//!
//! The container writes to the file itself, so that its output goes on while the daemon is away.
//! Rotation copies the oldest whole blocks to `output.log.1` and cuts exactly these out of the
//! file, so that no line is lost; a file system that can't do that gets copied and truncated. Only
//! of what grows beyond twice the limit between two looks, the beginning is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use rustix::fs::inotify;

/// When and how far logs are shortened.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A file longer than this is rotated.
    pub max_bytes: u64,
    /// How many rotated files are kept.
    pub files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 10 << 20, files: 5 }
    }
}

/// The file system's blocks: what can be cut out is a multiple of it.
const BLOCK: u64 = 4096;
/// How far back the last lines are looked for.
const TAIL: u64 = 64 << 10;
/// A longer line is cut.
const MAX_LINE: usize = 16 << 10;

/// Opens `output.log` in a container's directory, which is created if needed.
///
/// The service gets the descriptor, not the file: it belongs to the daemon.
pub fn open(directory: &Path) -> io::Result<File> {
    let path = directory.join("output.log");
    rotate(&path, &Limits::default())?;
    let open = || options().append(true).create(true).mode(0o640).open(&path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            open()
        }
        other => other,
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Nothing that stands in the way is followed to another file.
    options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC);
    options
}

/// Shortens a log that is too long; how many bytes it had.
pub fn rotate(path: &Path, limits: &Limits) -> io::Result<u64> {
    let bytes = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if bytes <= limits.max_bytes {
        return Ok(bytes);
    }
    for number in (1..limits.files).rev() {
        rename_if_there(&numbered(path, number), &numbered(path, number + 1))?;
    }
    let mut log = options().read(true).write(true).open(path)?;
    let oldest = bytes - bytes % BLOCK;
    // Of what was written faster than we look, only so much is kept.
    let most = 2 * limits.max_bytes;
    log.seek(SeekFrom::Start(oldest.saturating_sub(most)))?;
    let mut copy = options().write(true).create(true).truncate(true).mode(0o640).open(numbered(path, 1))?;
    io::copy(&mut (&mut log).take(oldest.min(most)), &mut copy)?;
    let length = i64::try_from(oldest).map_err(io::Error::other)?;
    if fallocate(&log, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, length).is_err() {
        // What is written between the copy and this is lost here, and only here. The rest of the
        // last block goes to the copy, too.
        io::copy(&mut log, &mut copy)?;
        log.set_len(0)?;
    }
    Ok(bytes)
}

/// A descriptor that becomes readable when one of these logs is written to. One that is gone by now is left out.
///
/// # Errors
/// When they can't be watched, for the system's limits or their own sake.
pub fn growth(logs: &[PathBuf]) -> io::Result<OwnedFd> {
    let growth = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    for log in logs {
        match inotify::add_watch(&growth, log, inotify::WatchFlags::MODIFY | inotify::WatchFlags::DONT_FOLLOW)
        {
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(growth)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{number}"));
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The last lines of a log; empty when there is none.
pub fn last_lines(path: &Path, lines: usize) -> Vec<String> {
    tail_of(path).map_or_else(|_| Vec::new(), |tail| last_of(&tail, lines))
}

/// The last lines of an output.
pub fn last_of(output: &[u8], lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|line| cut(line).to_string()).collect()
}

fn tail_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = options().read(true).open(path)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    if bytes > TAIL {
        // The first line is most likely cut.
        let begin = tail.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        tail.drain(..begin);
    }
    Ok(tail)
}

fn cut(line: &str) -> &str {
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines_in(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_string).collect()
    }

    #[test]
    fn rotation_loses_no_line_of_an_appending_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("output.log");
        let limits = Limits { max_bytes: 64 << 10, files: 1000 };
        let mut log = open(directory.path()).unwrap();
        let mut collapses = true;
        for number in 0..20_000 {
            writeln!(log, "line {number} {}", "x".repeat(number % 40)).unwrap();
            if number % 1_000 == 0 {
                rotate(&path, &limits).unwrap();
                collapses &= fs::metadata(&path).unwrap().len() < limits.max_bytes;
            }
        }
        assert!(collapses);
        let mut files: Vec<_> = (1..1000).rev().map(|number| numbered(&path, number)).collect();
        files.push(path);
        let whole: String = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
        let numbers: Vec<usize> =
            whole.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_is_noticed_and_what_is_gone_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open(directory.path()).unwrap();
        writeln!(log, "before").unwrap();
        let logs = [directory.path().join("output.log"), directory.path().join("gone")];
        let growth = growth(&logs).unwrap();
        let mut room = [std::mem::MaybeUninit::uninit(); 256];
        assert!(inotify::Reader::new(&growth, &mut room).next().is_err());
        writeln!(log, "after").unwrap();
        assert!(inotify::Reader::new(&growth, &mut room).next().is_ok());
    }

    #[test]
    fn a_link_in_the_place_of_the_log_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        File::create(&victim).unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join("output.log")).unwrap();
        open(directory.path()).unwrap_err();
        assert!(last_lines(&directory.path().join("output.log"), 5).is_empty());
    }

    #[test]
    fn the_last_lines_are_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open(directory.path()).unwrap();
        for number in 0..50_000 {
            writeln!(log, "{number}").unwrap();
        }
        let path = directory.path().join("output.log");
        assert_eq!(last_lines(&path, 2), ["49998", "49999"]);
        assert_eq!(lines_in(&path).len(), 50_000);
        assert!(last_lines(&directory.path().join("none"), 2).is_empty());
    }
}
