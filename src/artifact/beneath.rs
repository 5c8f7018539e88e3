//! Opening what lies below a directory, whatever somebody has planted there: no link is followed, nothing leads up.
//!
//! openat2 would do it in one call. The daemon's unit does without: what keeps it from setting setuid bits
//! (RestrictSUIDSGID=) can't look into that call's arguments, and forbids it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::{Errno, Result};

/// Opens `path`, which is relative, below `root`.
///
/// # Errors
/// `LOOP` where a symbolic link stands in the way, `XDEV` where the path leads up or away.
pub fn open(root: impl AsFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    if path.starts_with('/') {
        return Err(Errno::XDEV);
    }
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let Some(mut part) = parts.next() else {
        return step(root, ".", flags, mode);
    };
    let mut inner: Option<OwnedFd> = None;
    loop {
        let at = inner.as_ref().map_or(root.as_fd(), AsFd::as_fd);
        let Some(next) = parts.next() else { return step(at, part, flags, mode) };
        inner = Some(step(at, part, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?);
        part = next;
    }
}

fn step(at: impl AsFd, part: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    if part == ".." {
        return Err(Errno::XDEV);
    }
    openat(&at, part, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode).map_err(|error| {
        // A link that is no directory is said to be that, where a directory is asked for.
        let is_link = || {
            let stat = statat(&at, part, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        };
        if error == Errno::NOTDIR && is_link() { Errno::LOOP } else { error }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_lies_below_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir_all(inner.join("a/b")).unwrap();
        for file in [directory.path().join("outside"), inner.join("a/b/file")] {
            fs::File::create(file).and_then(|mut file| std::io::Write::write_all(&mut file, b"x")).unwrap();
        }
        symlink("..", inner.join("up")).unwrap();
        symlink("a", inner.join("link")).unwrap();
        symlink("b/file", inner.join("a/last")).unwrap();
        symlink("/etc/passwd", inner.join("away")).unwrap();
        let root = fs::File::open(&inner).unwrap();
        let read = |path: &str, flags| {
            let mut text = String::new();
            fs::File::from(open(&root, path, flags, Mode::empty())?).read_to_string(&mut text).unwrap();
            Ok(text)
        };
        assert_eq!(read("a/b/file", OFlags::RDONLY), Ok("x".into()));
        assert_eq!(read("./a//b/./file", OFlags::RDONLY), Ok("x".into()));
        assert!(open(&root, ".", OFlags::DIRECTORY, Mode::empty()).is_ok());
        for path in ["up/outside", "link/b/file", "a/last", "away", "link", "up"] {
            assert_eq!(read(path, OFlags::RDONLY), Err(Errno::LOOP), "{path}");
            assert_eq!(read(path, OFlags::DIRECTORY), Err(Errno::LOOP), "{path}");
        }
        for path in ["../outside", "a/../../outside", "a/..", "/etc/passwd"] {
            assert_eq!(read(path, OFlags::RDONLY), Err(Errno::XDEV), "{path}");
        }
        assert_eq!(read("a/b/file/x", OFlags::RDONLY), Err(Errno::NOTDIR));
        assert_eq!(read("nothing", OFlags::RDONLY), Err(Errno::NOENT));
    }
}
