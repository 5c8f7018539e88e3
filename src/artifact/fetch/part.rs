//! The file that a download is written to. All that waits for the disk happens on threads for blocking work.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::artifact::{Artifact, ArtifactStore, hex};
use crate::blocking;

/// How many bytes are written at once.
const PIECE: usize = 256 << 10;
/// After how many bytes they are synced: whoever syncs something else meanwhile waits for no more than these.
const SYNC: u64 = 64 << 20;

/// A download that is not complete.
pub struct Part {
    /// `None` while a thread has it.
    file: Option<PartFile>,
    /// What has come and is not written yet.
    waiting: Vec<u8>,
    /// How much has come.
    pub bytes: u64,
}

/// The file itself; removed unless it is complete.
pub struct PartFile {
    path: PathBuf,
    file: File,
    hash: Sha256,
    unsynced: u64,
}

impl Part {
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create(&path)?;
        let file = PartFile { path, file, hash: Sha256::new(), unsynced: 0 };
        Ok(Self { file: Some(file), waiting: Vec::new(), bytes: 0 })
    }

    /// Adds what has come.
    pub async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(chunk);
        self.bytes += chunk.len() as u64;
        if self.waiting.len() < PIECE { Ok(()) } else { self.flush().await }
    }

    /// Writes what has come.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.with(move |file| file.write(&waiting)).await
    }

    /// Begins anew.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.waiting.clear();
        self.bytes = 0;
        self.with(PartFile::restart).await
    }

    /// Takes it into the store, if it is what is expected; else says what it is.
    pub async fn finish(
        &mut self,
        store: &Arc<ArtifactStore>,
        expected: Option<&str>,
    ) -> io::Result<Result<Artifact, String>> {
        self.flush().await?;
        let (store, bytes) = (store.clone(), self.bytes);
        let expected = expected.map(str::to_string);
        self.with(move |part| {
            let sha256 = hex(&std::mem::take(&mut part.hash).finalize());
            if expected.is_some_and(|expected| expected != sha256) {
                return Ok(Err(sha256));
            }
            store.adopt_hashed(&part.path, &part.file, Artifact { sha256, bytes }).map(Ok)
        })
        .await
    }

    async fn with<T: Send + 'static>(&mut self, work: impl FnOnce(&mut PartFile) -> T + Send + 'static) -> T {
        let mut file = self.take();
        let (file, done) = blocking::run(move || {
            let done = work(&mut file);
            (file, done)
        })
        .await;
        self.file = Some(file);
        done
    }

    /// Hands the file to a thread. Whoever is cut off meanwhile drops the rest of it.
    pub fn take(&mut self) -> PartFile {
        self.file.take().expect("it was given back by the thread before")
    }

    /// Takes it back, with so many more bytes in it.
    pub fn give_back(&mut self, file: PartFile, bytes: u64) {
        self.file = Some(file);
        self.bytes += bytes;
    }
}

impl PartFile {
    /// Blocking.
    pub fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hash.update(chunk);
        self.unsynced += chunk.len() as u64;
        if self.unsynced >= SYNC {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)?;
        self.hash = Sha256::new();
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // After it was adopted, nothing has this name any more.
        std::fs::remove_file(&self.path).ok();
    }
}
