//! Artifacts: the verified bytes of a package, or a build's output; content-addressed.
//!
//! ```text
//! artifacts/<sha256>                      complete and verified
//! artifacts/builds/<key>                  names the artifact of a commit and build definition
//! artifacts/*.part                        being written; swept at start
//! services/<name>/releases/<release>/     an artifact unpacked, complete and immutable
//! services/<name>/containers/<c>/current  -> the release a container points to
//! git/<name>.git                          built-in repositories
//! ```

mod beneath;
pub mod build;
pub mod fetch;
pub mod git;
pub mod releases;
mod shared;
pub mod unpack;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::address::Shown;
use crate::crashpoint::point;

/// A complete artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its hash, lower-case hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// Where artifacts are kept.
#[derive(Debug)]
pub struct ArtifactStore {
    root: PathBuf,
    next: AtomicU64,
}

impl ArtifactStore {
    /// Opens the store; what an earlier daemon left unfinished is removed.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join("builds"))?;
        for entry in fs::read_dir(&root)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { root, next: AtomicU64::new(1) })
    }

    /// A fresh name for something that is not complete yet.
    pub fn part_path(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("{}-{number}.part", std::process::id()))
    }

    /// Takes a complete file in: hashes, syncs and renames it. Blocking.
    pub fn adopt(&self, part: &Path) -> io::Result<Artifact> {
        let mut file = File::open(part)?;
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            bytes += count as u64;
        }
        let sha256 = hex(&hash.finalize());
        self.adopt_hashed(part, &file, Artifact { sha256, bytes })
    }

    /// As [`Self::adopt`], for a file whose hash is known.
    fn adopt_hashed(&self, part: &Path, file: &File, artifact: Artifact) -> io::Result<Artifact> {
        file.sync_all()?;
        point("before an artifact gets its name");
        fs::rename(part, self.path(&artifact.sha256))?;
        point("after an artifact got its name");
        sync_directory(&self.root)?;
        Ok(artifact)
    }

    /// The artifact with this hash, if it is here. It is kept for a while from now on.
    pub fn find(&self, sha256: &str) -> Option<Artifact> {
        let path = self.path(sha256);
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        touch(&path).ok();
        Some(Artifact { sha256: sha256.to_string(), bytes: metadata.len() })
    }

    /// Where the artifact with this hash is, or would be.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.root.join(sha256)
    }

    /// Removes artifacts that are in no release (`in_release` knows) and that nobody has asked for
    /// during `unused`. Blocking.
    pub fn prune(&self, unused: Duration, in_release: impl Fn(&str) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_artifact = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            // A clock that was set back makes it look younger than it is: it stays a little longer.
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if is_artifact && age > unused && !in_release(&name) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// How large all of them are, with those that are being written. Blocking.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.root)? {
            // It may be gone since.
            bytes +=
                entry?.metadata().map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 });
        }
        Ok(bytes)
    }

    /// Where the outputs of builds are named.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// How many bytes are free on the file system.
    pub fn free(&self) -> io::Result<u64> {
        free_space(&self.root)
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes everything durable that was written to the file system of this path.
pub(crate) fn sync_all_of(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// How many bytes an unprivileged writer can still write below `path`.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Sets a file's times to now.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())?;
    Ok(())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// An address without its secrets, as text.
pub fn mask_url(url: &str) -> String {
    Shown::of(url).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_is_pruned() {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path().join("artifacts")).unwrap();
        let mut hashes = Vec::new();
        for text in ["in a release", "asked for lately", "forgotten"] {
            let part = store.part_path();
            File::create(&part)
                .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
                .unwrap();
            hashes.push(store.adopt(&part).unwrap().sha256);
        }
        for hash in [&hashes[0], &hashes[2]] {
            let long_ago = std::time::SystemTime::UNIX_EPOCH;
            File::options().append(true).open(store.path(hash)).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(store.prune(Duration::from_hours(1), |hash| *hash == hashes[0]).unwrap(), 1);
        assert!(store.find(&hashes[0]).is_some() && store.find(&hashes[1]).is_some());
        assert!(store.find(&hashes[2]).is_none());
    }

    #[test]
    fn a_file_is_adopted_under_its_hash_and_leftovers_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path().join("artifacts")).unwrap();
        let part = store.part_path();
        File::create(&part).and_then(|mut file| io::Write::write_all(&mut file, b"abc")).unwrap();
        let artifact = store.adopt(&part).unwrap();
        assert_eq!(artifact.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(store.find(&artifact.sha256), Some(artifact));
        let left = store.part_path();
        File::create(&left).unwrap();
        ArtifactStore::open(directory.path().join("artifacts")).unwrap();
        assert!(!left.exists());
    }
}
