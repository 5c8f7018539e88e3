//! Which daemon this is, and whose a thing on the host is.
//!
//! Everything that a daemon makes on the host (unit, process, engine container, hook, build) carries its identity, and
//! it touches nothing that carries another one or none. The identity is a random number in the state directory, beside
//! the store and not in it: a store that is restored elsewhere belongs to another daemon, and a state directory that is
//! moved still owns what it started.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};

pub use file::{Arrival, Identity, IdentityError};

/// How much of an identity tells daemons of one host apart, in names.
const SHORT: usize = 8;

/// Who owns what this daemon makes.
#[derive(Debug, Clone)]
pub struct Owner {
    id: String,
    /// What the operations of tasks begin with that a version without identities began: the number of its store.
    before: String,
    state: PathBuf,
    /// State directories that are, or were, this one.
    places: Vec<PathBuf>,
}

/// What a thing on the host says about who made it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim<'a> {
    /// The identity of a daemon.
    pub owner: Option<&'a str>,
    /// The directory of the container that it is.
    pub directory: Option<&'a Path>,
}

/// Who made a thing that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stranger {
    /// Another daemon.
    Daemon {
        /// Its identity; versions that had none wrote down nothing but the directory.
        id: Option<String>,
        /// Its state directory, as far as the thing says where that is.
        state: Option<PathBuf>,
    },
    /// This state directory, before it got another identity.
    Former(String),
    /// Nobody who says so.
    Unknown,
}

impl Owner {
    /// The owner with this identity; `before` is the number of its store.
    pub fn new(identity: &Identity, before: &str) -> Self {
        Self {
            id: identity.id.clone(),
            before: before.to_string(),
            state: identity.directory.clone(),
            places: identity.places.clone(),
        }
    }

    /// Somebody's.
    #[cfg(test)]
    pub fn of_test() -> Self {
        let id = "00112233445566778899aabbccddeeff".to_string();
        let places = vec![PathBuf::from("/a"), PathBuf::from("/before")];
        Self { id, before: "0123456789abcdef".into(), state: "/a".into(), places }
    }

    /// 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Enough of it for names: 8 hex digits.
    pub fn short(&self) -> &str {
        self.id.get(..SHORT).unwrap_or(&self.id)
    }

    /// Whether this daemon gave out the id of an operation.
    pub fn gave(&self, operation: &str) -> bool {
        let first = operation.split('.').next().unwrap_or_default();
        !first.is_empty() && (first == self.id || first == self.before)
    }

    /// Whether a thing is ours.
    ///
    /// # Errors
    /// Who made it instead.
    pub fn judge(&self, claim: Claim<'_>) -> Result<(), Stranger> {
        // <state>/services/<service>/containers/<container>
        let state = claim.directory.and_then(|directory| directory.ancestors().nth(4));
        match (claim.owner, state) {
            (Some(owner), _) if owner == self.id => Ok(()),
            (Some(owner), Some(state)) if self.is_place(state) => Err(Stranger::Former(owner.into())),
            (None, Some(state)) if self.is_place(state) => Ok(()),
            (None, None) if claim.directory.is_none() => Err(Stranger::Unknown),
            (id, state) => {
                Err(Stranger::Daemon { id: id.map(str::to_string), state: state.map(Path::to_path_buf) })
            }
        }
    }

    fn is_place(&self, state: &Path) -> bool {
        self.places.iter().any(|place| place == state)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {} of {}", self.short(), self.state.display())
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |id: &str| id.get(..SHORT).unwrap_or(id).to_string();
        match self {
            Self::Daemon { id: Some(id), state: Some(state) } => {
                write!(
                    f,
                    "belongs to another deployd (state directory {}, instance {})",
                    state.display(),
                    short(id)
                )
            }
            Self::Daemon { id: None, state: Some(state) } => {
                write!(f, "belongs to another deployd (state directory {})", state.display())
            }
            Self::Daemon { id: Some(id), state: None } => {
                write!(f, "belongs to another deployd (instance {})", short(id))
            }
            Self::Daemon { id: None, state: None } => write!(f, "belongs to another deployd"),
            Self::Former(id) => write!(
                f,
                "belongs to a former instance of this state directory ({id}, until its file `identity` was replaced)"
            ),
            Self::Unknown => write!(f, "was not made by deployd"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_decides_before_a_directory_does() {
        let owner = Owner::of_test();
        let of =
            |owner, directory: Option<&'static str>| Claim { owner, directory: directory.map(Path::new) };
        let ours = Some("00112233445566778899aabbccddeeff");
        for mine in [
            of(ours, None),
            of(ours, Some("/elsewhere/services/web/containers/web-1")),
            of(None, Some("/a/services/web/containers/web-1")),
            of(None, Some("/before/services/web/containers/web-1")),
        ] {
            owner.judge(mine).unwrap();
        }
        let stranger = |claim| owner.judge(claim).unwrap_err();
        assert_eq!(stranger(Claim::default()), Stranger::Unknown);
        assert_eq!(
            stranger(of(Some("ff"), Some("/a/services/web/containers/web-1"))),
            Stranger::Former("ff".into())
        );
        let other = stranger(of(None, Some("/b/services/web/containers/web-1")));
        assert_eq!(other.to_string(), "belongs to another deployd (state directory /b)");
        let other = stranger(of(Some("ffeeddccbbaa"), Some("/b/services/web/containers/web-1")));
        assert_eq!(other.to_string(), "belongs to another deployd (state directory /b, instance ffeeddcc)");
        // A directory that has not even the form of a container's is nobody's that we know.
        stranger(of(None, Some("/a")));
    }

    #[test]
    fn an_operation_says_who_gave_it_out() {
        let owner = Owner::of_test();
        assert!(owner.gave("00112233445566778899aabbccddeeff.7.0.0.1"));
        assert!(owner.gave("0123456789abcdef.7.0.0"));
        for other in ["", ".7.0.0", "0123456789abcdef0.7.0.0", "7"] {
            assert!(!owner.gave(other), "{other}");
        }
    }
}
