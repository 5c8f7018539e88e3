//! Git: the built-in repositories, and commits out of these and other ones.
//!
//! Everything goes through the git command line, hardened so that a repository can't run anything:
//! no configuration but ours, no hooks, no filters, no submodules, no helpers, arguments that can't
//! become options. A repository is never worked in; what is needed of it is fetched into a cache.

mod address;
mod command;
pub mod repositories;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{free_space, hex, mask_url};
use address::Address;
use command::GitCommand;
use repositories::Repositories;
pub use repositories::repository_names;

/// A tree with more files is not checked out.
pub(crate) const MAX_FILES: u64 = 500_000;
/// Nor is one whose files have more bytes.
pub(crate) const MAX_BYTES: u64 = 16 << 30;
/// No git command takes longer, unless the configuration says otherwise.
pub const TIMEOUT: Duration = Duration::from_mins(15);

/// Where commits come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// One of the daemon's own.
    BuiltIn(PathBuf),
    /// Another one.
    Url(String),
}

impl Origin {
    fn address(&self) -> String {
        match self {
            Self::BuiltIn(path) => path.to_string_lossy().into_owned(),
            Self::Url(url) => url.clone(),
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        mask_url(&self.address())
    }
}

/// A branch that was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The commit: 40 hex digits.
    pub commit: String,
    /// The branch's tip.
    pub branch_tip: String,
}

/// How much of a branch is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Its last commit.
    Tip,
    /// All of its commits.
    History,
}

/// Why git could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GitError {
    /// git is missing.
    #[error("cannot run git: {0}; install the package git on this host")]
    Missing(String),
    /// No such branch.
    #[error("{origin} has no branch {branch}{}", branches(.others))]
    NoBranch {
        /// The repository.
        origin: String,
        /// The branch.
        branch: String,
        /// What it has.
        others: Vec<String>,
    },
    /// No such commit on the branch.
    #[error(
        "commit {commit} is not on branch {branch} of {origin}; push it there, or leave compileRepoCommit out"
    )]
    NoCommit {
        /// The repository.
        origin: String,
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// git said no.
    #[error("cannot {what} {origin}: {said}; see that this host reaches it and may read it")]
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

fn branches(branches: &[String]) -> String {
    match branches {
        [] => "; it has no branch at all: push to it first".into(),
        branches => format!("; its branches: {}", branches.join(", ")),
    }
}

/// Commits of repositories.
pub struct Git {
    repositories: Repositories,
    cache: PathBuf,
    timeout: Duration,
    /// One fetch at a time for each origin.
    locks: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Git {
    /// Git with built-in repositories and a cache of others in these directories; no command takes longer
    /// than `timeout`.
    pub fn open(repositories: PathBuf, cache: PathBuf, timeout: Duration) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&repositories)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&cache)?;
        command::write_config(&cache)?;
        let repositories = Repositories::new(repositories, cache.clone());
        Ok(Self { repositories, cache, timeout, locks: Mutex::default() })
    }

    /// The built-in repositories.
    pub const fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// Fetches a branch and finds a commit on it: the one asked for, else the tip.
    pub async fn resolve(
        &self,
        origin: &Origin,
        branch: &str,
        commit: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<Pin, GitError> {
        let cache = self.cache_of(origin);
        let _only = self.alone(&cache, cancel).await?;
        let shown = origin.shown();
        // Whether a commit is on the branch only its history tells.
        let depth = if commit.is_some() { Depth::History } else { Depth::Tip };
        let mut fetched = self.fetch(origin, branch, depth, &cache, cancel).await;
        if matches!(fetched, Err(GitError::Failed { .. })) {
            // Whatever a crash has left in the cache must not be in the way: once more, from nothing. (And there are
            // servers that can give nothing but the whole history.)
            super::unpack::remove_tree(&cache).ok();
            fetched = self.fetch(origin, branch, Depth::History, &cache, cancel).await;
        }
        if let Err(error) = fetched {
            if !matches!(error, GitError::NoBranch { .. } | GitError::Missing(_)) {
                // What it left half done would stay for ever.
                super::unpack::remove_tree(&cache).ok();
            }
            return Err(error);
        }
        // Whoever writes down which commit it is has it from now on, whatever becomes of the repository.
        let synced = cache.clone();
        let synced = crate::blocking::run(move || super::sync_all_of(&synced)).await;
        synced.map_err(|error| GitError::Io {
            what: "sync the cache of repositories",
            why: error.to_string(),
        })?;
        let git = self.command(&shown, cancel);
        let reference = format!("refs/deployd/{branch}^{{commit}}");
        let tip = git
            .line("read", Some(&cache), &["rev-parse", "--verify", "--end-of-options", &reference])
            .await?;
        let Some(wanted) = commit else { return Ok(Pin { commit: tip.clone(), branch_tip: tip }) };
        let missing =
            || GitError::NoCommit { origin: shown.clone(), branch: branch.into(), commit: wanted.into() };
        let name = format!("{wanted}^{{commit}}");
        let full = git
            .line("read", Some(&cache), &["rev-parse", "--verify", "--end-of-options", &name])
            .await
            .map_err(|_| missing())?;
        let on_branch = ["merge-base", "--is-ancestor", "--end-of-options", &full, &tip];
        git.line("read", Some(&cache), &on_branch).await.map_err(|_| missing())?;
        Ok(Pin { commit: full, branch_tip: tip })
    }

    /// The tip of a branch of a repository, without fetching it.
    ///
    /// # Errors
    /// [`GitError::NoBranch`] when it has not.
    pub async fn find_branch(
        &self,
        origin: &Origin,
        branch: &str,
        cancel: &CancellationToken,
    ) -> Result<String, GitError> {
        let shown = origin.shown();
        let address = Address::of(&origin.address());
        let git = GitCommand { environment: address.environment(), ..self.command(&shown, cancel) };
        let list = ["ls-remote", "--heads", "--end-of-options", &address.plain];
        let heads = git.text("read", None, &list).await?;
        let branches: Vec<(&str, &str)> =
            heads.lines().filter_map(|line| line.split_once("\trefs/heads/")).collect();
        if let Some((tip, _)) = branches.iter().find(|(_, known)| *known == branch) {
            return Ok((*tip).to_string());
        }
        let others = branches.iter().take(10).map(|(_, name)| name.escape_debug().to_string()).collect();
        Err(GitError::NoBranch { origin: shown, branch: branch.into(), others })
    }

    async fn fetch(
        &self,
        origin: &Origin,
        branch: &str,
        depth: Depth,
        cache: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        // First: of what has no such branch no cache is begun.
        self.find_branch(origin, branch, cancel).await?;
        let refspec = format!("+refs/heads/{branch}:refs/deployd/{branch}");
        self.fetch_into(cache, origin, &refspec, depth, cancel).await
    }

    async fn fetch_into(
        &self,
        cache: &Path,
        origin: &Origin,
        refspec: &str,
        depth: Depth,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        let shown = origin.shown();
        let address = Address::of(&origin.address());
        let git = GitCommand { environment: address.environment(), ..self.command(&shown, cancel) };
        // An earlier fetch may have been cut before it had anything.
        let is_new = !["refs/deployd", "packed-refs"].iter().any(|name| cache.join(name).exists());
        if !cache.join("HEAD").exists() {
            let path = cache.to_string_lossy();
            git.line("prepare a cache of", None, &["init", "-q", "--bare", "--template=", "--", &path])
                .await?;
        }
        let is_shallow = cache.join("shallow").exists();
        let mut fetch = vec!["fetch", "-q", "--no-tags", "--no-recurse-submodules", "--force"];
        match depth {
            // A cache that has the history keeps it: what is new is little.
            Depth::Tip if is_new || is_shallow => fetch.push("--depth=1"),
            Depth::History if is_shallow => fetch.push("--unshallow"),
            _ => {}
        }
        fetch.extend(["--end-of-options", &address.plain, refspec]);
        git.line("fetch from", Some(cache), &fetch).await.map(|_| ())
    }

    /// Fetches a commit that was resolved before: the cache was begun anew since, and the branch has moved on.
    async fn fetch_again(
        &self,
        cache: &Path,
        origin: &Origin,
        commit: &str,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        let _only = self.alone(cache, cancel).await?;
        match self.fetch_into(cache, origin, commit, Depth::Tip, cancel).await {
            // Not all servers give a commit that is no branch's last one.
            Err(GitError::Failed { .. }) => {
                let all = "+refs/heads/*:refs/deployd/*";
                self.fetch_into(cache, origin, all, Depth::History, cancel).await
            }
            fetched => fetched,
        }
    }

    /// Writes the files of a commit, which was resolved before, into an empty directory.
    pub async fn checkout(
        &self,
        origin: &Origin,
        commit: &str,
        into: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        let cache = self.cache_of(origin);
        let shown = origin.shown();
        let git = self.command(&shown, cancel);
        let bytes = match git.size_of(&cache, commit).await {
            Err(GitError::Failed { .. }) => {
                self.fetch_again(&cache, origin, commit, cancel).await?;
                git.size_of(&cache, commit).await?
            }
            bytes => bytes?,
        };
        let free = free_space(into).unwrap_or(u64::MAX);
        if bytes > free {
            return Err(GitError::NoSpace { origin: shown, missing: bytes - free });
        }
        let index = into.with_extension("index");
        let done = match git.in_tree(&cache, &index, into, &["read-tree", "--end-of-options", commit]).await {
            Ok(()) => git.in_tree(&cache, &index, into, &["checkout-index", "-q", "-a"]).await,
            error => error,
        };
        fs::remove_file(index).ok();
        done
    }

    fn command<'a>(&'a self, origin: &'a str, cancel: &'a CancellationToken) -> GitCommand<'a> {
        GitCommand { cache: &self.cache, origin, cancel, timeout: self.timeout, environment: Vec::new() }
    }

    fn cache_of(&self, origin: &Origin) -> PathBuf {
        self.cache.join(format!("{}.git", &hex(&Sha256::digest(origin.address()))[..24]))
    }

    /// Waits until nobody else fetches into this cache.
    async fn alone(
        &self,
        cache: &Path,
        cancel: &CancellationToken,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>, GitError> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(cache.to_path_buf()).or_default().clone()
        };
        tokio::select! {
            only = lock.lock_owned() => Ok(only),
            () = cancel.cancelled() => Err(GitError::Cancelled),
        }
    }
}
