//! What lies below redb, with its ground laid ahead.
//!
//! redb makes its file longer by holes. What is written into a hole needs a block of the file system first, and a sync
//! then waits for the file system's own journal, too: some times as long as for the pages. So the blocks are made by
//! writing zeros, many at a time, before redb writes to the first of them.

use std::io;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// So much is laid at once: the pages of some dozens of commits.
const AHEAD: u64 = 256 << 10;

/// The backend, over that of the file.
#[derive(Debug)]
pub struct Ground<B> {
    file: B,
    laid: Mutex<Laid>,
}

/// How far the ground is laid.
#[derive(Debug)]
struct Laid {
    /// The length of the file.
    len: u64,
    /// From here on nothing was written since the file is so long.
    end: u64,
}

impl Laid {
    /// What is to be laid before so many bytes are written there; it is laid from now on.
    fn before(&mut self, offset: u64, count: usize) -> Range<u64> {
        let end = offset.saturating_add(count as u64);
        if end <= self.end {
            return 0..0;
        }
        // What is left out far behind is left as it is: it may be written before it is passed again.
        let begin = if offset.saturating_sub(self.end) <= AHEAD { self.end } else { offset };
        self.end = end.next_multiple_of(AHEAD).min(self.len).max(end);
        begin..self.end
    }

    const fn set_len(&mut self, len: u64) {
        self.len = len;
        if self.end > len {
            self.end = len;
        }
    }
}

impl<B: StorageBackend> Ground<B> {
    /// What the file has is left as it is.
    ///
    /// # Errors
    /// When its length can't be read.
    pub fn new(file: B) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, laid: Mutex::new(Laid { len, end: len }) })
    }

    fn laid(&self) -> MutexGuard<'_, Laid> {
        self.laid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: StorageBackend> StorageBackend for Ground<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut laid = self.laid();
        self.file.set_len(len)?;
        laid.set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Nobody else writes beyond the end meanwhile.
        let mut laid = self.laid();
        let ground = laid.before(offset, data.len());
        if !ground.is_empty() {
            let zeros = usize::try_from(ground.end - ground.start).map_err(io::Error::other)?;
            // Without it all is only slower: whether there is room for the data itself is said by the data.
            self.file.write(ground.start, &vec![0; zeros]).ok();
        }
        drop(laid);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::FileBackend;

    use super::*;

    #[test]
    fn ground_is_laid_once_in_large_pieces_and_never_over_what_was_written() {
        let mut laid = Laid { len: 10 * AHEAD, end: 100 };
        assert_eq!(laid.before(0, 100), 0..0);
        assert_eq!(laid.before(50, 100), 100..AHEAD);
        assert_eq!(laid.before(200, 4096), 0..0);
        assert_eq!(laid.before(AHEAD + 500, 1), AHEAD..2 * AHEAD);
        assert_eq!(laid.before(5 * AHEAD, 1), 5 * AHEAD..6 * AHEAD);
        assert_eq!(laid.before(3 * AHEAD, 1), 0..0);
        laid.set_len(6 * AHEAD + 7);
        assert_eq!(laid.before(6 * AHEAD, 7), 6 * AHEAD..6 * AHEAD + 7);
        laid.set_len(AHEAD);
        laid.set_len(2 * AHEAD);
        assert_eq!(laid.before(AHEAD, 1), AHEAD..2 * AHEAD);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || prop_oneof![0..2_000_000u64, (0..8u64).prop_map(|n| n * AHEAD)];
        prop_oneof![
            3 => (place(), prop::collection::vec(1u8.., 1..9000)).prop_map(|(at, data)| Step::Write(at, data)),
            1 => place().prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_file_like_any_other(
            start in prop::collection::vec(any::<u8>(), 0..20_000),
            steps in prop::collection::vec(step(), 1..12),
        ) {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &start).unwrap();
            let ground = Ground::new(FileBackend::new(file.try_clone().unwrap()).unwrap()).unwrap();
            let mut expected = start;
            for step in steps {
                match step {
                    // redb never writes beyond the length that it has set.
                    Step::Write(at, data) => {
                        let end = usize::try_from(at).unwrap() + data.len();
                        if expected.len() < end {
                            ground.set_len(end as u64).unwrap();
                            expected.resize(end, 0);
                        }
                        ground.write(at, &data).unwrap();
                        expected[end - data.len()..end].copy_from_slice(&data);
                    }
                    Step::SetLen(len) => {
                        ground.set_len(len).unwrap();
                        expected.resize(usize::try_from(len).unwrap(), 0);
                    }
                }
                prop_assert_eq!(ground.len().unwrap(), expected.len() as u64);
                let mut found = vec![1; expected.len()];
                ground.read(0, &mut found).unwrap();
                prop_assert!(found == expected);
            }
        }
    }
}
