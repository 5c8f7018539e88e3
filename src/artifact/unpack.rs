//! Unpacking: an archive becomes a directory, completely or not at all, and nothing leaves it.
//!
//! Everything is written into `<destination>.tmp` through one descriptor, by paths that were
//! checked and that the kernel resolves beneath it without following links. Links are made last.

mod inflate;
mod jail;
mod tarball;
mod window;
mod zipcheck;
mod zipfile;

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use super::fetch::Limits;
use super::{free_space, sync_all_of, sync_directory};
use crate::crashpoint::point;
use jail::Jail;

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// The bytes of all files.
    pub bytes: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no archive that we know.
    #[error("it is no zip, tar, tar.gz, tar.zst or tar.xz: it looks like {0}; see what the address delivers")]
    Unknown(&'static str),
    /// It is damaged.
    #[error("the archive is damaged: {0}; pack it again, and give its httpSrcSha256")]
    Damaged(String),
    /// It holds something that must not be unpacked.
    #[error("the archive is refused: {name}: {why}; pack it again without that")]
    Refused {
        /// The entry, control characters escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What is shared is not a directory any more.
    #[error(
        "the shared directory {0} of the service is a link, or no directory: the service has put that there; remove it below `shared`"
    )]
    Shared(String),
    /// It is too large.
    #[error("the archive is refused: it holds more than {limit} {what}; raise {key} if it has to")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// "bytes" or "entries".
        what: &'static str,
        /// The key of the configuration.
        key: &'static str,
    },
    /// The disk is full.
    #[error("{missing} bytes of disk space are missing; make room and try again")]
    NoSpace {
        /// How much.
        missing: u64,
    },
    /// The system refused.
    #[error("cannot unpack: {0}; see that the disk of the state directory is writable")]
    Io(#[from] io::Error),
}

impl UnpackError {
    /// Why may quote the archive: what it holds never reaches a terminal as it is.
    fn damaged(why: &dyn std::fmt::Display) -> Self {
        Self::Damaged(why.to_string().escape_debug().to_string())
    }
}

/// What an entry of an archive is.
enum Entry {
    Directory,
    File { executable: bool, is_privileged: bool },
    Link { target: String },
}

/// Whether a mode asks for more than running: setuid or setgid.
const fn is_privileged(mode: u32) -> bool {
    mode & 0o6000 != 0
}

/// Unpacks `archive` to `destination`, which does not exist yet. `prepare` may add to the
/// directory before it gets its name. Blocking.
pub fn unpack(
    archive: &Path,
    destination: &Path,
    limits: &Limits,
    strip_components: u32,
    prepare: impl FnOnce(&Path) -> Result<(), UnpackError>,
) -> Result<Unpacked, UnpackError> {
    let temporary = PathBuf::from(format!("{}.tmp", destination.display()));
    remove_tree(&temporary)?;
    let done = write_all(archive, &temporary, limits, strip_components).and_then(|unpacked| {
        prepare(&temporary)?;
        // One sync for all files: complete on disk before anything can point to it.
        sync_all_of(&temporary)?;
        point("before a release gets its name");
        fs::rename(&temporary, destination)?;
        point("after a release got its name");
        sync_directory(destination.parent().unwrap_or(destination))?;
        Ok(unpacked)
    });
    if done.is_err() {
        remove_tree(&temporary).ok();
    }
    done
}

/// Removes a directory with all that is in it, if it is there.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn write_all(
    archive: &Path,
    directory: &Path,
    limits: &Limits,
    strip_components: u32,
) -> Result<Unpacked, UnpackError> {
    let mut file = File::open(archive)?;
    let mut head = [0; 512];
    let length = read_up_to(&mut file, &mut head)?;
    file.rewind()?;
    let head = &head[..length];
    let mut jail = Jail::create(directory, *limits, strip_components)?;
    if matches!(head, [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..]) {
        zipfile::unpack(file, &mut jail)?;
        return jail.finish();
    }
    let reader = io::BufReader::with_capacity(256 << 10, file);
    match head {
        [0x1f, 0x8b, ..] => tarball::unpack(flate2::bufread::MultiGzDecoder::new(reader), &mut jail)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => tarball::unpack(zstd::Decoder::with_buffer(reader)?, &mut jail)?,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            tarball::unpack(liblzma::bufread::XzDecoder::new_multi_decoder(reader), &mut jail)?;
        }
        _ if is_tar(head) => tarball::unpack(reader, &mut jail)?,
        _ => return Err(UnpackError::Unknown(looks_like(head))),
    }
    jail.finish()
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// Whether something that begins so is an archive that can be unpacked.
pub fn begins_archive(head: &[u8]) -> bool {
    let magics: [&[u8]; 5] = [b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"];
    is_tar(head) || magics.iter().any(|magic| head.starts_with(magic))
}

fn looks_like(head: &[u8]) -> &'static str {
    let text = head.trim_ascii_start();
    if head.is_empty() {
        "an empty file"
    } else if text.first() == Some(&b'<') {
        "a web page; the address probably answers with an error page"
    } else if head.starts_with(b"\x7fELF") {
        "a program; pack it into an archive"
    } else if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        "text"
    } else {
        "something else"
    }
}

/// Refuses to begin what the disk has no room for.
fn check_space(directory: &Path, needed: u64) -> Result<(), UnpackError> {
    let free = free_space(directory)?;
    if needed > free { Err(UnpackError::NoSpace { missing: needed - free }) } else { Ok(()) }
}
