//! Repositories on this host: who can write them, and so as whom git may read them.
//!
//! Some files of a repository lead git to other files: alternates, `commondir`, symbolic links. Whoever can write a
//! repository can plant them. So root's daemon reads it itself only if nobody but root can have written it; else git
//! runs as the one user who can, or as a user who owns nothing. In a built-in repository, where no push makes such
//! files, they are refused in any case.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

use crate::spawn::dialogue::Account;

/// The user as whom git reads and writes the built-in repositories of root's daemon.
pub const GIT_USER: &str = "deployd-git";
/// Maximum number of files that are looked at; a repository with more is read as somebody who owns nothing.
const MAX_ENTRIES: usize = 4_000_000;
/// Files by which git reads another repository, by their path in theirs.
const LEADS_OUT: [(&str, &str); 5] = [
    ("commondir", "makes git read another repository. Remove it"),
    ("config.worktree", "makes git read another configuration. Remove it"),
    (
        "objects/info/alternates",
        "makes git read the objects of another repository. Run `git repack -a -d` there, then remove it",
    ),
    ("objects/info/http-alternates", "makes git read the objects of another repository. Remove it"),
    ("info/grafts", "changes the history that git sees. Remove it"),
];

/// A repository on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The directory with its objects and branches.
    pub directory: PathBuf,
    /// As whom git reads it; `None` is the daemon's own user.
    pub account: Option<Account>,
}

/// Why a repository is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(pub String);

impl Local {
    /// Looks at a repository. Blocking.
    ///
    /// # Errors
    /// [`Unfit`], with the file and what to do.
    pub fn find(path: &Path, built_in: bool) -> Result<Self, Unfit> {
        let directory = directory_of(path)?;
        let us = geteuid().as_raw();
        let seen = Seen::of(&directory, us).map_err(|error| Unfit(format!("{}: {error}", path.display())))?;
        let is_own = us != 0 && seen.writers.iter().all(|&writer| writer == us || writer == 0);
        let strict = built_in || !(us == 0 || is_own);
        match (seen.no_file, seen.leads_out) {
            (Some(unfit), _) => return Err(unfit),
            (None, Some(unfit)) if strict => return Err(unfit),
            _ => {}
        }
        let account = if us == 0 { account(&seen.writers, &directory)? } else { None };
        Ok(Self { directory, account })
    }
}

/// What to do when git cannot read a repository as somebody else.
pub fn let_in(local: &Local) -> Option<String> {
    let account = local.account?;
    let user = User::from_uid(Uid::from_raw(account.uid)).ok().flatten();
    let user = user.map_or_else(|| account.uid.to_string(), |user| user.name);
    Some(format!(
        "Others than root can write this repository, so git reads it as {user}: let that user read it, for example \
         by setfacl -R -m u:{user}:rX {}",
        local.directory.display()
    ))
}

/// The user of the built-in repositories, if this host has it.
pub fn git_account() -> Option<Account> {
    account_named(GIT_USER)
}

fn account_named(name: &str) -> Option<Account> {
    User::from_name(name).ok()?.as_ref().map(account_of)
}

const fn account_of(user: &User) -> Account {
    Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }
}

/// Where the repository is: bare, or in the `.git` of a checkout.
fn directory_of(path: &Path) -> Result<PathBuf, Unfit> {
    let inner = path.join(".git");
    let Ok(metadata) = inner.symlink_metadata() else { return Ok(path.to_path_buf()) };
    if metadata.is_dir() {
        return Ok(inner);
    }
    Err(Unfit(format!(
        "{} is no directory: it names a repository elsewhere. Use that repository's own path",
        inner.display()
    )))
}

/// What a look at all files of a repository has found.
#[derive(Debug, Default)]
struct Seen {
    /// Who can write to any of them; [`ANYBODY`] for all others.
    writers: Vec<u32>,
    /// The first entry that is neither file nor directory nor link.
    no_file: Option<Unfit>,
    /// The first entry that leads git out of the repository.
    leads_out: Option<Unfit>,
}

/// Stands for several users, or users who are not known.
const ANYBODY: u32 = u32::MAX;

impl Seen {
    fn of(directory: &Path, us: u32) -> io::Result<Self> {
        let git = git_account();
        let mut seen = Self::default();
        let mut open = vec![directory.to_path_buf()];
        seen.take(directory, directory, &directory.symlink_metadata()?, git);
        if !directory.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut left = MAX_ENTRIES;
        while let Some(folder) = open.pop() {
            // What cannot be read cannot be read by git either; what is gone was a temporary file of a push.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(metadata) = path.symlink_metadata() else { continue };
                seen.take(directory, &path, &metadata, git);
                if metadata.is_dir() {
                    open.push(path);
                }
                left -= 1;
                if left == 0 {
                    seen.writer(ANYBODY);
                    return Ok(seen);
                }
            }
        }
        if us == 0 && seen.writers == [0] && !is_roots_alone(directory) {
            seen.writer(ANYBODY);
        }
        Ok(seen)
    }

    fn take(&mut self, root: &Path, path: &Path, metadata: &Metadata, git: Option<Account>) {
        let kind = metadata.file_type();
        let shown = path.display();
        self.writer(metadata.uid());
        if kind.is_symlink() {
            let text = format!(
                "{shown} is a symbolic link, which leads git to other files. Replace it with what it points to"
            );
            self.leads_out.get_or_insert(Unfit(text));
            return;
        }
        if let Some(writer) = others(metadata, git) {
            self.writer(writer);
        }
        if !kind.is_file() && !kind.is_dir() {
            let what = if kind.is_fifo() { "a named pipe" } else { "a socket or a device" };
            self.no_file.get_or_insert(Unfit(format!("{shown} is {what}, not a file. Remove it")));
        }
        let inner = path.strip_prefix(root).ok().and_then(Path::to_str);
        if let Some((_, why)) = LEADS_OUT.iter().find(|(name, _)| inner == Some(*name)) {
            self.leads_out.get_or_insert(Unfit(format!("{shown} {why}")));
        }
    }

    fn writer(&mut self, uid: u32) {
        if !self.writers.contains(&uid) {
            self.writers.push(uid);
        }
    }
}

/// Who can write there beside the owner.
fn others(metadata: &Metadata, git: Option<Account>) -> Option<u32> {
    const GROUP: u32 = 0o020;
    const ALL: u32 = 0o002;
    let mode = metadata.mode();
    if mode & ALL != 0 {
        return Some(ANYBODY);
    }
    let of_group = match git {
        _ if metadata.gid() == 0 => 0,
        // The group of that name has no other members: operators are in group deployd.
        Some(git) if metadata.gid() == git.gid => git.uid,
        _ => ANYBODY,
    };
    (mode & GROUP != 0).then_some(of_group)
}

/// Whether nobody but root can put another directory in the place of this one.
fn is_roots_alone(directory: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    let Ok(real) = directory.canonicalize() else { return false };
    real.ancestors().skip(1).all(|above| {
        above.symlink_metadata().is_ok_and(|metadata| {
            metadata.uid() == 0
                && (others(&metadata, None).is_none_or(|it| it == 0) || metadata.mode() & STICKY != 0)
        })
    })
}

/// As whom root's daemon lets git read what these users can write.
fn account(writers: &[u32], directory: &Path) -> Result<Option<Account>, Unfit> {
    let mut strangers = writers.iter().copied().filter(|&writer| writer != 0);
    let only = match (strangers.next(), strangers.next()) {
        (None, _) => return Ok(None),
        (Some(only), None) if only != ANYBODY => User::from_uid(Uid::from_raw(only)).ok().flatten(),
        _ => None,
    };
    let account = only.as_ref().map(account_of).or_else(nobody);
    account.map(Some).ok_or_else(|| {
        Unfit(format!(
            "others than root can write {}, and this host has no user {GIT_USER} as whom git could read it. \
             Create it: useradd --system {GIT_USER}",
            directory.display()
        ))
    })
}

/// A user who owns nothing that git could be led to.
fn nobody() -> Option<Account> {
    git_account().or_else(|| account_named("nobody"))
}
