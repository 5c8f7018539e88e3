//! tar, plain or decompressed on the way.

use std::collections::HashSet;
use std::io::Read;

use tar::{Archive, Entry as TarEntry, EntryType, PaxExtensions};

use super::jail::Jail;
use super::{Entry, UnpackError, is_privileged};

/// Everything in a tar is as long as some of these, and a block of zeros says that it ends.
const BLOCK: u64 = 512;
/// The last second of the year 9999.
const YEAR_9999: u64 = 253_402_300_799;

/// What may be said of all files at once: it changes nothing that is written. (`git archive` writes the
/// commit as `comment`.)
const GLOBAL: [&[u8]; 8] = [b"comment", b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"];

/// Unpacks a tar stream.
pub fn unpack(reader: impl Read, jail: &mut Jail) -> Result<(), UnpackError> {
    let mut archive = Archive::new(Counted { reader, bytes: 0 });
    let mut ends_at = 0;
    let damaged = |error: std::io::Error| UnpackError::damaged(&error);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        ends_at = entry.raw_file_position() + entry.size().next_multiple_of(BLOCK);
        if let Some(extensions) = entry.pax_extensions().map_err(damaged)? {
            check_extensions(&name, extensions, kind == EntryType::XGlobalHeader)?;
        }
        check_header(&name, &entry)?;
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                let mode = entry.header().mode().map_err(damaged)?;
                let file = Entry::File { executable: mode & 0o111 != 0, is_privileged: is_privileged(mode) };
                jail.add(&name, file, &mut entry)?;
            }
            EntryType::Directory => {
                jail.add(&name, Entry::Directory, &mut std::io::empty())?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
                let target =
                    String::from_utf8(target).map_err(|_| refuse(&name, "its target is not UTF-8"))?;
                jail.add(&name, Entry::Link { target }, &mut std::io::empty())?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
                jail.copy(&name, &target)?;
            }
            EntryType::XGlobalHeader => {}
            _ => return Err(refuse(&name, "it is neither a file, a directory nor a link")),
        }
    }
    let mut reader = archive.into_inner();
    // Without its mark a tar that was cut between two files would pass for a whole one.
    if reader.bytes < ends_at + BLOCK {
        return Err(UnpackError::Damaged("it is cut off: its end is missing".into()));
    }
    check_end(&mut reader, jail)
}

/// Counts what is read.
struct Counted<R> {
    reader: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Refuses a header that readers understand in different ways.
fn check_header(name: &[u8], entry: &TarEntry<'_, impl Read>) -> Result<(), UnpackError> {
    let header = entry.header();
    // Times are not kept; but a header that is nonsense in one place may be so in others.
    if header.mtime().map_err(|error| UnpackError::damaged(&error))? > YEAR_9999 {
        return Err(refuse(name, "its time is no time"));
    }
    // What GNU keeps there in incremental archives is the beginning of the path to readers of ustar.
    if header.as_gnu().is_some_and(|gnu| gnu.atime[0] != 0) {
        return Err(refuse(name, "its header is of two formats at once"));
    }
    Ok(())
}

/// The extensions (pax) of one entry, or of all that follow: readers differ in what they know of them.
fn check_extensions(name: &[u8], extensions: PaxExtensions<'_>, global: bool) -> Result<(), UnpackError> {
    let mut keys = HashSet::new();
    for field in extensions {
        let field = field.map_err(|error| UnpackError::damaged(&error))?;
        let key = field.key_bytes();
        if key == b"mtime" && field.value_bytes().starts_with(b"-") {
            return Err(refuse(name, "its time is no time"));
        }
        if key.starts_with(b"GNU.sparse.") {
            return Err(refuse(name, "it is a sparse file; pack it without --sparse"));
        }
        if global && !GLOBAL.contains(&key) {
            return Err(refuse(name, "it is a header that changes all files after it"));
        }
        if !keys.insert(key.to_vec()) {
            return Err(refuse(name, "its header says something twice"));
        }
    }
    Ok(())
}

/// Reads on to the end, so that a compressed stream's own checksum is seen, too. Nothing but zeros may
/// be there: what one reader passes over, another may take for a second archive.
fn check_end(mut reader: impl Read, jail: &Jail) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 64 << 10];
    let mut padding = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(UnpackError::damaged(&error)),
        };
        if buffer[..count].iter().any(|&byte| byte != 0) {
            return Err(UnpackError::Damaged("something follows its end".into()));
        }
        padding += count as u64;
        jail.check_padding(padding)?;
    }
}

fn refuse(name: &[u8], why: &'static str) -> UnpackError {
    UnpackError::Refused { name: String::from_utf8_lossy(name).escape_debug().to_string(), why }
}
