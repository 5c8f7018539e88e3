//! What a zip holds of one file, unpacked and checked against its checksum.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// So much that is packed is read at once.
const PIECE: usize = 64 << 10;

/// What unpacking one file after another needs; made once for a whole archive.
pub struct Inflater {
    state: Decompress,
    packed: Box<[u8]>,
}

impl Inflater {
    /// For the files of one archive.
    pub fn new() -> Self {
        Self { state: Decompress::new(false), packed: vec![0; PIECE].into() }
    }

    /// The content of a file that is packed in `source`, as raw deflate.
    pub fn inflate<R: Read>(&mut self, source: R) -> Inflated<'_, R> {
        self.state.reset(false);
        Inflated { source, inflater: self, from: 0, to: 0, ended: false }
    }
}

/// A file while it is being unpacked.
pub struct Inflated<'a, R> {
    source: R,
    inflater: &'a mut Inflater,
    /// The part of the piece that is still to be unpacked.
    from: usize,
    to: usize,
    ended: bool,
}

impl<R: Read> Read for Inflated<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Inflater { state, packed } = &mut *self.inflater;
        while !self.ended && !out.is_empty() {
            if self.from == self.to {
                (self.from, self.to) = (0, self.source.read(packed)?);
            }
            let (input, output) = (state.total_in(), state.total_out());
            let status = state.decompress(&packed[self.from..self.to], out, FlushDecompress::None)?;
            let taken = usize::try_from(state.total_in() - input).expect("it was in memory");
            let given = usize::try_from(state.total_out() - output).expect("it is in memory");
            self.from += taken;
            self.ended = status == Status::StreamEnd;
            if given > 0 {
                return Ok(given);
            }
            if taken == 0 && !self.ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its data is cut off"));
            }
        }
        Ok(0)
    }
}

/// Refuses what does not have its checksum, once all of it was read.
pub struct Summed<R> {
    source: R,
    sum: crc32fast::Hasher,
    expected: u32,
}

impl<R> Summed<R> {
    /// A file that has to have this CRC-32.
    pub fn new(source: R, expected: u32) -> Self {
        Self { source, sum: crc32fast::Hasher::new(), expected }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(out)?;
        self.sum.update(&out[..count]);
        if count == 0 && !out.is_empty() && self.sum.clone().finalize() != self.expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a file has not its checksum"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (any::<u8>(), 0..90_000usize).prop_map(|(byte, count)| vec![byte; count]),
        ];
        prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// One after another, with one state, also after one that was damaged.
        #[test]
        fn files_come_back_as_they_were_packed(files in prop::collection::vec(content(), 1..4)) {
            let mut inflater = Inflater::new();
            for content in files {
                let packed = deflated(&content);
                let cut = &packed[..packed.len() - 1];
                prop_assert!(inflater.inflate(cut).read_to_end(&mut Vec::new()).is_err());
                let sum = crc32fast::hash(&content);
                let mut out = Vec::new();
                Summed::new(inflater.inflate(&*packed), sum).read_to_end(&mut out).unwrap();
                prop_assert!(out == content);
                let mut wrong = Summed::new(inflater.inflate(&*packed), sum ^ 1);
                prop_assert!(wrong.read_to_end(&mut Vec::new()).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_read_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            io::copy(&mut Inflater::new().inflate(&*bytes).take(1 << 20), &mut io::sink()).ok();
        }
    }
}
