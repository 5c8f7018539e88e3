//! `deployd check`: configuration, catalog and plans, without a running daemon.

use std::path::PathBuf;

use crate::catalog_dir::{self, CatalogError};
use crate::config::{Config, ConfigError, Overrides};
use crate::plan::check::{Policy, read};

/// Something is not valid.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Plans.
    #[error("{0}")]
    Plans(String),
}

/// Checks everything; the errors hold all mistakes.
pub fn check(overrides: &Overrides, plans: &[PathBuf]) -> Result<(), CheckError> {
    let config = Config::load(overrides, PathBuf::new())?;
    let catalog = catalog_dir::read(&config.services_dir, config.systemd.is_some())?;
    let git = config.state_dir.join("git");
    let names = crate::artifact::git::repository_names(&git).ok();
    let policy = Policy {
        repositories: names,
        repository_dir: git.to_string_lossy().into_owned(),
        allowed_repositories: config.allowed_repositories,
        allowed_uris: config.allowed_uris,
    };
    let mut wrong = Vec::new();
    for path in plans {
        match std::fs::read(path) {
            Ok(text) => {
                let mistakes = read(&text, &catalog, &policy).err().unwrap_or_default();
                wrong.extend(mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display())));
            }
            Err(error) => wrong.push(format!("cannot read {}: {error}", path.display())),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(CheckError::Plans(wrong.join("\n"))) }
}
