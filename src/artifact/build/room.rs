//! What a build may take of the disk: it is ended before it takes the last of it, and its output is measured before it
//! is packed.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::fetch::Limits;
use super::super::free_space;
use crate::blocking;

/// How often the free space is looked at while a build runs.
const LOOK: Duration = Duration::from_millis(250);
/// Number of bytes of the disk that a build leaves to others, at most.
const RESERVE: u64 = 1 << 30;

/// Resolves when less is left on the disk than a build must leave to others: with how much that is.
pub async fn exhausted(directory: &Path) -> u64 {
    let look = || {
        let directory = directory.to_path_buf();
        blocking::run(move || free_space(&directory))
    };
    let size = {
        let directory = directory.to_path_buf();
        blocking::run(move || {
            rustix::fs::statvfs(&directory).map(|stat| stat.f_blocks.saturating_mul(stat.f_frsize))
        })
    };
    let (at_first, size) = (look().await.unwrap_or(0), size.await.unwrap_or(0));
    // A disk that was almost full before leaves less.
    let reserve = RESERVE.min(size / 20).min(at_first / 2);
    loop {
        tokio::time::sleep(LOOK).await;
        // What cannot be looked at is no reason to end a build.
        let free = look().await.unwrap_or(u64::MAX);
        if free < reserve {
            return free;
        }
    }
}

/// Why an output is not packed.
#[derive(Debug)]
pub enum Refused {
    /// It is not what the catalog says, or not to be read.
    Unusable(String),
    /// It has more bytes or files than it may.
    TooLarge(String),
    /// The disk has no room for it.
    NoSpace {
        /// Number of bytes that are missing.
        missing: u64,
    },
    /// The task was cut off.
    Cancelled,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Unusable(why)
    }
}

/// What may still be packed of an output.
pub struct Room<'a> {
    limits: Limits,
    bytes: u64,
    entries: u64,
    /// Where it is packed to.
    directory: &'a Path,
    cancel: &'a CancellationToken,
}

impl<'a> Room<'a> {
    /// All that these limits allow, in this directory.
    pub fn new(limits: Limits, directory: &'a Path, cancel: &'a CancellationToken) -> Self {
        Self { limits, bytes: 0, entries: 0, directory, cancel }
    }

    /// Takes room for a file of this length, before it is packed.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&mut self, name: &str, bytes: u64, is_archive: bool) -> Result<(), Refused> {
        let (limit, key) = if is_archive {
            (self.limits.max_bytes, "packages.maxBytes")
        } else {
            (self.limits.max_unpacked_bytes, "packages.maxUnpackedBytes")
        };
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let name = name.escape_debug();
        if self.bytes > limit {
            let all = self.bytes;
            return Err(Refused::TooLarge(format!("{name} makes it {all} bytes, and {key} is {limit}")));
        }
        if self.entries > self.limits.max_entries {
            let most = self.limits.max_entries;
            return Err(Refused::TooLarge(format!("it has more than {most} files (packages.maxEntries)")));
        }
        let free = free_space(self.directory).unwrap_or(u64::MAX);
        if bytes > free {
            return Err(Refused::NoSpace { missing: bytes - free });
        }
        if self.cancel.is_cancelled() { Err(Refused::Cancelled) } else { Ok(()) }
    }

    /// A file that is read as long as the task goes on.
    pub fn reader<R: io::Read>(&self, file: R) -> impl io::Read + use<'a, R> {
        Cut { file, cancel: self.cancel }
    }

    /// What an error while packing means.
    pub fn explain(&self, error: &io::Error, what: &str) -> Refused {
        if self.cancel.is_cancelled() {
            return Refused::Cancelled;
        }
        Refused::Unusable(format!("{what}: {error}"))
    }
}

struct Cut<'a, R> {
    file: R,
    cancel: &'a CancellationToken,
}

impl<R: io::Read> io::Read for Cut<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { self.file.read(buffer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_refused_before_it_is_packed() {
        let limits = Limits { max_bytes: 10, max_unpacked_bytes: 100, max_entries: 3 };
        let cancel = CancellationToken::new();
        let here = std::env::temp_dir();
        let mut room = Room::new(limits, &here, &cancel);
        room.take("a", 100, false).unwrap();
        assert!(matches!(room.take("b", 1, false), Err(Refused::TooLarge(_))));
        let mut room = Room::new(limits, &here, &cancel);
        assert!(matches!(room.take("a.zip", 11, true), Err(Refused::TooLarge(_))));
        let mut room = Room::new(limits, &here, &cancel);
        (0..3).for_each(|_| room.take("a", 0, false).unwrap());
        assert!(matches!(room.take("b", 0, false), Err(Refused::TooLarge(_))));
        let limits = Limits { max_unpacked_bytes: u64::MAX, ..limits };
        let mut room = Room::new(limits, &here, &cancel);
        assert!(matches!(room.take("sparse", 1 << 62, false), Err(Refused::NoSpace { .. })));
        cancel.cancel();
        let mut room = Room::new(limits, &here, &cancel);
        assert!(matches!(room.take("a", 1, false), Err(Refused::Cancelled)));
        assert!(io::Read::read(&mut room.reader(&b"x"[..]), &mut [0]).is_err());
    }
}
