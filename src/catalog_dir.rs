//! The catalog's directory: one YAML file for each service.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::catalog::Catalog;
use crate::catalog::check::{self, Host, Source};
use crate::foreign::{Cancel, Reader, Unread, Wanted};
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
/// directory that does not exist is an empty catalog. `has_systemd`: the daemon can drive units. Blocking.
///
/// # Errors
/// [`CatalogError`] with all mistakes of all files.
pub fn read(directory: &Path, has_systemd: bool, reader: &Reader) -> Result<Catalog, CatalogError> {
    let cancel = Cancel::default();
    let cannot =
        |path: &Path, error: &Unread| CatalogError::Read { path: path.to_path_buf(), why: error.to_string() };
    let names = match reader.names_now(directory, &cancel) {
        Ok(names) => names,
        Err(error) if error.is_absent() => return Ok(Catalog::default()),
        Err(error) => return Err(cannot(directory, &error)),
    };
    let mut paths: Vec<_> = names.iter().map(|name| directory.join(name)).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let wanted = Wanted { path: path.clone(), max: check::MAX_BYTES as u64, account: None };
        let text = reader.read_now(&wanted, &cancel).map_err(|error| cannot(&path, &error))?;
        sources.push(Source { file: path.to_string_lossy().into_owned(), text });
    }
    let uid = nix::unistd::geteuid();
    let own = nix::unistd::User::from_uid(uid).ok().flatten();
    // A database of users that does not answer says nothing about any user.
    let silent = OnceCell::new();
    let has_user = |name: &str| {
        silent.get().is_some() || {
            let found = reader.account_now(name, &cancel);
            found.map_or_else(|error| silent.set(error).is_ok(), |account| account.is_some())
        }
    };
    let host = Host {
        is_root: uid.is_root(),
        user: own.map_or_else(|| uid.to_string(), |user| user.name),
        has_systemd,
        has_user: &has_user,
    };
    let catalog = check::read(&sources, &host);
    match silent.get() {
        Some(error) => Err(cannot(Path::new("the system's users (nsswitch.conf)"), error)),
        None => catalog.map_err(CatalogError::Invalid),
    }
}
