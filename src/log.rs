//! The log, on standard error or in systemd's journal. Whoever was to read it may have stopped: what can't be written
//! is left out and counted, for nothing that the daemon does waits for its log.

pub mod journal;

use std::io::{self, Stderr, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::fmt::MakeWriter;

/// A reader that is only slow is waited for so long, in milliseconds; one that has not read then, not again.
const WAIT: u16 = 200;
/// A pipe that takes anything takes so much without waiting.
const AT_ONCE: usize = 4096;

/// What is said when somebody reads again.
fn lost(lines: u64) -> String {
    format!("{lines} lines of the log were lost: nobody read it")
}

/// Standard error, one line at a time.
#[derive(Debug, Default)]
pub struct Log {
    lost: Mutex<u64>,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines { lost: self.lost.lock().unwrap_or_else(PoisonError::into_inner), stderr: io::stderr() }
    }
}

/// One line, while no other thread writes.
#[derive(Debug)]
pub struct Lines<'a> {
    lost: MutexGuard<'a, u64>,
    stderr: Stderr,
}

impl Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if *self.lost > 0 && self.takes() {
            writeln!(self.stderr, "{}", lost(*self.lost))?;
            *self.lost = 0;
        }
        for part in line.chunks(AT_ONCE) {
            if !self.takes() {
                *self.lost += 1;
                break;
            }
            self.stderr.write_all(part)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines<'_> {
    /// Whether standard error takes something now.
    fn takes(&self) -> bool {
        let wait = if *self.lost == 0 { WAIT } else { 0 };
        let mut all = [PollFd::new(self.stderr.as_fd(), PollFlags::POLLOUT)];
        // What can't be asked (closed, no poll) is tried: that gives an error, or does not wait.
        poll(&mut all, PollTimeout::from(wait)).is_err() || all[0].any().unwrap_or(true)
    }
}
