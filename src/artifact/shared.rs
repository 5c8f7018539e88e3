//! Directories that outlive releases: made for a service, and led to by links in each of its releases.
//!
//! What lies in such a directory belongs to the service, which may exchange it for a link at any time; a package may
//! hold links to it. So each step is taken from the directory before it, and none follows a link but our own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fchmod, fstat, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use super::beneath;
use super::releases::Layout;
use super::unpack::UnpackError;

/// Services must be able to enter.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// Makes the shared directories of a service, and puts links to them into a release that is being made.
pub fn share(service: &Path, release: &Path, layout: &Layout) -> Result<(), UnpackError> {
    for path in &layout.shared_paths {
        make(service, path, layout.owner).map_err(|error| match errno(&error) {
            Some(Errno::LOOP | Errno::NOTDIR) => UnpackError::Shared(path.clone()),
            _ => error.into(),
        })?;
        let why = "the catalog shares this path, but the package holds it, too, or a link on the way to it";
        link(service, release, path).map_err(|error| match errno(&error) {
            Some(Errno::LOOP | Errno::NOTDIR | Errno::EXIST) => {
                UnpackError::Refused { name: path.clone(), why }
            }
            _ => error.into(),
        })?;
    }
    Ok(())
}

fn make(service: &Path, path: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut directory = step(&File::open(service)?.into(), "shared")?;
    let mut is_elsewhere = false;
    for part in path.split('/') {
        let next = step(&directory, part);
        // Where nobody else may write, a link was put there by whoever may: to another disk, for instance.
        is_elsewhere =
            next.as_ref().is_err_and(|error| errno(error) == Some(Errno::LOOP)) && is_ours_alone(&directory)?;
        directory = if is_elsewhere {
            openat(&directory, part, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?
        } else {
            next?
        };
    }
    match owner.filter(|_| !is_elsewhere) {
        Some((uid, gid)) => std::os::unix::fs::fchown(&directory, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

fn link(service: &Path, release: &Path, path: &str) -> io::Result<()> {
    let mut directory = File::open(release)?.into();
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in parents.split('/').filter(|part| !part.is_empty()) {
        directory = step(&directory, part)?;
    }
    Ok(symlinkat(service.join("shared").join(path), &directory, name)?)
}

/// A directory in a directory, made if it is not there.
fn step(directory: &OwnedFd, part: &str) -> io::Result<OwnedFd> {
    let made = mkdirat(directory, part, MODE);
    let next = match made {
        Ok(()) | Err(Errno::EXIST) => beneath::open(directory, part, OFlags::DIRECTORY, Mode::empty())?,
        Err(error) => return Err(error.into()),
    };
    if made.is_ok() {
        // Whatever umask the daemon was started with.
        fchmod(&next, MODE)?;
    }
    Ok(next)
}

/// Whether nobody but us can put anything into a directory.
fn is_ours_alone(directory: &OwnedFd) -> io::Result<bool> {
    let stat = fstat(directory)?;
    Ok(stat.st_uid == nix::unistd::geteuid().as_raw() && stat.st_mode & 0o022 == 0)
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}
