//! Removing what a build has left, even directories that it has made unwritable.
//!
//! Somebody who is the build's user may still be there, and exchange anything in it for a link: none is followed.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::artifact::unpack::remove_tree;

/// To look at a directory itself, whatever its mode.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a directory with all that is in it, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    if !path.exists() || remove_tree(path).is_ok() {
        return Ok(());
    }
    open_up(&rustix::fs::open(path, LOOK, Mode::empty())?)?;
    remove_tree(path)
}

/// Lets its owner into a directory, and into all that are in it.
fn open_up(directory: &OwnedFd) -> io::Result<()> {
    let itself = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::set_permissions(&itself, Permissions::from_mode(0o700))?;
    let names: Vec<_> =
        fs::read_dir(&itself)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    for name in names {
        match openat(directory, &name, LOOK, Mode::empty()) {
            Ok(inner) => open_up(&inner)?,
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_of_a_build_is_followed_when_its_directories_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, work) = (directory.path().join("outside"), directory.path().join("work"));
        for made in [outside.clone(), work.join("a/b"), work.join("c")] {
            fs::create_dir_all(made).unwrap();
        }
        std::os::unix::fs::symlink(&outside, work.join("a/b/link")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        for (path, mode) in
            [(&*outside, 0o755), (&work.join("a/b"), 0), (&work.join("a"), 0), (&work.join("c"), 0o500)]
        {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        open_up(&rustix::fs::open(&work, LOOK, Mode::empty()).unwrap()).unwrap();
        assert_eq!(["a", "a/b", "c"].map(|path| mode(&work.join(path))), [0o700; 3]);
        assert_eq!(mode(&outside), 0o755);
        fs::set_permissions(work.join("a"), Permissions::from_mode(0o000)).unwrap();
        remove(&work).unwrap();
        assert!(!work.exists() && outside.exists());
    }
}
