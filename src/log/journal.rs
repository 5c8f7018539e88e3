//! The log in systemd's journal, field by field: `journalctl DEPLOYD_TASK=7`.

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{WAIT, lost};

/// Where journald takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Of a longer value only the beginning is told: an entry has to fit into one datagram.
const MAX_VALUE: usize = 16 << 10;

/// The journal. One that stands still holds up nothing: what it does not take is left out and counted.
#[derive(Debug)]
pub struct Journal(Mutex<Line>);

/// The way to journald.
#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    lost: u64,
}

impl Journal {
    /// The journal of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> io::Result<Self> {
        Self::open_at(SOCKET)
    }

    fn open_at(path: &str) -> io::Result<Self> {
        Ok(Self(Mutex::new(Line { socket: connect(path)?, lost: 0 })))
    }

    fn say(&self, entry: &Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).say(entry);
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(*event.metadata().level());
        entry.add("TARGET", event.metadata().target());
        event.record(&mut entry);
        self.say(&entry);
    }
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

impl Line {
    fn say(&mut self, entry: &Entry) {
        if self.lost > 0 {
            let mut note = Entry::new(Level::WARN);
            note.add("MESSAGE", &lost(self.lost));
            if !self.sends(&note) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.sends(entry) {
            self.lost += 1;
        }
    }

    fn sends(&mut self, Entry(bytes): &Entry) -> bool {
        match self.socket.send(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.lost == 0 => {
                // It may only be slow.
                let mut all = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut all, PollTimeout::from(WAIT)).ok();
                self.socket.send(bytes).is_ok()
            }
            // It was started anew, with another socket.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotConnected) => {
                connect(SOCKET).is_ok_and(|socket| {
                    self.socket = socket;
                    self.socket.send(bytes).is_ok()
                })
            }
            sent => sent.is_ok(),
        }
    }
}

/// An entry: name, length and value of each field, as journald understands it.
struct Entry(Vec<u8>);

impl Entry {
    fn new(level: Level) -> Self {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "5",
            Level::DEBUG => "6",
            Level::TRACE => "7",
        };
        let mut entry = Self(Vec::with_capacity(256));
        entry.add("PRIORITY", priority);
        entry.add("SYSLOG_IDENTIFIER", "deployd");
        entry
    }

    fn add(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(MAX_VALUE)];
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.add("MESSAGE", value);
        }
        let plain = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' };
        let name: String = "DEPLOYD_".chars().chain(field.name().chars().map(plain)).collect();
        self.add(&name, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").ok();
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn an_entry_has_its_fields_and_a_journal_that_stands_still_costs_lines_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let read = || {
            let mut entry = [0; 4096];
            let length = journald.recv(&mut entry).unwrap();
            String::from_utf8_lossy(&entry[..length]).into_owned()
        };
        let journal = Journal::open_at(path.to_str().unwrap()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            tracing::info!(task = 7, r#where = "a\nb", "well");
            let entry = read();
            for part in [
                "PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}5\n",
                "DEPLOYD_TASK\n\u{1}\0\0\0\0\0\0\u{0}7\n",
                "\0a\nb\n",
                "\0well\n",
            ] {
                assert!(entry.contains(part), "{part:?} is missing in {entry:?}");
            }
            // Nobody reads: none of these may wait for long.
            let begun = std::time::Instant::now();
            (0..5000).for_each(|number| tracing::info!(number));
            assert!(begun.elapsed() < std::time::Duration::from_secs(30));
            journald.set_nonblocking(true).unwrap();
            let mut taken = 0;
            let mut entry = [0; 4096];
            while journald.recv(&mut entry).is_ok() {
                taken += 1;
            }
            assert!(taken < 5000, "else it proves nothing");
            journald.set_nonblocking(false).unwrap();
            tracing::info!("again");
            assert!(read().contains(&lost(5000 - taken)));
            assert!(read().contains("again"));
        });
    }
}
