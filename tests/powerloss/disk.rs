//! A disk that writes down what it is told, and can say what a power cut may have left of it.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// Sectors are written whole or not at all.
const SECTOR: usize = 512;

/// What the disk was told, and what the writer of the store was told.
#[derive(Debug, Clone)]
pub enum Op {
    Write(u64, Arc<[u8]>),
    SetLen(u64),
    Sync,
    /// So many requests were handed to the store.
    Asked(usize),
    /// So many requests are acknowledged.
    Acknowledged(usize),
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    log: Vec<Op>,
    syncs: usize,
}

/// The disk; clones share it.
#[derive(Debug, Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    /// Every n-th sync does nothing and says that it did.
    lies: Option<usize>,
}

impl Disk {
    /// A disk that holds this.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { state: Arc::new(Mutex::new(State { bytes, ..State::default() })), lies: None }
    }

    /// A disk whose every n-th sync is none.
    pub fn lying(n: usize) -> Self {
        Self { lies: Some(n), ..Self::of(Vec::new()) }
    }

    pub fn note(&self, op: Op) {
        self.state.lock().unwrap().log.push(op);
    }

    pub fn log(&self) -> Vec<Op> {
        self.state.lock().unwrap().log.clone()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let found = state.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        apply(&mut state.bytes, &Op::SetLen(len));
        state.log.push(Op::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.syncs += 1;
        if self.lies.is_none_or(|n| !state.syncs.is_multiple_of(n)) {
            state.log.push(Op::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let op = Op::Write(offset, data.into());
        apply(&mut state.bytes, &op);
        state.log.push(op);
        Ok(())
    }
}

/// A generator of random numbers whose runs can be repeated (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).unwrap();
    bytes.resize(bytes.len().max(start + data.len()), 0);
    bytes[start..start + data.len()].copy_from_slice(data);
}

fn apply(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => write(bytes, *offset, data),
        Op::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        Op::Sync | Op::Asked(_) | Op::Acknowledged(_) => {}
    }
}

/// Some of the sectors of a write.
fn tear(bytes: &mut Vec<u8>, op: &Op, random: &mut Random) {
    let Op::Write(offset, data) = op else { return apply(bytes, op) };
    for (index, sector) in data.chunks(SECTOR).enumerate() {
        if random.below(2) == 0 {
            write(bytes, offset + (index * SECTOR) as u64, sector);
        }
    }
}

/// What is on the disk for sure, and what may be.
#[derive(Default)]
pub struct Platter {
    pub durable: Vec<u8>,
    pub pending: Vec<Op>,
}

impl Platter {
    pub fn take(&mut self, op: &Op) {
        match op {
            Op::Sync => self.pending.drain(..).for_each(|op| apply(&mut self.durable, &op)),
            Op::Asked(_) | Op::Acknowledged(_) => {}
            op => self.pending.push(op.clone()),
        }
    }

    fn with(&self, mut change: impl FnMut(&mut Vec<u8>, &Op)) -> Vec<u8> {
        let mut image = self.durable.clone();
        self.pending.iter().for_each(|op| change(&mut image, op));
        image
    }

    /// What a power cut may leave of it, each with its name: `samples` of each random kind.
    pub fn images(&self, samples: usize, random: &mut Random) -> Vec<(&'static str, Vec<u8>)> {
        let mut images = vec![("all", self.with(apply))];
        let Some((last, before)) = self.pending.split_last() else { return images };
        if before.is_empty() {
            images.push(("nothing", self.durable.clone()));
        }
        if !matches!(last, Op::Write(0, _)) && before.iter().any(|op| matches!(op, Op::Write(0, _))) {
            let header = |bytes: &mut Vec<u8>, op: &Op| {
                if matches!(op, Op::Write(0, _)) {
                    apply(bytes, op);
                }
            };
            images.push(("the header only", self.with(header)));
        }
        let len = self.durable.len() as u64;
        if self.pending.iter().any(|op| matches!(op, Op::SetLen(new) if *new > len)) {
            let within = |bytes: &mut Vec<u8>, op: &Op| {
                if matches!(op, Op::Write(offset, data) if offset + data.len() as u64 <= len) {
                    apply(bytes, op);
                }
            };
            images.push(("not the growth", self.with(within)));
        }
        for _ in 0..samples {
            let some = |bytes: &mut Vec<u8>, op: &Op| {
                if random.below(2) == 0 {
                    apply(bytes, op);
                }
            };
            images.push(("some writes", self.with(some)));
            let torn = |bytes: &mut Vec<u8>, op: &Op| match random.below(3) {
                0 => apply(bytes, op),
                1 => tear(bytes, op, random),
                _ => {}
            };
            images.push(("some writes, some of them torn", self.with(torn)));
        }
        images
    }
}
