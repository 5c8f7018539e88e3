//! Releases: artifacts unpacked for a service, and which one a container points to.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::crashpoint::point;

use super::fetch::Limits;
use super::shared::share;
use super::unpack::{UnpackError, remove_tree, unpack};
use super::{hex, sync_directory, touch};

/// How many digits of its artifact's hash name a release.
pub const SHORT: usize = 12;

/// What makes a release of an artifact, beside the artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// How many leading folders are dropped.
    pub strip_components: u32,
    /// Directories that outlive releases.
    pub shared_paths: Vec<String>,
    /// Whom they belong to: user and group id.
    pub owner: Option<(u32, u32)>,
}

/// The releases of all services.
#[derive(Debug)]
pub struct Releases {
    services: PathBuf,
}

impl Releases {
    /// Releases below `services`; what an earlier daemon left unfinished is removed.
    pub fn open(services: PathBuf) -> io::Result<Self> {
        make_directory(&services)?;
        for service in fs::read_dir(&services)? {
            let releases = service?.path().join("releases");
            let Ok(entries) = fs::read_dir(&releases) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "tmp") {
                    remove_tree(&path)?;
                }
            }
        }
        Ok(Self { services })
    }

    /// The release that an artifact becomes: another layout, another release.
    pub fn id(sha256: &str, layout: &Layout) -> String {
        let short = &sha256[..sha256.len().min(SHORT)];
        if layout.strip_components == 0 && layout.shared_paths.is_empty() {
            return short.to_string();
        }
        let text = format!("{}\0{}", layout.strip_components, layout.shared_paths.join("\0"));
        format!("{short}-{}", &hex(&Sha256::digest(text))[..4])
    }

    /// The release of an artifact, if it is there.
    pub fn find(&self, service: &str, sha256: &str, layout: &Layout) -> Option<String> {
        let release = Self::id(sha256, layout);
        self.release_dir(service, &release).is_dir().then_some(release)
    }

    /// Makes the release of an artifact, if it is not there yet. Blocking.
    pub fn prepare(
        &self,
        service: &str,
        archive: &Path,
        sha256: &str,
        layout: &Layout,
        limits: &Limits,
    ) -> Result<String, UnpackError> {
        let release = Self::id(sha256, layout);
        let destination = self.release_dir(service, &release);
        if destination.is_dir() {
            touch(&destination)?;
            // A daemon may have been killed before its name was durable.
            sync_directory(destination.parent().unwrap_or(&destination))?;
            return Ok(release);
        }
        let service = self.services.join(service);
        make_directory(&service)?;
        make_directory(&service.join("releases"))?;
        unpack(archive, &destination, limits, layout.strip_components, |directory| {
            share(&service, directory, layout)
        })?;
        Ok(release)
    }

    /// The release to which a container points.
    pub fn current(&self, service: &str, container: &str) -> io::Result<Option<String>> {
        match fs::read_link(self.container_dir(service, container).join("current")) {
            Ok(target) => Ok(target.file_name().and_then(|name| name.to_str()).map(str::to_string)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Points a container to a release: one rename, then synced.
    pub fn switch(&self, service: &str, container: &str, release: &str) -> io::Result<()> {
        let directory = self.container_dir(service, container);
        make_directories(&directory)?;
        if directory.join("current").symlink_metadata().is_err() {
            // It never was: the names that lead to it need not be durable yet, whoever made them.
            directory.ancestors().skip(1).take(3).try_for_each(sync_directory)?;
        }
        let temporary = directory.join("current.tmp");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        point("before a switch");
        symlink(Path::new("../../releases").join(release), &temporary)?;
        point("in the middle of a switch");
        fs::rename(&temporary, directory.join("current"))?;
        point("after a switch");
        sync_directory(&directory)
    }

    /// Where a release is.
    pub fn release_dir(&self, service: &str, release: &str) -> PathBuf {
        self.services.join(service).join("releases").join(release)
    }

    fn container_dir(&self, service: &str, container: &str) -> PathBuf {
        self.services.join(service).join("containers").join(container)
    }

    /// The first digits of the hash of each artifact that a release was made of.
    pub fn artifacts(&self) -> io::Result<HashSet<String>> {
        let mut all = HashSet::new();
        for service in entries(&self.services)? {
            let releases = entries(&self.services.join(service).join("releases"))?;
            all.extend(releases.iter().map(|release| release.chars().take(SHORT).collect()));
        }
        Ok(all)
    }

    /// Removes the oldest releases beyond `keep`; never one that a container points to or `protected`.
    pub fn prune(&self, service: &str, keep: usize, protected: &HashSet<String>) -> io::Result<Vec<String>> {
        let directory = self.services.join(service);
        let mut in_use = protected.clone();
        for container in entries(&directory.join("containers"))? {
            in_use.extend(self.current(service, &container)?);
        }
        let mut releases: Vec<(SystemTime, String)> = Vec::new();
        for release in entries(&directory.join("releases"))? {
            let modified = fs::metadata(self.release_dir(service, &release))?.modified()?;
            if !in_use.contains(&release) && !release.ends_with(".tmp") {
                releases.push((modified, release));
            }
        }
        releases.sort();
        let surplus = releases.len().saturating_sub(keep);
        let mut removed = Vec::new();
        for (_, release) in releases.into_iter().take(surplus) {
            let path = self.release_dir(service, &release);
            let doomed = path.with_extension("tmp");
            point("before a release is removed");
            fs::rename(&path, &doomed)?;
            remove_tree(&doomed)?;
            point("after a release was removed");
            removed.push(release);
        }
        Ok(removed)
    }
}

fn entries(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Services must be able to enter, whatever umask the daemon was started with.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_directories(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.exists() => make_directories(parent)?,
        _ => {}
    }
    make_directory(path)
}
