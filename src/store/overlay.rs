//! A file that is read, and a memory that is written: what is checked stays as it is.
//!
//! redb repairs what a crash has left when it opens a file, and marks it as in use. A check must not:
//! what it refuses has to be the very bytes that were found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: usize = 4096;

/// The backend.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// As much of the file still shows; what was cut off and grew again is zero.
    visible: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Overlay {
    /// Nothing is written yet.
    ///
    /// # Errors
    /// When the file's length can't be read.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, written: Mutex::new(Written { len, visible: len, pages: BTreeMap::new() }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `out` from the file alone.
    fn read_file(&self, written: &Written, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let visible = usize::try_from(written.visible.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (shown, zero) = out.split_at_mut(visible.min(out.len()));
        zero.fill(0);
        self.file.read_exact_at(shown, offset)
    }
}

/// The parts of a range, by page: the page, where in it, and where in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).expect("it is less than a page");
        let part = (PAGE - within).min(len - done);
        let range = done..done + part;
        done += part;
        (part > 0).then_some((at / PAGE as u64, within, range))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if written.pages.is_empty() {
            return self.read_file(&written, offset, out);
        }
        for (page, within, range) in parts(offset, out.len()) {
            let out = &mut out[range];
            match written.pages.get(&page) {
                Some(bytes) => out.copy_from_slice(&bytes[within..within + out.len()]),
                None => self.read_file(&written, page * PAGE as u64 + within as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.len = len;
        written.visible = written.visible.min(len);
        written.pages.split_off(&len.div_ceil(PAGE as u64));
        let within = usize::try_from(len % PAGE as u64).expect("it is less than a page");
        if let Some(last) = written.pages.get_mut(&(len / PAGE as u64)) {
            last[within..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        written.len = written.len.max(offset + data.len() as u64);
        for (page, within, range) in parts(offset, data.len()) {
            if !written.pages.contains_key(&page) {
                let mut bytes = Box::new([0; PAGE]);
                self.read_file(&written, page * PAGE as u64, &mut *bytes)?;
                written.pages.insert(page, bytes);
            }
            let bytes = written.pages.get_mut(&page).expect("it was just put there");
            bytes[within..within + range.len()].copy_from_slice(&data[range]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u64..20_000, prop::collection::vec(any::<u8>(), 1..9000)).prop_map(|(at, data)| Step::Write(at, data)),
            1 => (0u64..30_000).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_would_and_the_file_stays(
            start in prop::collection::vec(any::<u8>(), 0..20_000),
            steps in prop::collection::vec(step(), 1..12),
        ) {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&start).unwrap();
            let overlay = Overlay::new(file.reopen().unwrap()).unwrap();
            let mut expected = start.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        overlay.write(at, &data).unwrap();
                        let at = usize::try_from(at).unwrap();
                        expected.resize(expected.len().max(at + data.len()), 0);
                        expected[at..at + data.len()].copy_from_slice(&data);
                    }
                    Step::SetLen(len) => {
                        overlay.set_len(len).unwrap();
                        expected.resize(usize::try_from(len).unwrap(), 0);
                    }
                }
                let mut found = vec![1; expected.len()];
                prop_assert_eq!(overlay.len().unwrap(), found.len() as u64);
                overlay.read(0, &mut found).unwrap();
                prop_assert!(found == expected);
                prop_assert!(overlay.read(1, &mut found).is_err());
            }
            prop_assert_eq!(std::fs::read(file.path()).unwrap(), start);
        }
    }
}
