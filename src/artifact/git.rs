//! Git: the built-in repositories, and commits out of these and other ones.
//!
//! Everything goes through the git command line, hardened so that a repository can't run anything:
//! no configuration but ours, no hooks, no filters, no submodules, no helpers, arguments that can't
//! become options. A repository is never worked in; what is needed of it is fetched into a cache.

mod address;
mod command;
mod contents;
mod error;
mod far;
mod local;
pub mod publish;
pub mod repositories;
pub mod serve;
mod settings;
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
use crate::plan::Reference;
use crate::spawn::dialogue::Dialogues;
use command::GitCommand;
pub use contents::Ignored;
pub use error::{GitError, Instead};
pub use local::GIT_USER;
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

/// A branch or tag that was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The commit: 40 hex digits.
    pub commit: String,
    /// Where the branch or tag leads.
    pub tip: String,
}

/// How much of a branch is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Its last commit.
    Tip,
    /// All of its commits.
    History,
}

/// Commits of repositories.
pub struct Git {
    repositories: Repositories,
    cache: PathBuf,
    timeout: Duration,
    /// The server's side of git, as other users.
    dialogues: Arc<dyn Dialogues>,
    /// Permits for those who push and fetch.
    served: tokio::sync::Semaphore,
    /// One fetch at a time for each origin.
    locks: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Git {
    /// Git with built-in repositories and a cache of others in these directories; no command takes longer
    /// than `timeout`.
    pub fn open(
        repositories: PathBuf,
        cache: PathBuf,
        timeout: Duration,
        dialogues: Arc<dyn Dialogues>,
    ) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&repositories)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&cache)?;
        settings::write(&cache, &repositories)?;
        let repositories = Repositories::new(repositories, cache.clone());
        repositories.take_over()?;
        let served = tokio::sync::Semaphore::new(serve::AT_ONCE);
        Ok(Self { repositories, cache, timeout, dialogues, served, locks: Mutex::default() })
    }

    /// The built-in repositories.
    pub const fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// Fetches a branch or tag and finds a commit on it: the one asked for, else the one to which it leads.
    pub async fn resolve(
        &self,
        origin: &Origin,
        reference: &Reference,
        commit: Option<&str>,
        cancel: &CancellationToken,
    ) -> Result<Pin, GitError> {
        let cache = self.cache_of(origin);
        let _only = self.alone(&cache, cancel).await?;
        let shown = origin.shown();
        // Whether a commit is on the branch only its history tells.
        let depth = if commit.is_some() { Depth::History } else { Depth::Tip };
        let mut fetched = self.fetch(origin, reference, depth, &cache, cancel).await;
        if matches!(fetched, Err(GitError::Failed { .. })) {
            // Whatever a crash has left in the cache must not be in the way: once more, from nothing. (And there are
            // servers that can give nothing but the whole history.)
            super::unpack::remove_tree(&cache).ok();
            fetched = self.fetch(origin, reference, Depth::History, &cache, cancel).await;
        }
        if let Err(error) = fetched {
            if !matches!(error, GitError::NoReference { .. } | GitError::Missing(_)) {
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
        let name = format!("{}^{{commit}}", cached(reference));
        let tip =
            git.line("read", Some(&cache), &["rev-parse", "--verify", "--end-of-options", &name]).await?;
        let Some(wanted) = commit else { return Ok(Pin { commit: tip.clone(), tip }) };
        let missing = || GitError::NoCommit {
            origin: shown.clone(),
            reference: reference.to_string(),
            commit: wanted.into(),
        };
        let name = format!("{wanted}^{{commit}}");
        let full = git
            .line("read", Some(&cache), &["rev-parse", "--verify", "--end-of-options", &name])
            .await
            .map_err(|_| missing())?;
        let on_branch = ["merge-base", "--is-ancestor", "--end-of-options", &full, &tip];
        git.line("read", Some(&cache), &on_branch).await.map_err(|_| missing())?;
        Ok(Pin { commit: full, tip })
    }

    /// The commit to which a branch or tag of a repository leads, without fetching it.
    ///
    /// # Errors
    /// [`GitError::NoReference`] when the repository does not have it.
    pub async fn find(
        &self,
        origin: &Origin,
        reference: &Reference,
        cancel: &CancellationToken,
    ) -> Result<String, GitError> {
        let shown = origin.shown();
        let far = self.far(origin, cancel).await?;
        let git = GitCommand { environment: far.environment(), ..self.command(&shown, cancel) };
        let name = full(reference);
        // An annotated tag is an object of its own: the second name is that of what it marks.
        let peeled = format!("{name}^{{}}");
        let list = ["ls-remote", "--end-of-options", far.address(), &name, &peeled];
        let found = self.ask("read", &git, None, &list, &far).await?;
        // A pattern of git's matches the end of a name, too.
        let of = |wanted: &str| {
            let line = found.lines().filter_map(|line| line.split_once('\t')).find(|line| line.1 == wanted);
            line.map(|line| line.0.to_string())
        };
        if let Some(tip) = of(&peeled).or_else(|| of(&name)) {
            return Ok(tip);
        }
        let list = ["ls-remote", "--heads", "--tags", "--refs", "--end-of-options", far.address()];
        let all = self.ask("read", &git, None, &list, &far).await?;
        let names = all.lines().filter_map(|line| Some(line.split_once('\t')?.1));
        Err(error::no_reference(shown, reference, names))
    }

    async fn fetch(
        &self,
        origin: &Origin,
        reference: &Reference,
        depth: Depth,
        cache: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        // First: of what has no such branch no cache is begun.
        self.find(origin, reference, cancel).await?;
        let refspec = format!("+{}:{}", full(reference), cached(reference));
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
        let far = self.far(origin, cancel).await?;
        let git = GitCommand { environment: far.environment(), ..self.command(&shown, cancel) };
        // An earlier fetch may have been cut before it had anything.
        let is_new = !["refs/deployd", "refs/deployd-tags", "packed-refs"]
            .iter()
            .any(|name| cache.join(name).exists());
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
        fetch.extend(["--end-of-options", far.address(), refspec]);
        self.ask("fetch from", &git, Some(cache), &fetch, &far).await.map(|_| ())
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
    ///
    /// # Errors
    /// Among others [`GitError::LeftOut`]: the commit has what is not fetched, and that is not ignored.
    pub async fn checkout(
        &self,
        origin: &Origin,
        commit: &str,
        into: &Path,
        ignored: Ignored,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        let cache = self.cache_of(origin);
        let shown = origin.shown();
        let git = self.command(&shown, cancel);
        let tree = match git.tree_of(&cache, commit).await {
            Err(GitError::Failed { .. }) => {
                self.fetch_again(&cache, origin, commit, cancel).await?;
                git.tree_of(&cache, commit).await?
            }
            tree => tree?,
        };
        if let Some(first) = tree.submodule.filter(|_| !ignored.submodules) {
            return Err(contents::submodules(shown, commit, &first));
        }
        let bytes = tree.bytes;
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
        done?;
        if ignored.lfs {
            return Ok(());
        }
        let written = into.to_path_buf();
        match crate::blocking::run(move || contents::pointer(&written)).await {
            Some(first) => Err(contents::lfs(shown, commit, &first)),
            None => Ok(()),
        }
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

/// The name of a branch or tag in its repository.
fn full(reference: &Reference) -> String {
    match reference {
        Reference::Branch(name) => format!("refs/heads/{name}"),
        Reference::Tag(name) => format!("refs/tags/{name}"),
    }
}

/// Its name in the cache.
fn cached(reference: &Reference) -> String {
    match reference {
        Reference::Branch(name) => format!("refs/deployd/{name}"),
        Reference::Tag(name) => format!("refs/deployd-tags/{name}"),
    }
}
