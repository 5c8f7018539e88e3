//! Removing what a build has left, whatever that is: directories that it has made unwritable, and trees so deep that
//! neither descriptors nor a stack would last for them.
//!
//! Somebody who is the build's user may still be there, and exchange anything in it for a link: none is followed.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// To look at a directory itself, whatever its mode.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a directory with all that is in it, if it is there.
///
/// What is deeper than one level is brought up before it goes: three directories are open at most.
pub fn remove(path: &Path) -> io::Result<()> {
    let top = match enter(CWD, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        top => top?,
    };
    let mut count = 0;
    loop {
        let names = names_in(&top)?;
        if names.is_empty() {
            return Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?);
        }
        for name in &names {
            if is_gone(&top, name)? {
                continue;
            }
            let directory = enter(&top, name)?;
            for inner in names_in(&directory)? {
                if !is_gone(&directory, &inner)? {
                    drop(enter(&directory, &inner)?);
                    bring_up(&directory, &inner, &top, &mut count)?;
                }
            }
            unlinkat(&top, name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// A directory, into which its owner is let from now on.
fn enter(directory: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let entered = openat(directory, name, LOOK, Mode::empty())?;
    fs::set_permissions(itself(&entered), Permissions::from_mode(0o700))?;
    Ok(entered)
}

fn itself(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn names_in(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    fs::read_dir(itself(directory))?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Removes what is no directory.
fn is_gone(directory: &OwnedFd, name: &OsString) -> io::Result<bool> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn bring_up(from: &OwnedFd, name: &OsString, top: &OwnedFd, count: &mut u64) -> io::Result<()> {
    loop {
        *count += 1;
        match renameat_with(from, name, top, count.to_string(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            moved => return Ok(moved?),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn no_link_of_a_build_is_followed_when_its_directories_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, work) = (directory.path().join("outside"), directory.path().join("work"));
        for made in [outside.clone(), work.join("a/b"), work.join("c"), work.join("1/2/1")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::File::create(outside.join("file")).unwrap();
        fs::File::create(work.join("a/file")).unwrap();
        std::os::unix::fs::symlink(&outside, work.join("a/b/link")).unwrap();
        std::os::unix::fs::symlink(&outside, work.join("link")).unwrap();
        for (path, mode) in
            [(&*outside, 0o755), (&work.join("a/b"), 0), (&work.join("a"), 0), (&work.join("c"), 0o500)]
        {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        for path in ["a", "a/b", "c"].map(|path| work.join(path)) {
            enter(CWD, &path).unwrap();
            assert_eq!(mode(&path), 0o700);
        }
        fs::set_permissions(work.join("a"), Permissions::from_mode(0o000)).unwrap();
        remove(&work).unwrap();
        assert!(!work.exists() && outside.join("file").exists());
        assert_eq!(mode(&outside), 0o755);
        remove(&work).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        assert!(remove(&link).is_err() && outside.join("file").exists());
    }

    /// Deeper than any path can say, than a stack lasts, and than descriptors do.
    #[test]
    fn no_tree_is_too_deep() {
        let directory = tempfile::tempdir().unwrap();
        let work = directory.path().join("work");
        fs::create_dir(&work).unwrap();
        let mut at = enter(CWD, &work).unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = enter(&at, "d").unwrap();
        }
        mkdirat(&at, "shut", Mode::empty()).unwrap();
        remove(&work).unwrap();
        assert!(!work.exists());
    }
}
