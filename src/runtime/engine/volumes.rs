//! The data that an image keeps in volumes of its own (`VOLUME`).
//!
//! An engine gives each new container a new, nameless volume there, and so each release would begin without the
//! data of the one before. deployd mounts a volume with a name of its own instead, and notes which one a path has:
//! the next container of the same name gets it again. A nameless volume that a container has already (an earlier
//! deployd made it) is noted before that container is removed, and so carried over. The name follows from the
//! container's directory: where the note is lost, the data is found all the same, and two daemons never share a
//! volume. Nothing here ever deletes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{EngineRuntime, owner};
use crate::blocking;
use crate::engine::{EngineError, Image, Inspected};
use crate::foreign::{self, Unread};
use crate::runtime::{ContainerRef, RuntimeError};

/// The file in a container's directory: for each engine, which volume a path has.
const NOTE: &str = "engine.volumes";
/// Maximum length of that file.
const MAX_NOTE: u64 = 1 << 20;

/// By path, the volume that is mounted there.
pub type Volumes = BTreeMap<String, String>;

/// The name of the volume that a path gets in the container with the directory `own`.
fn name_of(container: &ContainerRef, own: &Path, path: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(own.as_os_str().as_bytes());
    hash.update([0]);
    hash.update(path);
    let first = hash.finalize().iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{}-{first:012x}", container.generated_name())
}

impl EngineRuntime {
    /// Which volume each path of the image gets that nothing else is mounted over. What cannot be is found out here,
    /// before anything is stopped.
    pub(super) async fn volumes(
        &self,
        container: &ContainerRef,
        image: &Image,
        covered: &BTreeSet<String>,
    ) -> Result<Volumes, RuntimeError> {
        let mut volumes = Volumes::new();
        if image.volumes.is_subset(covered) {
            return Ok(volumes);
        }
        let (own, noted) = (self.directory(container), self.noted_volumes(container).await?);
        for path in image.volumes.difference(covered) {
            let name = name_of(container, &own, path);
            let kept = match noted.get(path) {
                Some(volume) => self.connection.volume(volume).await?.map(|_| volume.clone()),
                None => None,
            };
            if let Some(volume) = kept {
                volumes.insert(path.clone(), volume);
                continue;
            }
            if let Some(volume) = noted.get(path) {
                tracing::warn!(%path, %volume, "somebody deleted the volume of the data; a new one is made");
            }
            if let Some(labels) = self.connection.volume(&name).await? {
                self.may_use(&own, path, &name, &labels)?;
            }
            volumes.insert(path.clone(), name);
        }
        Ok(volumes)
    }

    /// Makes those of these volumes that are not there yet, and notes all of them.
    pub(super) async fn make_volumes(
        &self,
        container: &ContainerRef,
        volumes: &Volumes,
    ) -> Result<(), RuntimeError> {
        let own = self.directory(container);
        let labels = owner::labels(&own);
        for (path, volume) in volumes {
            if *volume != name_of(container, &own, path) {
                continue;
            }
            let found = self.patiently(|| self.connection.create_volume(volume, &labels)).await?;
            self.may_use(&own, path, volume, &found)?;
        }
        self.note_all(container, volumes).await
    }

    /// A volume with a name of ours has to be ours.
    fn may_use(
        &self,
        own: &Path,
        path: &str,
        volume: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        if owner::is_ours(labels, own) {
            return Ok(());
        }
        let (volume, path) = (volume.to_string(), path.to_string());
        Err(EngineError::ForeignVolume { engine: self.connection.engine(), volume, path })
    }

    /// Notes which volumes a container has, before it is removed.
    pub(super) async fn note_volumes(
        &self,
        container: &ContainerRef,
        found: &Inspected,
    ) -> Result<(), RuntimeError> {
        let volumes = found.mounts.iter().filter(|mount| mount.is_volume());
        let volumes = volumes.map(|mount| (mount.destination.clone(), mount.name.clone())).collect();
        self.note_all(container, &volumes).await
    }

    /// What was noted of other paths stays: a later image may want them again.
    async fn note_all(&self, container: &ContainerRef, volumes: &Volumes) -> Result<(), RuntimeError> {
        if volumes.is_empty() {
            return Ok(());
        }
        let mut noted = self.noted_volumes(container).await?;
        if volumes.iter().all(|(path, volume)| noted.get(path) == Some(volume)) {
            return Ok(());
        }
        noted.extend(volumes.clone());
        let (directory, engine) = (self.directory(container), self.engine.name());
        let written = blocking::run(move || write(&directory, engine, noted)).await;
        written.map_err(|source| RuntimeError::Io { what: "note which volumes the container has", source })
    }

    async fn noted_volumes(&self, container: &ContainerRef) -> Result<Volumes, RuntimeError> {
        let (directory, engine) = (self.directory(container), self.engine.name());
        let read = blocking::run(move || read(&directory)).await;
        let mut all = read.map_err(|source| RuntimeError::Io {
            what: "read which volumes hold the container's data (engine.volumes in its directory)",
            source,
        })?;
        Ok(all.remove(engine).unwrap_or_default())
    }
}

type Note = BTreeMap<String, Volumes>;

fn read(directory: &Path) -> io::Result<Note> {
    match foreign::read_own(&directory.join(NOTE), MAX_NOTE) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(Unread::System(nix::libc::ENOENT)) => Ok(Note::new()),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn write(directory: &Path, engine: &str, noted: Volumes) -> io::Result<()> {
    let mut all = read(directory)?;
    all.insert(engine.to_string(), noted);
    fs::create_dir_all(directory)?;
    let temporary: PathBuf = directory.join(format!("{NOTE}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(serde_json::to_string(&all)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(NOTE))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Engine;
    use crate::runtime::Form;

    #[test]
    fn a_volume_has_one_name_for_each_path_of_each_container() {
        let container = |service: &str, name: &str| ContainerRef {
            service: service.into(),
            container: name.into(),
            form: Form::Engine(Engine::Docker),
        };
        let (db, own) = (container("db", "db-1"), Path::new("/var/lib/deployd/services/db/containers/db-1"));
        let name = name_of(&db, own, "/var/lib/x");
        // Data lies under this name: it must not change with a version of deployd.
        assert_eq!(name, "deployd-db-db-1-4082e7694745");
        assert_ne!(name, name_of(&db, own, "/var/lib/y"));
        assert_ne!(name, name_of(&container("db", "db-2"), own, "/var/lib/x"));
        assert_ne!(name, name_of(&db, Path::new("/tmp/another/daemon"), "/var/lib/x"));
        assert!(name_of(&db, own, "/a b/\u{e9}").bytes().all(|b| b.is_ascii_graphic()));
    }

    #[test]
    fn what_is_noted_of_one_engine_leaves_the_other_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), Note::new());
        let volumes = |name: &str| Volumes::from([("/data".to_string(), name.to_string())]);
        write(directory.path(), "docker", volumes("a")).unwrap();
        write(directory.path(), "podman", volumes("b")).unwrap();
        write(directory.path(), "docker", volumes("c")).unwrap();
        let expected = [("docker".to_string(), volumes("c")), ("podman".to_string(), volumes("b"))];
        assert_eq!(read(directory.path()).unwrap(), Note::from(expected));
        File::create(directory.path().join(NOTE)).unwrap().write_all(b"{").unwrap();
        assert!(read(directory.path()).is_err(), "what cannot be read is not taken for nothing");
    }
}
