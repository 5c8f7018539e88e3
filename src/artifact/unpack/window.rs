//! A file that is read here and there, as an archive with a directory is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// So much is read at once by who reads all of it.
pub const WHOLE: usize = 256 << 10;
/// So much by who only looks at the headers.
pub const HEADERS: usize = 1 << 10;

/// A reader that keeps what it has read when it is told to go on elsewhere nearby. (`BufReader` forgets it at each
/// seek, and whoever reads an archive seeks to each of its files: most of it would be read ten times.)
pub struct Window {
    file: File,
    at: u64,
    piece: Box<[u8]>,
    begins: u64,
    filled: usize,
}

impl Window {
    /// At the beginning of a file, of which `size` bytes are read at once.
    pub fn new(file: File, size: usize) -> Self {
        Self { file, at: 0, piece: vec![0; size].into(), begins: 0, filled: 0 }
    }

    /// What is here of what comes next.
    fn here(&self) -> &[u8] {
        let skipped = self.at.checked_sub(self.begins).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.piece[..self.filled].get(skipped..)).unwrap_or_default()
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.here().is_empty() {
            self.filled = 0;
            self.filled = self.file.read_at(&mut self.piece, self.at)?;
            self.begins = self.at;
        }
        let count = self.here().read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const LENGTH: i64 = 3 * (256 << 10);

    fn step() -> impl Strategy<Value = (SeekFrom, usize)> {
        let to = prop_oneof![
            (0..LENGTH.unsigned_abs() + 10).prop_map(SeekFrom::Start),
            (-LENGTH..LENGTH).prop_map(SeekFrom::Current),
            (-300i64..300).prop_map(SeekFrom::Current),
            (-LENGTH - 10..10).prop_map(SeekFrom::End),
        ];
        (to, prop_oneof![0..600usize, 0..2 * WHOLE])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// It reads what any other reader would.
        #[test]
        fn wherever_it_is_told_to_go_it_reads_what_is_there(
            steps in proptest::collection::vec(step(), 1..30),
            size in prop_oneof![Just(HEADERS), Just(WHOLE)],
        ) {
            let content: Vec<u8> = (0..LENGTH - 7).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &content).unwrap();
            let (mut window, mut other) = (Window::new(file, size), Cursor::new(&content));
            for (to, count) in steps {
                prop_assert_eq!(window.seek(to).ok(), other.seek(to).ok());
                let (mut here, mut there) = (Vec::new(), Vec::new());
                (&mut window).take(count as u64).read_to_end(&mut here).unwrap();
                (&mut other).take(count as u64).read_to_end(&mut there).unwrap();
                prop_assert!(here == there, "{to:?} {count}");
            }
        }
    }
}
