//! What an earlier daemon has written may not be on the disk yet: it may have been killed between a write and its
//! sync. What is found is made durable before anything is built on it.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The directories whose names are on the disk, but for what this daemon writes and syncs itself.
#[derive(Debug, Default)]
pub struct Durable(Mutex<HashSet<PathBuf>>);

impl Durable {
    /// Makes the names in these directories durable, once in the life of a daemon. What is not there has no names.
    ///
    /// # Errors
    /// When one can't be synced: it is tried again the next time.
    pub fn settle<'a>(&self, directories: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
        for directory in directories {
            if self.known().contains(directory) {
                continue;
            }
            match File::open(directory).and_then(|directory| directory.sync_all()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => {
                    synced?;
                    self.known().insert(directory.to_path_buf());
                }
            }
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_is_synced_once_and_what_fails_is_tried_again() {
        let (durable, place) = (Durable::default(), tempfile::tempdir().unwrap());
        let settle = |path: &Path| {
            let settled = durable.settle([path]);
            (settled.is_ok(), durable.known().contains(path))
        };
        let later = place.path().join("later");
        assert_eq!(settle(&later), (true, false));
        std::fs::create_dir(&later).unwrap();
        assert_eq!(settle(&later), (true, true));
        let below_a_file = place.path().join("file/below");
        assert_eq!(settle(&below_a_file), (true, false));
        tempfile::Builder::new().tempfile_in(&later).unwrap().persist(place.path().join("file")).unwrap();
        assert_eq!(settle(&below_a_file), (false, false));
    }
}
