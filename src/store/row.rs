//! Rows: what stands in the values of the tables.
//!
//! A value is one version byte, the row in bincode, and a CRC-32 of both. Row types are plain and
//! separate from the domain's, joined by exhaustive matches: the domain may change, a version of a
//! row never does. A new version gets a new struct, and the old one its way up. Stores that released
//! versions have written are kept in `tests/fixtures/stores`, and read by a test.

pub mod event;
mod host_event;
mod incarnation;
pub mod plan;
pub mod record;
pub mod service;
pub mod task;

use bincode::{Decode, Encode};

/// The version of all rows so far.
const V1: u8 = 1;
/// No row may be larger; it bounds what a corrupt length can make the decoder allocate.
const MAX_ROW: usize = 256 << 20;

/// Why a row can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It is shorter than version and checksum.
    #[error("it is cut off")]
    Short,
    /// The checksum says that it was changed.
    #[error("its checksum is wrong")]
    Checksum,
    /// It was written by a newer version of deployd.
    #[error("it has version {0}, which only a newer deployd can read")]
    Newer(u8),
    /// It is not what it should be.
    #[error("it can't be decoded: {0}")]
    Decode(String),
}

/// A type of row.
pub trait Row: Encode + Decode<()> {}

/// The bytes of a row.
pub fn encode(row: &impl Row) -> Vec<u8> {
    let mut bytes = vec![V1];
    let config = bincode::config::standard();
    bincode::encode_into_std_write(row, &mut bytes, config).expect("encoding into memory can't fail");
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// The row of these bytes.
///
/// # Errors
/// [`RowError`] when they are not exactly one intact row.
pub fn decode<R: Row>(bytes: &[u8]) -> Result<R, RowError> {
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(RowError::Short)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return Err(RowError::Checksum);
    }
    let (&version, body) = content.split_first().ok_or(RowError::Short)?;
    if version != V1 {
        return Err(RowError::Newer(version));
    }
    let config = bincode::config::standard().with_limit::<MAX_ROW>();
    let (row, used) =
        bincode::decode_from_slice(body, config).map_err(|error| RowError::Decode(error.to_string()))?;
    if used == body.len() { Ok(row) } else { Err(RowError::Decode("something follows it".into())) }
}
