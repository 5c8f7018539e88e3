//! Packages of `file://` addresses: copied in small steps from a file that others own, on a mount that may be dead.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Progress;
use super::part::{Part, PartFile};
use crate::artifact::ArtifactStore;
use crate::foreign::{Head, Reader, Unread, Wanted};
use crate::plan::check::{Policy, is_allowed_file};

/// How often the progress is told.
const TICK: Duration = Duration::from_millis(250);

/// Why a package was not copied.
pub enum NotCopied {
    Unread(Unread),
    /// A link leads out of what is allowed.
    Forbidden,
    TooLarge,
    NoSpace(u64),
    Write(io::Error),
}

impl From<Unread> for NotCopied {
    fn from(error: Unread) -> Self {
        Self::Unread(error)
    }
}

/// A package to copy.
pub struct Local {
    pub path: PathBuf,
    pub policy: Policy,
    pub max_bytes: u64,
    pub store: Arc<ArtifactStore>,
}

impl Local {
    /// Copies it. It ends with its caller, and when the file system does not go on for as long as `reader` is patient.
    pub async fn copy(
        self,
        reader: &Reader,
        part: &mut Part,
        progress: Progress<'_>,
    ) -> Result<(), NotCopied> {
        let so_far = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let (told, file) = (so_far.clone(), part.take());
        let copying = reader.run(move |reader, cancel| {
            let mut file = file;
            let wanted = Wanted { path: self.path.clone(), max: u64::MAX - 1, account: None };
            let admit = |head: &Head| {
                told.1.store(head.bytes, Ordering::Relaxed);
                self.admit(head)
            };
            let copied = reader.stream(&wanted, cancel, admit, |piece| self.take(piece, &mut file, &told.0));
            Ok((file, copied))
        });
        tokio::pin!(copying);
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (file, copied) = loop {
            tokio::select! {
                done = &mut copying => break done?,
                () = tokio::time::sleep(TICK) => progress(load(&so_far.0), Some(load(&so_far.1))),
            }
        };
        part.give_back(file, load(&so_far.0));
        copied
    }

    /// Judges what was opened: not the path, which may lead somewhere else by now.
    fn admit(&self, head: &Head) -> Result<(), NotCopied> {
        let real = head.path();
        // A path is no address: nothing in it is decoded, or a directory `%6fk` would pass for `ok`.
        if !real.to_str().is_some_and(|real| is_allowed_file(real, &self.policy)) {
            return Err(NotCopied::Forbidden);
        }
        if head.bytes > self.max_bytes {
            return Err(NotCopied::TooLarge);
        }
        let free = self.store.free().unwrap_or(u64::MAX);
        if head.bytes > free { Err(NotCopied::NoSpace(head.bytes - free)) } else { Ok(()) }
    }

    fn take(&self, piece: &[u8], file: &mut PartFile, so_far: &AtomicU64) -> Result<(), NotCopied> {
        let bytes = so_far.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
        // It may grow while it is copied.
        if bytes > self.max_bytes {
            return Err(NotCopied::TooLarge);
        }
        file.write(piece).map_err(NotCopied::Write)
    }
}
