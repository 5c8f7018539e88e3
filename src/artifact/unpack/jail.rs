//! The directory into which an archive is unpacked, and out of which nothing is written.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, symlinkat};

use super::{Entry, Limits, UnpackError, Unpacked, check_space};
use crate::artifact::beneath;

/// A deeper path is refused.
const MAX_DEPTH: usize = 64;
/// A longer path is refused.
const MAX_PATH: usize = 1024;

/// Where an archive is unpacked.
pub struct Jail {
    path: PathBuf,
    directory: OwnedFd,
    limits: Limits,
    strip: usize,
    directories: HashSet<String>,
    files: HashSet<String>,
    links: HashMap<String, String>,
    unpacked: Unpacked,
    buffer: Vec<u8>,
}

impl Jail {
    /// Makes the directory.
    pub fn create(path: &Path, limits: Limits, strip_components: u32) -> io::Result<Self> {
        fs::DirBuilder::new().mode(0o755).create(path)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        // Not left to the umask with which the daemon was started.
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
        Ok(Self {
            path: path.to_path_buf(),
            directory,
            limits,
            strip: strip_components as usize,
            directories: HashSet::new(),
            files: HashSet::new(),
            links: HashMap::new(),
            unpacked: Unpacked::default(),
            buffer: vec![0; 64 << 10],
        })
    }

    /// Refuses an archive that says itself that it is too large.
    pub fn announce(&self, entries: u64, bytes: u64) -> Result<(), UnpackError> {
        self.check_entries(entries)?;
        self.check_bytes(bytes)?;
        check_space(&self.path, bytes)
    }

    /// Refuses an archive that goes on without end after its end.
    pub fn check_padding(&self, bytes: u64) -> Result<(), UnpackError> {
        self.check_bytes(self.unpacked.bytes.saturating_add(bytes))
    }

    fn check_entries(&self, entries: u64) -> Result<(), UnpackError> {
        let limit = self.limits.max_entries;
        if entries <= limit {
            return Ok(());
        }
        Err(UnpackError::TooLarge { limit, what: "entries", key: "packages.maxEntries" })
    }

    fn check_bytes(&self, bytes: u64) -> Result<(), UnpackError> {
        let limit = self.limits.max_unpacked_bytes;
        if bytes <= limit {
            return Ok(());
        }
        Err(UnpackError::TooLarge { limit, what: "bytes", key: "packages.maxUnpackedBytes" })
    }

    /// Adds an entry; how many bytes its content had.
    pub fn add(&mut self, raw_name: &[u8], entry: Entry, content: &mut dyn Read) -> Result<u64, UnpackError> {
        self.unpacked.entries += 1;
        self.check_entries(self.unpacked.entries)?;
        let is_directory = matches!(entry, Entry::Directory);
        let Some(name) = self.checked(raw_name, is_directory)? else {
            return Ok(io::copy(content, &mut io::sink()).unwrap_or_default());
        };
        let taken = self.files.contains(&name) || self.links.contains_key(&name);
        if taken || (self.directories.contains(&name) && !is_directory) {
            return Err(refused(&name, "the archive holds it twice"));
        }
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.make_directories(parent)?;
        }
        match entry {
            Entry::Directory => self.make_directories(&name).map(|()| 0),
            Entry::File { is_privileged: true, .. } => Err(refused(&name, "it wants to be setuid or setgid")),
            Entry::File { executable, .. } => self.write(name, executable, content),
            Entry::Link { target } => {
                check_target(&name, &target)?;
                self.links.insert(name, target);
                Ok(0)
            }
        }
    }

    /// A hard link in a tar: the same content once more.
    pub fn copy(&mut self, raw_name: &[u8], raw_target: &[u8]) -> Result<(), UnpackError> {
        let target = self.checked(raw_target, false)?;
        let target = target.filter(|target| self.files.contains(target));
        let Some(target) = target else {
            let name = String::from_utf8_lossy(raw_name).into_owned();
            return Err(refused(&name, "a hard link leads to no file of the archive"));
        };
        let source = beneath::open(&self.directory, &target, OFlags::RDONLY, Mode::empty());
        let source = source.map_err(io::Error::from)?;
        let mut source = File::from(source);
        let executable =
            std::os::unix::fs::PermissionsExt::mode(&source.metadata()?.permissions()) & 0o100 != 0;
        let copy = Entry::File { executable, is_privileged: false };
        self.add(raw_name, copy, &mut source).map(|_| ())
    }

    fn write(&mut self, name: String, executable: bool, content: &mut dyn Read) -> Result<u64, UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let file = beneath::open(&self.directory, &name, flags, mode).map_err(io::Error::from)?;
        rustix::fs::fchmod(&file, mode).map_err(io::Error::from)?;
        let mut file = File::from(file);
        let before = self.unpacked.bytes;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(UnpackError::damaged(&error)),
            };
            self.unpacked.bytes += count as u64;
            self.check_bytes(self.unpacked.bytes)?;
            match file.write_all(&self.buffer[..count]) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(UnpackError::NoSpace { missing: count as u64 });
                }
                other => other?,
            }
        }
        self.files.insert(name);
        Ok(self.unpacked.bytes - before)
    }

    fn make_directories(&mut self, name: &str) -> Result<(), UnpackError> {
        if self.directories.contains(name) {
            return Ok(());
        }
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.make_directories(parent)?;
        }
        if self.files.contains(name) || self.links.contains_key(name) {
            return Err(refused(name, "the archive holds it as a file and as a directory"));
        }
        // No link exists in here yet, so the path leads where it says.
        mkdirat(&self.directory, name, Mode::from_raw_mode(0o755)).map_err(io::Error::from)?;
        let made = beneath::open(&self.directory, name, OFlags::DIRECTORY, Mode::empty());
        let made = made.map_err(io::Error::from)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(io::Error::from)?;
        self.directories.insert(name.to_string());
        Ok(())
    }

    /// Makes the links, now that nothing is written any more.
    pub fn finish(self) -> Result<Unpacked, UnpackError> {
        for (name, target) in &self.links {
            symlinkat(&**target, &self.directory, &**name).map_err(io::Error::from)?;
        }
        Ok(self.unpacked)
    }

    /// The path of an entry, checked and stripped; `None` when nothing is left of it.
    fn checked(&self, raw: &[u8], is_directory: bool) -> Result<Option<String>, UnpackError> {
        let lossy = || String::from_utf8_lossy(raw).into_owned();
        let name = std::str::from_utf8(raw).map_err(|_| refused(&lossy(), "its name is not UTF-8"))?;
        if name.starts_with('/') {
            return Err(refused(name, "its path is absolute"));
        }
        if name.contains('\\') {
            return Err(refused(name, "its name contains a backslash"));
        }
        if name.chars().any(char::is_control) {
            return Err(refused(name, "its name contains control characters"));
        }
        if name.len() > MAX_PATH {
            return Err(refused(&name[..name.floor_char_boundary(80)], "its path is too long"));
        }
        let mut parts = Vec::new();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(refused(name, "its path leads up")),
                part if part.len() > 255 => return Err(refused(part, "its name is too long")),
                part => parts.push(part),
            }
        }
        if parts.len() > MAX_DEPTH {
            return Err(refused(name, "it lies too deep"));
        }
        // Only a directory may be the release's own: `./`.
        if parts.is_empty() && !is_directory {
            return Err(refused(name, "its name is empty"));
        }
        let parts = parts.get(self.strip..).unwrap_or_default();
        Ok((!parts.is_empty()).then(|| parts.join("/")))
    }
}

/// A link may lead to another place in the release, and nowhere else.
fn check_target(name: &str, target: &str) -> Result<(), UnpackError> {
    if target.is_empty() || target.len() > MAX_PATH || target.chars().any(char::is_control) {
        return Err(refused(name, "it is a link to a strange place"));
    }
    let mut depth = name.matches('/').count();
    for part in target.split('/') {
        match part {
            "" if target.starts_with('/') => return Err(refused(name, "it is a link to an absolute path")),
            "" | "." => {}
            ".." if depth == 0 => return Err(refused(name, "it is a link out of the release")),
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    // A link to a link could still climb: `a -> b/..` where b is a link. Ways up come first only.
    let climbs_late = target.split('/').skip_while(|part| *part == "..").any(|part| part == "..");
    if climbs_late { Err(refused(name, "it is a link whose path leads up again")) } else { Ok(()) }
}

fn refused(name: &str, why: &'static str) -> UnpackError {
    UnpackError::Refused { name: name.escape_debug().to_string(), why }
}
