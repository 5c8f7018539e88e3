//! zip.

use std::io::{Read, Seek};

use zip::ZipArchive;

use super::jail::Jail;
use super::{Entry, UnpackError, zipcheck};

/// A link's target is no longer than this.
const MAX_TARGET: u64 = 1024;

/// Unpacks a zip file.
pub fn unpack(mut reader: impl Read + Seek, jail: &mut Jail) -> Result<(), UnpackError> {
    zipcheck::check(&mut reader)?;
    reader.rewind()?;
    let damaged = UnpackError::damaged;
    let mut archive = ZipArchive::new(reader).map_err(|error| damaged(&error))?;
    if let Some(bytes) = archive.decompressed_size() {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        jail.announce(archive.len() as u64, bytes)?;
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| damaged(&error))?;
        let name = entry.name_raw().to_vec();
        let mode = entry.unix_mode();
        if entry.is_symlink() {
            let mut target = String::new();
            let read = (&mut entry).take(MAX_TARGET + 1).read_to_string(&mut target);
            read.map_err(|error| damaged(&error))?;
            jail.add(&name, Entry::Link { target }, &mut std::io::empty())?;
        } else if name.ends_with(b"/") {
            jail.add(&name, Entry::Directory, &mut std::io::empty())?;
        } else {
            // The type bits of a Unix mode: only regular files (or none said) are files.
            if mode.is_some_and(|mode| !matches!(mode & 0o170_000, 0 | 0o100_000)) {
                let name = String::from_utf8_lossy(&name).escape_debug().to_string();
                let why = "it is neither a file, a directory nor a link";
                return Err(UnpackError::Refused { name, why });
            }
            let executable = mode.is_some_and(|mode| mode & 0o111 != 0);
            let announced = entry.size();
            let written = jail.add(&name, Entry::File { executable, is_privileged: false }, &mut entry)?;
            if written != announced {
                return Err(damaged(&format!("a file has {written} bytes instead of {announced}")));
            }
        }
    }
    Ok(())
}
