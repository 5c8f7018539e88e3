//! The built-in repositories: bare ones in a directory of the daemon, to which users push.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::command::GitCommand;
use super::local::git_account;
use super::{GitError, settings};
use crate::artifact::unpack::remove_tree;
use crate::artifact::{sync_all_of, sync_directory};
use crate::blocking;
use crate::crashpoint::point;
use crate::spawn::dialogue::Account;

/// Maximum number of bytes that are read of a list of branches.
const MAX_REFS: u64 = 64 << 20;
/// By itself git would not sync what is pushed: a power cut would leave branches that lead to empty files.
const CONFIG: &str = "[core]\n\tfsync = objects,reference\n";

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

    /// The configuration of those who read and write them.
    pub fn config(&self) -> PathBuf {
        settings::of_repositories(&self.directory)
    }

    /// All of them, with their branches. Blocking.
    pub fn list(&self) -> Result<Vec<RepositoryInfo>, GitError> {
        let names = self.names().map_err(|error| io_error("list the repositories", &error))?;
        let mut all = Vec::new();
        for name in names {
            match self.info(&name) {
                // Deleted since its name was read.
                Err(_) if !self.path(&name).exists() => {}
                info => all.push(info?),
            }
        }
        Ok(all)
    }

    fn info(&self, name: &str) -> Result<RepositoryInfo, GitError> {
        let path = self.path(name);
        let branches = branches(&path).map_err(|error| io_error("read the branches", &error))?;
        Ok(RepositoryInfo { name: name.to_string(), path, branches })
    }

    /// Takes over what an earlier version let operators write, or what root made while the user deployd-git was not
    /// there: from now on that user alone writes it.
    pub(super) fn take_over(&self) -> io::Result<()> {
        let Some(account) = owner() else { return Ok(()) };
        for name in self.names()? {
            let path = self.path(&name);
            let metadata = path.symlink_metadata()?;
            if metadata.is_dir() && metadata.gid() != account.gid {
                take_over(&path, &metadata, account)?;
                tracing::warn!(name, "this repository has a new owner, a new configuration, and no hooks");
            }
        }
        Ok(())
    }

    /// Creates a repository. The name was checked.
    pub async fn create(&self, name: &str) -> Result<RepositoryInfo, GitError> {
        let path = self.path(name);
        let temporary = self.directory.join(format!("{name}.tmp"));
        remove_tree(&temporary).map_err(|error| io_error("create the repository", &error))?;
        let cancel = CancellationToken::new();
        let git = GitCommand {
            cache: &self.cache,
            origin: name,
            cancel: &cancel,
            timeout: super::TIMEOUT,
            environment: Vec::new(),
        };
        let owner = owner();
        // Where root pushes to the path itself, its files have to be writable for the others.
        let is_handed_on = fs::metadata(&self.directory).is_ok_and(|above| above.mode() & SETGID != 0);
        let shared = if owner.is_some() && is_handed_on { "0660" } else { "umask" };
        git.init(&temporary, shared, if owner.is_some() { "007" } else { "022" }).await?;
        if let Some(owner) = owner {
            give(&temporary, None, owner.gid)
                .map_err(|error| io_error("give the repository to the user deployd-git", &error))?;
        }
        let (directory, to) = (self.directory.clone(), path);
        let name_it = move || {
            let mut config = fs::File::options().append(true).open(temporary.join("config"))?;
            config.write_all(CONFIG.as_bytes())?;
            sync_all_of(&temporary)?;
            point("before a repository gets its name");
            fs::rename(&temporary, &to)?;
            point("after a repository got its name");
            sync_directory(&directory)
        };
        blocking::run(name_it).await.map_err(|error| io_error("create the repository", &error))?;
        self.info(name)
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

/// The bit by which a directory hands its group on.
const SETGID: u32 = 0o2000;
/// What git writes into the configuration of a bare repository.
const BARE: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// To whom root's daemon gives the repositories.
fn owner() -> Option<Account> {
    git_account().filter(|_| nix::unistd::geteuid().is_root())
}

/// Gives a directory and what is in it to a group, and perhaps to a user.
fn give(path: &Path, user: Option<u32>, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, user, Some(group))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}

fn take_over(path: &Path, metadata: &fs::Metadata, account: Account) -> io::Result<()> {
    // Its group comes last: as long as that is another one, this is done again.
    for entry in fs::read_dir(path)? {
        give(&entry?.path(), Some(account.uid), account.gid)?;
    }
    remove_tree(&path.join("hooks"))?;
    let config = path.join("config.new");
    remove_tree(&config).or_else(|_| fs::remove_file(&config))?;
    fs::File::create_new(&config)?.write_all(format!("{BARE}{CONFIG}").as_bytes())?;
    fs::rename(config, path.join("config"))?;
    if metadata.mode() & 0o070 != 0o070 {
        fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o777 | 0o070))?;
    }
    std::os::unix::fs::lchown(path, Some(0), Some(account.gid))
}

/// The names of the branches, sorted. No link is followed, and only regular files are read.
fn branches(repository: &Path) -> io::Result<Vec<String>> {
    const HEADS: &str = "refs/heads/";
    let mut names = std::collections::BTreeSet::new();
    let heads = repository.join("refs/heads");
    let mut open = Vec::new();
    if repository.join("refs").symlink_metadata()?.is_dir() && heads.symlink_metadata()?.is_dir() {
        open.push(heads.clone());
    }
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file()
                && let Ok(name) = path.strip_prefix(&heads)
                && path.extension().is_none_or(|extension| extension != "lock")
            {
                names.insert(name.to_string_lossy().escape_debug().to_string());
            }
        }
    }
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let packed = fs::File::options().read(true).custom_flags(flags).open(repository.join("packed-refs"));
    if let Ok(packed) = packed
        && packed.metadata()?.is_file()
    {
        let mut text = Vec::new();
        packed.take(MAX_REFS).read_to_end(&mut text)?;
        for line in String::from_utf8_lossy(&text).lines() {
            let name = line.split_once(' ').and_then(|(_, name)| name.strip_prefix(HEADS));
            names.extend(name.map(|name| name.escape_debug().to_string()));
        }
    }
    Ok(names.into_iter().collect())
}

fn io_error(what: &'static str, error: &io::Error) -> GitError {
    GitError::Io { what, why: error.to_string() }
}
