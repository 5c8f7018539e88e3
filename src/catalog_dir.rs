//! The catalog's directory: one YAML file for each service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::catalog::Catalog;
use crate::catalog::check::{self, Host, Source};
use crate::mistake::FileMistake;

/// Why there is no catalog.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    /// A file can't be read.
    #[error("cannot read {path}: {why}; the catalog (servicesDir) has to be there, and readable for deployd")]
    Read {
        /// The file or the directory.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Its files have mistakes: all of them.
    #[error("the catalog is not valid:\n{}", lines(.0))]
    Invalid(Vec<FileMistake>),
}

fn lines(mistakes: &[FileMistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads all `*.yaml` and `*.yml` files of the catalog's directory, in the order of their names. A
/// directory that does not exist is an empty catalog. `has_systemd`: the daemon can drive units.
///
/// # Errors
/// [`CatalogError`] with all mistakes of all files.
pub fn read(directory: &Path, has_systemd: bool) -> Result<Catalog, CatalogError> {
    let cannot = |path: &Path, error: &io::Error| CatalogError::Read {
        path: path.to_path_buf(),
        why: error.to_string(),
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalog::default()),
        Err(error) => return Err(cannot(directory, &error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| cannot(directory, &error))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read(&path).map_err(|error| cannot(&path, &error))?;
        sources.push(Source { file: path.to_string_lossy().into_owned(), text });
    }
    let uid = nix::unistd::geteuid();
    let own = nix::unistd::User::from_uid(uid).ok().flatten();
    let has_user = |name: &str| nix::unistd::User::from_name(name).ok().flatten().is_some();
    let host = Host {
        is_root: uid.is_root(),
        user: own.map_or_else(|| uid.to_string(), |user| user.name),
        has_systemd,
        has_user: &has_user,
    };
    check::read(&sources, &host).map_err(CatalogError::Invalid)
}
