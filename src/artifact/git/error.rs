//! Why git could not do something.

use super::{MAX_BYTES, MAX_FILES};
use crate::plan::Reference;

/// Why git could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GitError {
    /// git is missing.
    #[error("cannot run git: {0}; install the package git on this host")]
    Missing(String),
    /// No such branch or tag.
    #[error("{origin} has no {reference}{}", instead(.kind, .others))]
    NoReference {
        /// The repository.
        origin: String,
        /// The branch or tag.
        reference: String,
        /// What it is instead; what there is instead.
        kind: Instead,
        /// The first of those that there are.
        others: Vec<String>,
    },
    /// No such commit on the branch or tag.
    #[error(
        "commit {commit} is not on {reference} of {origin}; push it there, or leave compileRepoCommit out"
    )]
    NoCommit {
        /// The repository.
        origin: String,
        /// The branch or tag.
        reference: String,
        /// The commit.
        commit: String,
    },
    /// The commit has what is not fetched.
    #[error("cannot build commit {commit} of {origin}: it has {what}, which deployd does not fetch. {fix}")]
    LeftOut {
        /// The repository.
        origin: String,
        /// The commit.
        commit: String,
        /// Submodules or Git LFS files, with the first of them.
        what: String,
        /// What to do.
        fix: &'static str,
    },
    /// git said no.
    #[error("cannot {what} {origin}: {said}. {}", advice(.said))]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The repository.
        origin: String,
        /// git's own words.
        said: String,
    },
    /// It took too long.
    #[error(
        "cannot {what} {origin}: git took longer than {seconds} s; see why it is slow, or raise timeouts.git"
    )]
    TimedOut {
        /// What was tried.
        what: &'static str,
        /// The repository.
        origin: String,
        /// The limit.
        seconds: u64,
    },
    /// Files of a repository on this host would lead git to other files, or cannot be read safely.
    #[error("cannot use {origin}: {why}")]
    Unfit {
        /// The repository.
        origin: String,
        /// The file, and what to do.
        why: String,
    },
    /// The tree is too large.
    #[error(
        "cannot check out {origin}: the commit has more than {MAX_FILES} files, or {MAX_BYTES} bytes; build it elsewhere, and deploy the package"
    )]
    TooLarge {
        /// The repository.
        origin: String,
    },
    /// The disk is full.
    #[error(
        "cannot check out {origin}: {missing} bytes of disk space are missing; make room and execute the plan anew"
    )]
    NoSpace {
        /// The repository.
        origin: String,
        /// How much.
        missing: u64,
    },
    /// The system refused.
    #[error("cannot {what}: {why}; see that the disk of the state directory is writable and has room")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        why: String,
    },
    /// The task was cut off.
    #[error("git was cancelled")]
    Cancelled,
}

/// What a repository has in the place of a branch or tag that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Others of its kind.
    Branches,
    /// Others of its kind.
    Tags,
    /// A tag of this name.
    IsTag,
    /// A branch of this name.
    IsBranch,
}

fn instead(kind: &Instead, others: &[String]) -> String {
    match (kind, others) {
        (Instead::IsTag, _) => "; that is a tag: write compileRepoTag instead of compileRepoBranch".into(),
        (Instead::IsBranch, _) => {
            "; that is a branch: write compileRepoBranch instead of compileRepoTag".into()
        }
        (Instead::Branches, []) => "; it has no branch yet: push to it first".into(),
        (Instead::Tags, []) => "; it has no tag yet: push one, for example by git push --tags".into(),
        (Instead::Branches, others) => format!("; its branches: {}", others.join(", ")),
        (Instead::Tags, others) => format!("; its tags: {}", others.join(", ")),
    }
}

/// The error of a branch or tag that is not among the names of a repository.
pub fn no_reference<'a>(
    origin: String,
    reference: &Reference,
    names: impl Iterator<Item = &'a str>,
) -> GitError {
    const MAX: usize = 10;
    let (own, other, kind, instead) = match reference {
        Reference::Branch(_) => ("refs/heads/", "refs/tags/", Instead::Branches, Instead::IsTag),
        Reference::Tag(_) => ("refs/tags/", "refs/heads/", Instead::Tags, Instead::IsBranch),
    };
    let mut others = Vec::new();
    let mut is_other = false;
    for name in names {
        is_other |= name.strip_prefix(other) == Some(reference.name());
        if let Some(name) = name.strip_prefix(own).filter(|_| others.len() < MAX) {
            others.push(name.escape_debug().to_string());
        }
    }
    let kind = if is_other { instead } else { kind };
    GitError::NoReference { origin, reference: reference.to_string(), kind, others }
}

/// What helps against what git said.
fn advice(said: &str) -> &'static str {
    const ADVICE: [(&[&str], &str); 7] = [
        (
            &["Host key verification failed"],
            "Add the server's key to known_hosts of the daemon's user: ssh-keyscan HOST >> ~/.ssh/known_hosts",
        ),
        (
            &[
                "Authentication failed",
                "could not read Username",
                "could not read Password",
                "ermission denied",
                "403",
                "401",
            ],
            "Give the daemon access: a key in ~/.ssh of its user for ssh, or a user and a token in the address for https",
        ),
        (
            &["certificate", "SSL"],
            "Add the authority of the server's certificate to this host, or name it in network.caFile",
        ),
        (
            &[
                "resolve host",
                "Could not connect",
                "Failed to connect",
                "Connection refused",
                "timed out",
                "unreachable",
            ],
            "Check that this host reaches the server, and the proxy in network.httpsProxy",
        ),
        (
            &["not found", "does not exist", "does not appear to be"],
            "Check the address, and that the repository is there",
        ),
        (&["No space left"], "Make room below the state directory"),
        (
            &["fsck", "error in object", "bad tree", "inflate", "invalid", "corrupt"],
            "Check the repository: git fsck",
        ),
    ];
    let fits = |words: &&(&[&str], &str)| words.0.iter().any(|word| said.contains(word));
    ADVICE
        .iter()
        .find(fits)
        .map_or("Try it by hand, as the daemon's user: git ls-remote ADDRESS", |found| found.1)
}
