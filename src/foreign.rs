//! Reading what somebody else may change at any time: files, links and mounts.
//!
//! A file that others own may become a FIFO, a device, a link to something that only root may read, a file of any size,
//! or a file on a mount whose server is dead. So each such read is opened without waiting, takes regular files only,
//! and is bounded in bytes.
//!
//! Nothing but that helps against FIFOs and devices: [`open`] and [`read`] are enough for files in directories of our
//! own. On a dead mount, however, even `open` waits, possibly for ever, and not even the end of its process ends that.
//! Where that can happen, a [`Reader`] reads: in a small process of its own that is left behind when it does not
//! answer in time. No thread of the daemon ever waits for a file system that others own.

mod access;
mod pool;
mod reader;
mod server;

pub use access::Account;
pub use pool::Cancel;
pub use reader::{Reader, Wanted};
pub use server::{Head, serve};

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::libc::{O_CLOEXEC, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};

/// Why something was not read. Says only what is wrong with it: the caller knows what it was read for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The system refused.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    System(i32),
    /// It is not what may be read.
    #[error("{0}")]
    Unfit(String),
    /// There was no answer in time.
    #[error("its file system has not answered for {} s", .0.as_secs())]
    Silent(Duration),
    /// So many earlier reads still hang that no other one is begun.
    #[error("{0}")]
    Crowded(String),
    /// The caller gave up.
    #[error("it was cancelled")]
    Cancelled,
}

impl Unread {
    /// Whether there is nothing of this name.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::System(nix::libc::ENOENT))
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::Unfit(error.to_string()), Self::System)
    }
}

impl From<rustix::io::Errno> for Unread {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.raw_os_error())
    }
}

impl From<Unread> for io::Error {
    fn from(error: Unread) -> Self {
        match error {
            Unread::System(errno) => Self::from_raw_os_error(errno),
            Unread::Silent(_) => Self::new(io::ErrorKind::TimedOut, error),
            error => Self::other(error),
        }
    }
}

/// What else a file can be.
fn refuse(kind: impl fmt::Display) -> Unread {
    Unread::Unfit(format!("it is {kind}, not a regular file"))
}

/// Opens a regular file to read. Waits for nobody: neither for the writer of a FIFO nor for a device.
///
/// # Errors
/// When there is none, or something else is there.
pub fn open(path: &Path) -> Result<File, Unread> {
    regular(File::options().read(true).custom_flags(O_NONBLOCK | O_NOCTTY | O_CLOEXEC).open(path)?)
}

/// As [`open`], but does not follow a link in the last part of the path: for files in directories of our own.
///
/// # Errors
/// When there is none, or something else is there.
pub fn open_own(path: &Path) -> Result<File, Unread> {
    let flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW;
    regular(File::options().read(true).custom_flags(flags).open(path)?)
}

fn regular(file: File) -> Result<File, Unread> {
    let kind = file.metadata()?.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(file),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(refuse(what))
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// When it cannot be read, is not a regular file, or is larger.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Unread> {
    all_of(&open(path)?, max)
}

/// As [`read`], without following a link in the last part of the path.
///
/// # Errors
/// When it cannot be read, is not a regular file, or is larger.
pub fn read_own(path: &Path, max: u64) -> Result<Vec<u8>, Unread> {
    all_of(&open_own(path)?, max)
}

/// As [`read`], as text: bytes that are not UTF-8 become marks.
///
/// # Errors
/// When it cannot be read, is not a regular file, or is larger.
pub fn read_text(path: &Path, max: u64) -> Result<String, Unread> {
    read(path, max).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn all_of(file: &File, max: u64) -> Result<Vec<u8>, Unread> {
    fits(file.metadata()?.len(), max)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(max + 1).read_to_end(&mut bytes)?;
    fits(bytes.len() as u64, max)?;
    Ok(bytes)
}

fn fits(bytes: u64, max: u64) -> Result<(), Unread> {
    let limit =
        || if max.is_multiple_of(1 << 20) { format!("{} MiB", max >> 20) } else { format!("{max} bytes") };
    if bytes > max { Err(Unread::Unfit(format!("it is larger than {}", limit()))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// None of these waits, and none of these fills the memory.
    #[test]
    fn only_regular_files_of_their_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let said = |path: &Path| read(path, 1 << 20).unwrap_err().to_string();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let sparse = File::create(path("sparse")).unwrap();
        sparse.set_len(5 << 30).unwrap();
        for (name, to) in [("to-zero", "/dev/zero"), ("to-fifo", "fifo"), ("to-itself", "to-itself")] {
            symlink(to, path(name)).unwrap();
        }
        assert_eq!(said(&path("fifo")), "it is a FIFO, not a regular file");
        assert_eq!(said(&path("to-fifo")), "it is a FIFO, not a regular file");
        assert_eq!(said(&path("to-zero")), "it is a device, not a regular file");
        assert_eq!(said(directory.path()), "it is a directory, not a regular file");
        assert_eq!(said(&path("sparse")), "it is larger than 1 MiB");
        // A socket cannot even be opened.
        assert!(said(&path("socket")).starts_with("No such device"), "{}", said(&path("socket")));
        assert!(said(&path("to-itself")).starts_with("Too many levels"), "{}", said(&path("to-itself")));
        assert!(read(&path("absent"), 1).unwrap_err().is_absent());
        assert_eq!(read(Path::new("/proc/self/comm"), 1 << 20).map(|bytes| bytes.is_empty()), Ok(false));
        let own = File::create(path("own"));
        std::io::Write::write_all(&mut own.unwrap(), b"12345").unwrap();
        assert_eq!(read(&path("own"), 5).unwrap(), b"12345");
        assert_eq!(read(&path("own"), 4).unwrap_err().to_string(), "it is larger than 4 bytes");
        symlink("own", path("link")).unwrap();
        assert_eq!(read(&path("link"), 5).unwrap(), b"12345");
        assert!(read_own(&path("link"), 5).is_err());
    }
}
