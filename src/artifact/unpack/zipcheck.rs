//! Is a zip file one thing to everybody? Checked before anything of it is written.
//!
//! A zip says everything twice: in a header before each file, and in the directory at its end. Readers
//! differ in whom they believe, and that is what archives are forged with. Here both have to agree, the
//! files have to follow each other without gaps or overlaps, and nothing may come before or after them.
//! (Format: APPNOTE.TXT by PKWARE, sections 4.3 to 4.5.)

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};

use super::UnpackError;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// The extra field of sizes and places that are too large for their own.
const ZIP64: u16 = 1;
/// The extra field of Info-ZIP with a name in Unicode, which some readers believe and others pass over.
const UNICODE_NAME: u16 = 0x7075;
/// A directory larger than this is nonsense.
const MAX_DIRECTORY: u64 = 256 << 20;
/// The flag of a file whose sizes follow its data.
const SIZES_FOLLOW: u16 = 1 << 3;
/// Encrypted, in one of the two ways.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// Checks the whole structure of a zip file.
///
/// # Errors
/// [`UnpackError::Damaged`] when it contradicts itself.
pub fn check(file: &mut (impl Read + Seek)) -> Result<(), UnpackError> {
    let end = End::find(file)?;
    let mut directory = vec![0; usize::try_from(end.directory_bytes).unwrap_or(usize::MAX)];
    file.seek(SeekFrom::Start(end.directory_at))?;
    file.read_exact(&mut directory)?;
    let mut rest = Bytes(&directory);
    let mut names = HashSet::new();
    let mut files = Vec::new();
    for _ in 0..end.entries {
        let entry = Entry::central(&mut rest)?;
        if !names.insert(entry.name.clone()) {
            return Err(damaged(&format!("{} stands in it twice", shown(&entry.name))));
        }
        files.push(entry);
    }
    if !rest.0.is_empty() {
        return Err(damaged("its directory holds more than it says"));
    }
    files.sort_by_key(|entry| entry.at);
    let mut before: Option<(&Entry, u64)> = None;
    for entry in &files {
        check_gap(before, entry.at)?;
        before = Some((entry, entry.check_local(file)?));
    }
    check_gap(before, end.directory_at)
}

/// Nothing may stand between a file's data and what comes next but its sizes, if they follow it.
fn check_gap(before: Option<(&Entry, u64)>, next: u64) -> Result<(), UnpackError> {
    let (begins, sizes_follow, name) = match before {
        None => (0, false, "its first file".to_string()),
        Some((entry, ends)) => (ends, entry.flags & SIZES_FOLLOW != 0, shown(&entry.name)),
    };
    match next.checked_sub(begins) {
        Some(0) if !sizes_follow => Ok(()),
        Some(12 | 16 | 20 | 24) if sizes_follow => Ok(()),
        Some(_) => Err(damaged(&format!("something that is not listed stands next to {name}"))),
        None => Err(damaged(&format!("{name} overlaps what follows it"))),
    }
}

fn damaged(why: &str) -> UnpackError {
    UnpackError::damaged(&why)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

/// Little-endian numbers, one after another.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], UnpackError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| damaged("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, UnpackError> {
        let bytes = self.take(N)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn u16(&mut self) -> Result<u16, UnpackError> {
        self.number::<2>().map(|number| u16::try_from(number).unwrap_or(u16::MAX))
    }

    fn u32(&mut self) -> Result<u32, UnpackError> {
        self.number::<4>().map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }
}

/// The end of the directory.
struct End {
    entries: u64,
    directory_at: u64,
    directory_bytes: u64,
}

impl End {
    fn find(file: &mut (impl Read + Seek)) -> Result<Self, UnpackError> {
        let length = file.seek(SeekFrom::End(0))?;
        let from = length.saturating_sub(22 + 65_535 + 20);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        // The comment at its very end reaches exactly to the end of the file.
        let is_end = |at: &usize| {
            let comment = tail.get(at + 20..at + 22).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
            tail[*at..].starts_with(&END.to_le_bytes())
                && comment.is_some_and(|comment| at + 22 + usize::from(comment) == tail.len())
        };
        let at = (0..tail.len()).rev().find(is_end).ok_or_else(|| damaged("it has no end"))?;
        let mut end = Bytes(&tail[at + 4..]);
        let (disk, first_disk) = (end.u16()?, end.u16()?);
        let (here, entries) = (end.number::<2>()?, end.number::<2>()?);
        let (directory_bytes, directory_at) = (end.number::<4>()?, end.number::<4>()?);
        if disk != first_disk || disk != 0 || here != entries {
            return Err(damaged("it is one of several parts"));
        }
        let small = Self { entries, directory_at, directory_bytes };
        let ends_at = from + at as u64;
        let locator = at.checked_sub(20).map(|locator| &tail[locator..at]);
        let locator = locator.filter(|locator| locator.starts_with(&LOCATOR64.to_le_bytes()));
        let (found, ends_at) = match locator {
            Some(locator) => small.large(file, locator, ends_at - 20)?,
            None => (small, ends_at),
        };
        if found.directory_at.checked_add(found.directory_bytes) != Some(ends_at) {
            return Err(damaged("its directory is not where it says"));
        }
        if found.directory_bytes > MAX_DIRECTORY {
            return Err(damaged("its directory is too large"));
        }
        Ok(found)
    }

    /// What the zip64 record says, which ends where its locator begins; and where that record begins.
    fn large(
        self,
        file: &mut (impl Read + Seek),
        locator: &[u8],
        locator_at: u64,
    ) -> Result<(Self, u64), UnpackError> {
        let mut locator = Bytes(&locator[8..]);
        let at = locator.number::<8>()?;
        if at.checked_add(56) != Some(locator_at) {
            return Err(damaged("its zip64 record is not where it says"));
        }
        let mut record = [0; 56];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut record)?;
        let mut record = Bytes(&record);
        if record.u32()? != END64 {
            return Err(damaged("its zip64 record is missing"));
        }
        record.take(28)?;
        let entries = record.number::<8>()?;
        let large =
            Self { entries, directory_bytes: record.number::<8>()?, directory_at: record.number::<8>()? };
        let agrees = |small: u64, large: u64, limit: u64| small == limit || small == large;
        if agrees(self.entries, large.entries, 0xffff)
            && agrees(self.directory_at, large.directory_at, 0xffff_ffff)
            && agrees(self.directory_bytes, large.directory_bytes, 0xffff_ffff)
        {
            return Ok((large, at));
        }
        Err(damaged("its two ends contradict each other"))
    }
}

/// A file, as the directory or its own header describes it.
struct Entry {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    name: Vec<u8>,
    at: u64,
}

impl Entry {
    fn central(bytes: &mut Bytes<'_>) -> Result<Self, UnpackError> {
        if bytes.u32()? != CENTRAL {
            return Err(damaged("its directory holds less than it says"));
        }
        let (made_by, _) = (bytes.u16()?, bytes.u16()?);
        let (flags, method) = (bytes.u16()?, bytes.u16()?);
        bytes.take(4)?;
        let (crc, packed, size) = (bytes.u32()?, bytes.number::<4>()?, bytes.number::<4>()?);
        let (name, extra, comment) = (bytes.u16()?, bytes.u16()?, bytes.u16()?);
        bytes.take(4)?;
        let (attributes, at) = (bytes.u32()?, bytes.number::<4>()?);
        let name = bytes.take(usize::from(name))?.to_vec();
        let extra = bytes.take(usize::from(extra))?;
        bytes.take(usize::from(comment))?;
        // Made on Unix: the upper half of the attributes is the file's mode, which the library trims.
        if made_by >> 8 == 3 && super::is_privileged(attributes >> 16) && !name.ends_with(b"/") {
            let why = "it wants to be setuid or setgid";
            return Err(UnpackError::Refused { name: shown(&name), why });
        }
        let mut entry = Self { flags, method, crc, packed, size, name, at };
        let mut large = [&mut entry.size, &mut entry.packed, &mut entry.at];
        read_extra(extra, &entry.name, &mut large)?;
        entry.judge()
    }

    fn judge(self) -> Result<Self, UnpackError> {
        let name = shown(&self.name);
        if self.flags & ENCRYPTED != 0 {
            return Err(damaged(&format!("{name} is encrypted")));
        }
        if self.method == 0 && self.packed != self.size {
            return Err(damaged(&format!("{name} is stored, but its two sizes differ")));
        }
        Ok(self)
    }

    /// Compares a file's own header with what the directory says; the result is where its data ends.
    fn check_local(&self, file: &mut (impl Read + Seek)) -> Result<u64, UnpackError> {
        let name = shown(&self.name);
        let differs = |what: &str| damaged(&format!("{name}: header and directory differ in {what}"));
        let mut head = [0; 30];
        file.seek(SeekFrom::Start(self.at))?;
        file.read_exact(&mut head)?;
        let mut head = Bytes(&head);
        if head.u32()? != LOCAL {
            return Err(damaged(&format!("{name} is not where the directory says")));
        }
        head.take(2)?;
        let (flags, method) = (head.u16()?, head.u16()?);
        head.take(4)?;
        let (crc, mut packed, mut size) = (head.u32()?, head.number::<4>()?, head.number::<4>()?);
        let mut names = vec![0; usize::from(head.u16()?)];
        let mut extra = vec![0; usize::from(head.u16()?)];
        file.read_exact(&mut names)?;
        file.read_exact(&mut extra)?;
        read_extra(&extra, &names, &mut [&mut size, &mut packed])?;
        if names != self.name {
            return Err(differs("its name"));
        }
        // The directory's entry is not encrypted: then its header must not be, either.
        let decides = SIZES_FOLLOW | ENCRYPTED;
        if method != self.method || flags & decides != self.flags & decides {
            return Err(differs("how it is packed"));
        }
        // Who does not know a value yet writes 0 in its place, if the sizes follow the data.
        let agrees = |here: u64, there: u64| here == there || (here == 0 && flags & SIZES_FOLLOW != 0);
        if !agrees(crc.into(), self.crc.into()) || !agrees(packed, self.packed) || !agrees(size, self.size) {
            return Err(differs("its size"));
        }
        let data = self.at + 30 + names.len() as u64 + extra.len() as u64;
        data.checked_add(self.packed).ok_or_else(|| differs("its size"))
    }
}

/// Reads the extra fields, which have to fill their place exactly; zip64 values take the place of
/// those that were too large. The file may have its name there once more: as long as it is the same.
fn read_extra(extra: &[u8], name: &[u8], large: &mut [&mut u64]) -> Result<(), UnpackError> {
    let mut extra = Bytes(extra);
    while !extra.0.is_empty() {
        let (kind, length) = (extra.u16()?, extra.u16()?);
        let mut field = Bytes(extra.take(usize::from(length))?);
        if kind == UNICODE_NAME {
            // A version and the checksum of the other name stand before it.
            field.take(5)?;
            if field.0 != name {
                return Err(damaged(&format!("{} has another name in Unicode", shown(name))));
            }
        } else if kind == ZIP64 {
            for value in large.iter_mut().filter(|value| ***value == 0xffff_ffff) {
                **value = field.number::<8>()?;
            }
        }
    }
    Ok(())
}
