//! Whose files root reads on behalf of a user.
//!
//! Root can read everything, and what it reads for a service ends up in that service's hands. So root reads a file for
//! a user only when one of these holds:
//! - The user could read it: the modes of the file and of each directory on the way to it allow that.
//! - Only root could have put it there: root owns the file, and each directory and link on the way to it, and nobody
//!   else may write to any of these.
//!
//! A link that a service has put in the place of its own `.env`, to a file that only root may read, fulfils neither.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;

use super::{Unread, open, refuse};

/// How many links a path may lead over, as for the kernel.
const MAX_LINKS: u32 = 40;

/// A user, with all groups.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Account {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Ids of the group and of all further groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Opens a regular file on behalf of a user.
pub fn open_for(account: &Account, path: &Path) -> Result<File, Unread> {
    let own = rustix::process::geteuid().as_raw();
    if own != 0 || account.uid == 0 {
        // What this process may read, the user may.
        return open(path);
    }
    Walk { account, is_trusted: true, is_open: true, links: 0, blamed: None }.open(path)
}

/// The way to a file, part by part.
struct Walk<'a> {
    account: &'a Account,
    /// Whether root alone decides where the way leads.
    is_trusted: bool,
    /// Whether the user may go it.
    is_open: bool,
    links: u32,
    /// The first part that is not root's alone.
    blamed: Option<OsString>,
}

impl Walk<'_> {
    fn open(mut self, path: &Path) -> Result<File, Unread> {
        let path = std::path::absolute(path)?;
        let mut rest: VecDeque<OsString> = parts(&path);
        let mut directory = self.root()?;
        while let Some(name) = rest.pop_front() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let there = openat(&directory, &name, flags, Mode::empty())?;
            let stat = fstat(&there)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    self.links += 1;
                    if self.links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    self.judge(&stat, &name);
                    let target = readlinkat(&there, "", Vec::new())?;
                    let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_path_buf();
                    if target.has_root() {
                        directory = self.root()?;
                    }
                    for part in parts(&target).into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                FileType::Directory => {
                    self.judge(&stat, &name);
                    self.is_open &= self.may(&stat, Mode::XUSR);
                    directory = there;
                }
                _ if !rest.is_empty() => return Err(Errno::NOTDIR.into()),
                FileType::RegularFile => {
                    self.judge(&stat, &name);
                    self.is_open &= self.may(&stat, Mode::RUSR);
                    return self.admit(&there);
                }
                FileType::Fifo => return Err(refuse("a FIFO")),
                FileType::Socket => return Err(refuse("a socket")),
                _ => return Err(refuse("a device")),
            }
        }
        Err(refuse("a directory"))
    }

    fn root(&mut self) -> Result<OwnedFd, Unread> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", flags, Mode::empty())?;
        self.judge(&fstat(&root)?, OsStr::new("/"));
        Ok(root)
    }

    fn admit(self, there: &OwnedFd) -> Result<File, Unread> {
        if self.is_trusted || self.is_open {
            // The very file that was looked at.
            return open(Path::new(&format!("/proc/self/fd/{}", there.as_fd().as_raw_fd())));
        }
        let user = &self.account.name;
        let blamed = self.blamed.unwrap_or_default();
        Err(Unread::Unfit(format!(
            "user {user} may not read it, and others than root may put it there ({} is not root's alone). Make it \
             readable for {user}, or move it to a directory that belongs to root",
            blamed.to_string_lossy()
        )))
    }

    fn judge(&mut self, stat: &Stat, name: &OsStr) {
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let mode = Mode::from_raw_mode(stat.st_mode);
        // In a directory with the sticky bit, what is root's can be removed or replaced by root only.
        let is_sticky =
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory && mode.contains(Mode::SVTX);
        let for_others = mode.contains(Mode::WOTH) || (mode.contains(Mode::WGRP) && stat.st_gid != 0);
        let is_roots = stat.st_uid == 0 && (is_link || is_sticky || !for_others);
        if !is_roots && self.is_trusted {
            self.is_trusted = false;
            self.blamed = Some(name.to_os_string());
        }
    }

    /// Whether the mode allows this to the user; `bit` is the one of the owner.
    fn may(&self, stat: &Stat, bit: Mode) -> bool {
        let shift = match () {
            () if stat.st_uid == self.account.uid => 0,
            () if self.account.groups.contains(&stat.st_gid) => 3,
            () => 6,
        };
        stat.st_mode & (bit.as_raw_mode() >> shift) != 0
    }
}

/// The parts of a path after its root.
fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn nobody() -> Account {
        Account { name: "nobody".into(), uid: 65534, groups: vec![65534], home: "/".into() }
    }

    fn read(path: &Path) -> Result<String, Unread> {
        let mut text = String::new();
        open_for(&nobody(), path)?.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    /// What root reads for a service is what the service could read, or what root alone has put there.
    #[test]
    #[expect(clippy::too_many_lines, reason = "the table is long, not the test")]
    fn nobody_gets_roots_files_by_a_link() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = |name: &str, mode: u32, owner: u32| {
            fs::File::create(path(name)).unwrap();
            std::io::Write::write_all(&mut fs::File::create(path(name)).unwrap(), name.as_bytes()).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
            chown(path(name), Some(owner), Some(owner)).unwrap();
        };
        for (name, mode, owner) in [("app", 0o755, 65534), ("closed", 0o700, 0), ("shut", 0o750, 0)] {
            fs::create_dir(path(name)).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
            chown(path(name), Some(owner), Some(owner)).unwrap();
        }
        file("secret", 0o600, 0);
        file("closed/public", 0o644, 0);
        file("app/own", 0o600, 65534);
        file("app/roots", 0o600, 0);
        file("app/public", 0o644, 0);
        file("app/others", 0o600, 1234);
        for (name, to) in [
            ("app/to-secret", "../secret"),
            ("app/to-closed", "../closed/public"),
            ("app/dir", ".."),
            ("app/to-own", "own"),
            ("to-secret", "secret"),
            ("to-app", "app/own"),
            ("to-link", "app/to-secret"),
        ] {
            symlink(to, path(name)).unwrap();
        }
        symlink(path("secret"), path("app/absolute")).unwrap();
        for name in ["secret", "closed/public", "app/own", "app/public"] {
            assert_eq!(read(&path(name)).as_deref(), Ok(name));
        }
        for (name, target) in [("app/to-own", "app/own"), ("to-secret", "secret"), ("to-app", "app/own")] {
            assert_eq!(read(&path(name)).as_deref(), Ok(target));
        }
        let hidden = [
            "app/to-secret",
            "app/absolute",
            "app/to-closed",
            "app/dir/secret",
            "app/dir/closed/public",
            "app/roots",
            "app/others",
            "to-link",
        ];
        for name in hidden {
            let said = read(&path(name)).unwrap_err().to_string();
            assert!(said.contains("user nobody may not read it"), "{name}: {said}");
        }
        assert!(read(&path("app/to-secret")).unwrap_err().to_string().contains("(app is not root's alone)"));
        // A group of the user opens what is the group's.
        chown(path("app/roots"), Some(0), Some(65534)).unwrap();
        fs::set_permissions(path("app/roots"), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&path("app/roots")).as_deref(), Ok("app/roots"));
        assert_eq!(read(&path("app/own/below")), Err(Errno::NOTDIR.into()));
        assert!(read(&path("app/absent")).unwrap_err().is_absent());
        symlink("loop", path("loop")).unwrap();
        assert_eq!(read(&path("loop")), Err(Errno::LOOP.into()));
    }
}
