//! Copies what a command prints from a pipe into a file, bounded, and line by line as a task's log has it:
//! `TIME WHO: TEXT`.
//!
//! A copier runs beside the command in a process of its own ([`super::shim`], [`super::relay`]), so that a command
//! outlives the daemon and never holds a file that it could make huge. The beginning of an output goes straight to
//! the file. What exceeds the limit is kept in memory, the last part of it, and follows at the end.

use std::fmt::Write as _;
use std::io::{self, Write};

/// Maximum number of bytes of a line; a longer one becomes several.
pub const MAX_LINE: usize = 16 << 10;
/// Maximum number of bytes of an output's end that are kept when its middle is left out.
const TAIL: u64 = 4 << 20;
/// Number of bytes of the line that says how much is left out, at most.
const NOTICE: usize = 256;

/// The time as it stands before each line: UTC, to the millisecond. It always has the same length.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// A number of bytes, for people.
pub fn amount(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let unit = ((bytes.ilog2() / 10) as usize).min(UNITS.len());
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit - 1])
}

/// The text of a line that a copier has written. One of an earlier version stands alone.
pub fn text_of(line: &str) -> &str {
    let is_time = |time: &str| time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z');
    let rest = line.split_once(' ').filter(|(time, _)| is_time(time)).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once(": ")).map_or(line, |(_, text)| text)
}

/// The output of one command on its way into a file.
pub struct Copier<W> {
    file: W,
    who: String,
    /// Number of bytes that the beginning may still take.
    head: usize,
    /// Maximum number of bytes of the end.
    end: usize,
    /// The end so far; twice as long as it may be, at most.
    tail: Vec<u8>,
    /// The beginning is complete: what comes belongs to the end.
    is_beyond: bool,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    left_out: u64,
    failed: Option<io::Error>,
    /// Only a part of the last line could be written.
    is_torn: bool,
    is_finished: bool,
}

impl<W: Write> Copier<W> {
    /// A copier that writes up to `limit` bytes into `file`, of what is printed by `who`.
    pub fn new(file: W, who: &str, limit: u64) -> Self {
        let end = (limit / 2).min(TAIL);
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            file,
            who: who.into(),
            head: size(limit - end),
            // The line that says what is left out has to fit, too.
            end: size(end).saturating_sub(NOTICE),
            tail: Vec::new(),
            is_beyond: false,
            line: Vec::new(),
            left_out: 0,
            failed: None,
            is_torn: false,
            is_finished: false,
        }
    }

    /// Takes what was read from the pipe.
    pub fn take(&mut self, mut bytes: &[u8]) {
        if self.is_finished {
            return;
        }
        let begin = self.begin();
        let mut lines = Vec::with_capacity(bytes.len() + 1024);
        while !bytes.is_empty() {
            let room = MAX_LINE - self.line.len();
            let reach = &bytes[..bytes.len().min(room)];
            let Some(end) = reach.iter().position(|&byte| byte == b'\n') else {
                self.line.extend_from_slice(reach);
                bytes = &bytes[reach.len()..];
                if self.line.len() == MAX_LINE {
                    self.cut_line(&begin, &mut lines);
                }
                continue;
            };
            if self.line.is_empty() {
                self.place(&bytes[..end], &begin, &mut lines);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.place(&line, &begin, &mut lines);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        self.write(&lines);
    }

    /// Writes the end. What is taken afterwards is dropped.
    pub fn finish(&mut self) {
        if self.is_finished {
            return;
        }
        let (begin, mut lines) = (self.begin(), Vec::new());
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.place(&line, &begin, &mut lines);
        }
        self.write(&lines);
        self.shorten();
        self.is_finished = true;
        let mut end = String::new();
        if self.is_torn {
            end.push('\n');
        }
        if self.left_out > 0 {
            let why = self.failed.take().map_or_else(String::new, |error| format!(" ({error})"));
            let _ = writeln!(end, "{begin}… {} of output left out here{why} …", amount(self.left_out));
        }
        let end = [end.as_bytes(), &self.tail].concat();
        self.tail = Vec::new();
        self.file.write_all(&end).ok();
    }

    /// How each line begins.
    fn begin(&self) -> String {
        format!("{} {}: ", now(), self.who)
    }

    /// A line that is too long becomes two, between two characters.
    fn cut_line(&mut self, begin: &str, lines: &mut Vec<u8>) {
        let mut line = std::mem::take(&mut self.line);
        let whole = match std::str::from_utf8(&line) {
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
            _ => line.len(),
        };
        self.line = line.split_off(whole);
        self.place(&line, begin, lines);
    }

    /// Puts a line where it belongs: to the beginning, or to the end.
    fn place(&mut self, line: &[u8], begin: &str, lines: &mut Vec<u8>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        let cost = begin.len() + text.len() + 1;
        self.is_beyond |= cost > self.head;
        let place = if self.is_beyond { &mut self.tail } else { lines };
        for part in [begin, &*text, "\n"] {
            place.extend_from_slice(part.as_bytes());
        }
        if !self.is_beyond {
            self.head -= cost;
        } else if self.tail.len() > 2 * self.end {
            self.shorten();
        }
    }

    fn write(&mut self, mut lines: &[u8]) {
        while !lines.is_empty() && self.failed.is_none() {
            match self.file.write(lines) {
                Ok(0) => self.failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.is_torn = lines[count - 1] != b'\n';
                    lines = &lines[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A full disk or a quota: what follows may find room again.
                Err(error) => self.failed = Some(error),
            }
        }
        if self.failed.is_some() {
            self.is_beyond = true;
            self.left_out += self.printed(lines);
        }
    }

    /// Drops the first lines of the end, as far as it is too long.
    fn shorten(&mut self) {
        let excess = self.tail.len().saturating_sub(self.end);
        if excess > 0 {
            let rest = self.tail[excess - 1..].iter().position(|&byte| byte == b'\n');
            let begin = rest.map_or(self.tail.len(), |rest| excess + rest);
            self.left_out += self.printed(&self.tail[..begin]);
            self.tail.drain(..begin);
        }
    }

    /// Number of bytes that the command has printed, of these lines.
    fn printed(&self, lines: &[u8]) -> u64 {
        let begins = count_lines(lines) * self.begin().len();
        lines.len().saturating_sub(begins) as u64
    }
}

#[expect(
    clippy::naive_bytecount,
    reason = "a crate for it would save nothing that matters: a pipe's chunk is small"
)]
fn count_lines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(limit: u64, parts: &[&[u8]]) -> Vec<String> {
        let mut file = Vec::new();
        let mut copier = Copier::new(&mut file, "build", limit);
        for part in parts {
            copier.take(part);
        }
        copier.finish();
        copier.take(b"too late\n");
        assert!(file.len() as u64 <= limit, "{} bytes", file.len());
        let text = String::from_utf8(file).unwrap();
        assert!(text.lines().all(|line| line[24..].starts_with(" build: ")), "{text}");
        text.lines().map(|line| text_of(line).to_string()).collect()
    }

    #[test]
    fn short_output_is_copied_as_it_is() {
        let parts: [&[u8]; 4] = [b"one\ntw", b"o\r\n\n", b"\x00\x1b[31m\xff\n", b"no end"];
        assert_eq!(copied(1 << 20, &parts), ["one", "two", "", "\0\u{1b}[31m\u{fffd}", "no end"]);
        assert!(copied(1 << 20, &[]).is_empty());
    }

    #[test]
    fn beginning_and_end_of_a_flood_are_kept_and_the_middle_is_counted() {
        let limit = 256 << 10;
        let lines: Vec<String> = (0..100_000).map(|number| format!("line {number}\n")).collect();
        let printed = lines.concat();
        let parts: Vec<&[u8]> = printed.as_bytes().chunks(40_000).collect();
        let copied = copied(limit, &parts);
        assert_eq!(copied[0], "line 0");
        assert_eq!(copied.last().unwrap(), "line 99999");
        let gap = copied.iter().position(|line| line.starts_with('…')).unwrap();
        assert_eq!(copied.iter().filter(|line| line.contains("left out")).count(), 1);
        let number = |line: &str| line[5..].parse::<usize>().unwrap();
        let (before, after) = (number(&copied[gap - 1]), number(&copied[gap + 1]));
        let missing: usize = lines[before + 1..after].iter().map(String::len).sum();
        assert_eq!(copied[gap], format!("… {} of output left out here …", amount(missing as u64)));
        assert!(gap > 1_000 && copied.len() - gap > 1_000, "{gap} of {}", copied.len());
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let copied = copied(1 << 20, &["ä".repeat(20_000).as_bytes(), b"\nnext\n"]);
        assert!(copied.iter().all(|line| !line.contains('\u{fffd}') && line.len() <= MAX_LINE));
        assert_eq!(copied.concat(), format!("{}next", "ä".repeat(20_000)));
        let zeros = vec![0; 3 << 20];
        let copied = self::copied(64 << 10, &[&zeros]);
        assert!(copied.iter().any(|line| line.contains("left out")), "{}", copied.len());
    }

    #[test]
    fn a_full_disk_is_told_where_the_output_is_missing() {
        struct Disk {
            full: std::rc::Rc<std::cell::Cell<bool>>,
            content: Vec<u8>,
        }
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.full.get() {
                    return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
                }
                let count = bytes.len().min(1_000);
                self.full.set(count < bytes.len());
                self.content.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let full = std::rc::Rc::default();
        let mut disk = Disk { full: std::rc::Rc::clone(&full), content: Vec::new() };
        let mut copier = Copier::new(&mut disk, "build", 1 << 20);
        copier.take(&b"a line\n".repeat(100));
        copier.take(b"after it\n");
        full.set(false);
        copier.finish();
        let text = String::from_utf8(disk.content).unwrap();
        assert!(
            text.contains("of output left out here (No space left on device (os error 28)) …\n"),
            "{text}"
        );
        assert!(text.ends_with("after it\n") && text.starts_with(char::is_numeric), "{text}");
    }

    #[test]
    fn amounts_are_readable() {
        let amounts = [0, 1023, 1024, 1536, 3_435_973_836, u64::MAX].map(amount);
        assert_eq!(amounts, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "3.1 GiB", "16777215.9 TiB"]);
    }
}
