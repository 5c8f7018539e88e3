//! One daemon for each state directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::StoreError;

/// Held while the daemon lives; the kernel gives it back whatever happens to the process.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl StateLock {
    /// Takes the lock of a state directory.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with who holds it.
    pub fn acquire(state: &Path) -> Result<Self, StoreError> {
        let path = state.join("lock");
        let io = |what, source| StoreError::Io { what, path: path.clone(), source: Arc::new(source) };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io("open", error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0).map_err(|error| io("write", error))?;
                held.rewind().map_err(|error| io("write", error))?;
                writeln!(held, "{}", std::process::id()).map_err(|error| io("write", error))?;
                Ok(Self(held))
            }
            Err((mut busy, _)) => {
                let mut holder = String::new();
                busy.read_to_string(&mut holder).ok();
                let holder = format!("process {}", holder.trim());
                Err(StoreError::Locked { path: state.to_path_buf(), holder })
            }
        }
    }
}
