//! zip.

use std::fs::File;
use std::io::Read;

use zip::{CompressionMethod, ZipArchive};

use super::inflate::{Inflater, Summed};
use super::jail::Jail;
use super::window::{self, Window};
use super::{Entry, UnpackError, zipcheck};

/// A link's target is no longer than this.
const MAX_TARGET: u64 = 1024;

/// Unpacks a zip file.
pub fn unpack(file: File, jail: &mut Jail) -> Result<(), UnpackError> {
    zipcheck::check(&mut Window::new(file.try_clone()?, window::HEADERS))?;
    let damaged = UnpackError::damaged;
    let mut archive = ZipArchive::new(Window::new(file, window::WHOLE)).map_err(|error| damaged(&error))?;
    let mut inflater = Inflater::new();
    if let Some(bytes) = archive.decompressed_size() {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        jail.announce(archive.len() as u64, bytes)?;
    }
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| damaged(&error))?;
        let name = entry.name_raw().to_vec();
        let (mode, announced, is_link) = (entry.unix_mode(), entry.size(), entry.is_symlink());
        let (method, sum) = (entry.compression(), entry.crc32());
        let mut content: Summed<Box<dyn Read>> = match method {
            CompressionMethod::Stored => Summed::new(Box::new(entry), sum),
            CompressionMethod::Deflated => Summed::new(Box::new(inflater.inflate(entry)), sum),
            other => return Err(damaged(&format!("it is packed as {other}, not as deflate"))),
        };
        if is_link {
            let mut target = String::new();
            let read = (&mut content).take(MAX_TARGET + 1).read_to_string(&mut target);
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
            let written = jail.add(&name, Entry::File { executable, is_privileged: false }, &mut content)?;
            if written != announced {
                return Err(damaged(&format!("a file has {written} bytes instead of {announced}")));
            }
        }
    }
    Ok(())
}
