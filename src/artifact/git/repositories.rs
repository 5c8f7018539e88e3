//! The built-in repositories: bare ones in a directory of the daemon, to which users push.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::GitError;
use super::command::GitCommand;
use crate::artifact::unpack::remove_tree;
use crate::artifact::{sync_all_of, sync_directory};
use crate::blocking;
use crate::crashpoint::point;

/// A built-in repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryInfo {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its branches.
    pub branches: Vec<String>,
}

/// The names of the repositories in a directory, sorted.
pub fn repository_names(directory: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().into_string().ok()?.strip_suffix(".git").map(str::to_string)
    };
    let mut names: Vec<String> = fs::read_dir(directory)?.filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The built-in repositories.
pub struct Repositories {
    directory: PathBuf,
    cache: PathBuf,
    change: Mutex<()>,
}

impl Repositories {
    pub(super) const fn new(directory: PathBuf, cache: PathBuf) -> Self {
        Self { directory, cache, change: Mutex::const_new(()) }
    }

    /// Whoever creates or deletes a repository holds this, from the look whether it exists to the end.
    pub async fn change(&self) -> MutexGuard<'_, ()> {
        self.change.lock().await
    }

    /// Where a repository is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.git"))
    }

    /// Their directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Their names, sorted.
    pub fn names(&self) -> io::Result<Vec<String>> {
        repository_names(&self.directory)
    }

    /// All of them, with their branches.
    pub async fn list(&self) -> Result<Vec<RepositoryInfo>, GitError> {
        let names = self.names().map_err(|error| io_error("list the repositories", &error))?;
        let mut all = Vec::new();
        for name in names {
            match self.info(&name).await {
                // Deleted since its name was read.
                Err(_) if !self.path(&name).exists() => {}
                info => all.push(info?),
            }
        }
        Ok(all)
    }

    fn command<'a>(&'a self, name: &'a str, cancel: &'a CancellationToken) -> GitCommand<'a> {
        let (cache, timeout) = (&*self.cache, super::TIMEOUT);
        GitCommand { cache, origin: name, cancel, timeout, environment: Vec::new() }
    }

    async fn info(&self, name: &str) -> Result<RepositoryInfo, GitError> {
        let path = self.path(name);
        let cancel = CancellationToken::new();
        let git = self.command(name, &cancel);
        let arguments = ["for-each-ref", "--format=%(refname:short)", "refs/heads"];
        let heads = git.text("read", Some(&path), &arguments).await?;
        let branches = heads.lines().map(|branch| branch.escape_debug().to_string()).collect();
        Ok(RepositoryInfo { name: name.to_string(), path, branches })
    }

    /// Creates a repository. The name was checked.
    pub async fn create(&self, name: &str) -> Result<RepositoryInfo, GitError> {
        let path = self.path(name);
        let temporary = self.directory.join(format!("{name}.tmp"));
        remove_tree(&temporary).map_err(|error| io_error("create the repository", &error))?;
        let cancel = CancellationToken::new();
        let git = self.command(name, &cancel);
        if nix::unistd::geteuid().is_root() {
            git.init_shared(&temporary).await?;
        } else {
            let text = temporary.to_string_lossy();
            let init = ["init", "-q", "--bare", "--template=", "-b", "main", "--shared=umask", "--", &text];
            git.line("create", None, &init).await?;
        }
        if let Some(group) = operators().filter(|_| nix::unistd::geteuid().is_root()) {
            give(&temporary, group)
                .map_err(|error| io_error("give the repository to group deployd", &error))?;
        }
        let (directory, to) = (self.directory.clone(), path);
        let name_it = move || {
            // By itself git would not sync what is pushed: a power cut would leave branches that lead to empty files.
            let mut config = fs::File::options().append(true).open(temporary.join("config"))?;
            config.write_all(b"[core]\n\tfsync = objects,reference\n")?;
            sync_all_of(&temporary)?;
            point("before a repository gets its name");
            fs::rename(&temporary, &to)?;
            point("after a repository got its name");
            sync_directory(&directory)
        };
        blocking::run(name_it).await.map_err(|error| io_error("create the repository", &error))?;
        self.info(name).await
    }

    /// Deletes a repository.
    pub fn delete(&self, name: &str) -> Result<(), GitError> {
        let doomed = self.directory.join(format!("{name}.tmp"));
        point("before a repository is removed");
        remove_tree(&doomed)
            .and_then(|()| fs::rename(self.path(name), &doomed))
            .and_then(|()| sync_directory(&self.directory))
            .and_then(|()| remove_tree(&doomed))
            .map_err(|error| io_error("delete the repository", &error))?;
        point("after a repository was removed");
        Ok(())
    }
}

fn operators() -> Option<u32> {
    Some(nix::unistd::Group::from_name("deployd").ok()??.gid.as_raw())
}

fn give(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, None, Some(group))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group)?;
        }
    }
    Ok(())
}

fn io_error(what: &'static str, error: &io::Error) -> GitError {
    GitError::Io { what, why: error.to_string() }
}
