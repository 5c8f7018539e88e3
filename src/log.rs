//! The log, on standard error or in systemd's journal.
//!
//! Nothing that the daemon does waits for its log, and no failed write ends the daemon: a disk may be full, a reader
//! may be gone, stopped or slow. Lines that cannot be written are dropped and counted (`deployd_log_lines_lost_total`
//! in `/metrics`), and the next line that can be written is preceded by their number.

pub mod journal;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

use crate::metrics;

/// How long to wait for a journal that is only slow, in milliseconds.
const WAIT: u16 = 200;
/// Maximum number of bytes that wait for a slow reader of standard error.
const MAX_WAITING: usize = 1 << 20;
/// How long the end of the daemon waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the log says when it can be written again.
fn lost(lines: u64, why: &str) -> String {
    format!("{lines} lines of the log were lost: {why}")
}

/// Why lines are lost while the reader does not take them.
const NOT_READ: &str = "nobody read it";

/// Standard error. A thread of its own writes to it, so that only this thread waits for a reader.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of all lines in `entries`.
    bytes: usize,
    /// Whether the thread is writing an entry that it took from `entries`.
    writing: bool,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// This many lines found the queue full.
    Dropped(u64),
}

impl Log {
    /// Starts the thread.
    ///
    /// # Errors
    /// When standard error cannot be duplicated, or no thread can be started.
    pub fn start() -> io::Result<Self> {
        Self::to(io::stderr().as_fd().try_clone_to_owned()?)
    }

    fn to(file: OwnedFd) -> io::Result<Self> {
        let log = Self(Arc::default());
        let shared = log.0.clone();
        let mut stream = Stream { file, unsaid: 0, why: String::new(), is_cut: false };
        let write = move || {
            loop {
                stream.take(shared.next());
            }
        };
        std::thread::Builder::new().name("log".into()).spawn(write)?;
        Ok(log)
    }

    /// Waits until everything is written, for a moment at most: a reader that has stopped does not hold up our end.
    pub fn finish(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut queue = self.0.queue();
        while queue.writing || !queue.entries.is_empty() {
            let Some(rest) = deadline.checked_duration_since(Instant::now()) else { return };
            queue = self.0.changed.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Adds a line; drops it when too much is waiting already.
    pub fn add(&self, line: &[u8]) {
        let mut queue = self.0.queue();
        if queue.bytes + line.len() <= MAX_WAITING {
            queue.bytes += line.len();
            queue.entries.push_back(Entry::Line(line.to_vec()));
        } else {
            metrics::log_line_lost();
            match queue.entries.back_mut() {
                Some(Entry::Dropped(count)) => *count += 1,
                _ => queue.entries.push_back(Entry::Dropped(1)),
            }
        }
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next entry, as soon as there is one. The one before it is written.
    fn next(&self) -> Entry {
        let mut queue = self.queue();
        queue.writing = false;
        loop {
            if let Some(entry) = queue.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    queue.bytes -= line.len();
                }
                queue.writing = true;
                return entry;
            }
            self.changed.notify_all();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What the thread writes to.
struct Stream {
    file: OwnedFd,
    /// Number of lines that were lost and not mentioned yet.
    unsaid: u64,
    /// Why they were lost.
    why: String,
    /// Whether the last write ended inside a line.
    is_cut: bool,
}

impl Stream {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Dropped(count) => {
                self.unsaid += count;
                self.why = NOT_READ.into();
                self.mention();
            }
            Entry::Line(line) => {
                if !self.mention() || !self.write(&line) {
                    self.unsaid += 1;
                    metrics::log_line_lost();
                }
            }
        }
    }

    /// Says how many lines were lost, if any were.
    fn mention(&mut self) -> bool {
        if self.unsaid > 0 {
            let note = format!("{}\n", lost(self.unsaid, &self.why));
            if !self.write(note.as_bytes()) {
                return false;
            }
            self.unsaid = 0;
        }
        true
    }

    /// Writes a line, and waits for a reader as long as there is one.
    fn write(&mut self, line: &[u8]) -> bool {
        let end = if self.is_cut { &b"\n"[..] } else { b"" };
        let bytes = [end, line].concat();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Not by way of std's handle: whoever else wants to write there would wait for its lock.
            match rustix::io::write(&self.file, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut all = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut all, PollTimeout::NONE).ok();
                }
                Err(error) => {
                    let reader_is_gone = error == Errno::PIPE;
                    self.why = if reader_is_gone {
                        NOT_READ.into()
                    } else {
                        format!("cannot write to standard error: {}", io::Error::from(error))
                    };
                    self.is_cut |= rest.len() < bytes.len();
                    return false;
                }
            }
        }
        self.is_cut = false;
        true
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Never fails: tracing-subscriber would say so on standard error, and panic when that failed, too.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to standard error directly, in a program that is about to end; gives up when nobody reads it.
pub fn last_words(text: &str) {
    let line = format!("{text}\n");
    match Log::start() {
        Ok(log) => {
            log.add(line.as_bytes());
            log.finish();
        }
        Err(_) => drop(rustix::io::write(io::stderr(), line.as_bytes())),
    }
}

/// Lets panics speak through the log: the standard hook writes to standard error itself, and waits for its reader.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let text = panic.payload_as_str().unwrap_or("a panic without a message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_string();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(thread, place, %backtrace, "panicked: {text}");
        } else {
            tracing::error!(thread, place, "panicked: {text}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn read_line(from: &mut impl Read) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') && from.read(&mut byte).unwrap() == 1 {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn full_disk_costs_lines_only() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut stream = Stream { file: full.into(), unsaid: 0, why: String::new(), is_cut: false };
        let before = metrics::log_lines_lost();
        stream.take(Entry::Line(b"one\n".to_vec()));
        stream.take(Entry::Line(b"two\n".to_vec()));
        assert!(metrics::log_lines_lost() >= before + 2);
        let (mut reader, writer) = io::pipe().unwrap();
        stream.file = writer.into();
        stream.take(Entry::Line(b"three\n".to_vec()));
        let said = read_line(&mut reader);
        assert!(
            said.starts_with("2 lines of the log were lost: cannot write to standard error: No space"),
            "{said}"
        );
        assert_eq!(read_line(&mut reader), "three\n");
    }

    #[test]
    fn reader_that_is_gone_costs_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let log = Log::to(writer.into()).unwrap();
        for _ in 0..10 {
            writeln!(&mut log.clone(), "line").unwrap();
        }
        log.finish();
        assert!(log.0.queue().entries.is_empty());
    }

    /// Blocking or not, a reader that stops makes nobody wait; once it reads again, it gets everything that was queued,
    /// and then the number of lines that were not.
    #[test]
    fn stopped_reader_stops_nobody_and_learns_what_it_missed() {
        for is_blocking in [true, false] {
            let (mut reader, writer) = UnixStream::pair().unwrap();
            writer.set_nonblocking(!is_blocking).unwrap();
            let log = Log::to(writer.into()).unwrap();
            let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
            let count = 4 * MAX_WAITING / line.len();
            for _ in 0..count {
                log.add(&line);
            }
            let begun = Instant::now();
            log.finish();
            assert!(begun.elapsed() >= LAST_WORDS, "else everything was written, and this proves nothing");
            // Each gap is told where it is: lines that came after one may have found room again.
            let (mut taken, mut missed) = (0, 0);
            while taken + missed < count {
                let read = read_line(&mut reader);
                if read.len() == line.len() {
                    taken += 1;
                    continue;
                }
                let lines = read.split(' ').next().and_then(|number| number.parse().ok()).unwrap();
                assert_eq!(read, format!("{}\n", lost(lines, NOT_READ)));
                missed += usize::try_from(lines).unwrap();
            }
            assert!(taken >= MAX_WAITING / line.len() && missed > 0);
        }
    }

    #[test]
    fn line_that_was_cut_does_not_swallow_the_next_one() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut stream = Stream { file: writer.into(), unsaid: 0, why: String::new(), is_cut: true };
        stream.take(Entry::Line(b"next\n".to_vec()));
        assert_eq!(read_line(&mut reader), "\n");
        assert_eq!(read_line(&mut reader), "next\n");
    }
}
