//! Random numbers, drawn from the kernel in this one place. The domain is given them; it never draws.

use std::fs::File;
use std::io::{self, Read};

/// So many random bytes.
///
/// # Errors
/// When the kernel gives none: without them nothing that must be unique may be named.
pub fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A random number.
///
/// # Errors
/// As [`bytes`].
pub fn number() -> io::Result<u64> {
    bytes().map(u64::from_le_bytes)
}
