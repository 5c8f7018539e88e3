//! `deployd check`: configuration, catalog, plans, and whether this host is fit; without a running daemon.

mod confinement;
mod host;

use std::fmt;
use std::path::PathBuf;

use crate::catalog::Catalog;
use crate::catalog_dir::{self, CatalogError};
use crate::config::{Config, ConfigError, Overrides};
use crate::plan::check::{Policy, read};

/// Something is not as it has to be.
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
    /// The host.
    #[error("this host is not fit for deployd: {0}; the lines above say what to do")]
    Host(String),
}

impl CheckError {
    /// For whoever started the check.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Catalog(_) | Self::Plans(_) => 5,
            Self::Host(_) => 1,
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not all of it, or not for long.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: String,
    /// How it is, and what to do about it.
    pub text: String,
}

impl Finding {
    fn new(verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict, subject: subject.into(), text: text.into() }
    }

    fn ok(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    fn warn(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, subject, text)
    }

    fn fail(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, subject, text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        // Names of files are what somebody else has chosen.
        let clean = |text: &str| text.replace(char::is_control, "?");
        write!(f, "{verdict:4}  {}: {}", clean(&self.subject), clean(&self.text))
    }
}

/// Checks everything, and tells each finding; the error is the worst of it, with all mistakes of files.
pub fn check(
    overrides: &Overrides,
    plans: &[PathBuf],
    tell: &mut dyn FnMut(&Finding),
) -> Result<(), CheckError> {
    let config = Config::load(overrides, PathBuf::new())?;
    tell(&Finding::ok("configuration", "valid"));
    let catalog = catalog_dir::read(&config.services_dir, config.systemd.is_some());
    let invalid = if let Ok(catalog) = &catalog {
        tell(&counted(catalog, &config));
        check_plans(&config, catalog, plans, tell)
    } else {
        tell(&Finding::fail("catalog", "not valid; plans can't be checked without it"));
        Ok(())
    };
    let nothing = Catalog::default();
    let mut unfit = Vec::new();
    for finding in host::look(&config, catalog.as_ref().unwrap_or(&nothing)) {
        tell(&finding);
        if finding.verdict == Verdict::Fail {
            unfit.push(finding.subject);
        }
    }
    catalog?;
    invalid?;
    if unfit.is_empty() { Ok(()) } else { Err(CheckError::Host(unfit.join(", "))) }
}

fn counted(catalog: &Catalog, config: &Config) -> Finding {
    let directory = config.services_dir.display();
    match catalog.services().len() {
        0 => Finding::warn("catalog", format!("no service yet: describe each in a file in {directory}")),
        1 => Finding::ok("catalog", "1 service"),
        count => Finding::ok("catalog", format!("{count} services")),
    }
}

fn check_plans(
    config: &Config,
    catalog: &Catalog,
    plans: &[PathBuf],
    tell: &mut dyn FnMut(&Finding),
) -> Result<(), CheckError> {
    let git = config.state_dir.join("git");
    let policy = Policy {
        repositories: crate::artifact::git::repository_names(&git).ok(),
        repository_dir: git.to_string_lossy().into_owned(),
        allowed_repositories: config.allowed_repositories.clone(),
        allowed_uris: config.allowed_uris.clone(),
    };
    let mut wrong = Vec::new();
    for path in plans {
        let mistakes = match std::fs::read(path) {
            Ok(text) => {
                let mistakes = read(&text, catalog, &policy).err().unwrap_or_default();
                mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display())).collect()
            }
            Err(error) => vec![format!("cannot read {}: {error}", path.display())],
        };
        let subject = format!("plan {}", path.display());
        tell(&match mistakes.len() {
            0 => Finding::ok(subject, "valid"),
            _ => Finding::fail(subject, "not valid"),
        });
        wrong.extend(mistakes);
    }
    if wrong.is_empty() { Ok(()) } else { Err(CheckError::Plans(wrong.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::warn("catalog \u{1b}[2J", "a\nb");
        assert_eq!(finding.to_string(), "warn  catalog ?[2J: a?b");
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        assert_eq!(CheckError::Config(ConfigError::NoHome).exit_code(), 78);
        assert_eq!(CheckError::Catalog(CatalogError::Invalid(Vec::new())).exit_code(), 5);
        assert_eq!(CheckError::Plans(String::new()).exit_code(), 5);
        assert_eq!(CheckError::Host(String::new()).exit_code(), 1);
    }
}
