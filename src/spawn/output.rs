//! The output of a command on its way from its copier's file to whoever hears it.
//!
//! The file is read in small steps on threads for blocking work, and how far is noted: the next daemon goes on there
//! (what was passed on last before a crash may be passed on again).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use tokio_util::sync::CancellationToken;

use super::copier::{MAX_LINE, now, text_of};
use super::notes::Notes;
use crate::blocking;

/// Number of bytes that are read at once.
const CHUNK: usize = 128 << 10;
/// What was passed on is cut out of the file when it is as much as this.
const TOLD: u64 = 4 << 20;
/// How many lines are looked through for one that says something.
const LOOK_BACK: usize = 100;
/// How often the file is read when nothing more is in it: a file tells nobody that it grows.
const LOOK: Duration = Duration::from_millis(200);

/// Hears what a command prints, on threads for blocking work: whole lines, several at once, as a task's log has them.
pub trait Hear: Send + Sync + 'static {
    /// These lines come next.
    fn hear(&self, lines: &str);
}

impl<F: Fn(&str) + Send + Sync + 'static> Hear for F {
    fn hear(&self, lines: &str) {
        self(lines);
    }
}

/// Says something as if the command had printed it.
pub async fn say(hear: &Arc<dyn Hear>, who: &str, text: &str) {
    let (hear, line) = (hear.clone(), format!("{} {who}: {text}\n", now()));
    blocking::run(move || hear.hear(&line)).await;
}

/// The last of these lines that says something, without time and name.
pub fn last_line(lines: &str) -> Option<&str> {
    lines.lines().rev().take(LOOK_BACK).map(text_of).find(|text| !text.trim().is_empty())
}

/// Keeps the last lines, and passes all of them on.
pub struct LastLines {
    next: Option<Arc<dyn Hear>>,
    count: usize,
    lines: Mutex<VecDeque<String>>,
}

impl LastLines {
    /// The last lines of what passes through to `next`.
    pub fn new(count: usize, next: Option<Arc<dyn Hear>>) -> Arc<Self> {
        Arc::new(Self { next, count, lines: Mutex::default() })
    }

    /// The lines so far.
    pub fn get(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Hear for LastLines {
    fn hear(&self, lines: &str) {
        let mut last = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let newest: Vec<_> = lines.lines().rev().take(self.count).map(text_of).collect();
        for line in newest.into_iter().rev() {
            if last.len() == self.count {
                last.pop_front();
            }
            last.push_back(line.to_string());
        }
        drop(last);
        if let Some(next) = &self.next {
            next.hear(lines);
        }
    }
}

/// The output of a command.
pub struct Output {
    file: Option<Arc<File>>,
    note: Option<Arc<File>>,
    place: Place,
    hear: Arc<dyn Hear>,
}

/// How far an output was passed on.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// What stands before it was passed on.
    told: u64,
    /// Up to here there is nothing in the file any more.
    cut: u64,
    /// What stands behind it was not written by a copier.
    limit: u64,
}

impl Output {
    /// The output of a command that prints `limit` bytes at most.
    pub async fn of(notes: &Notes, limit: u64, hear: Arc<dyn Hear>) -> Self {
        let notes = notes.clone();
        let opened = move || {
            let note = open(&notes.path("at"), true).ok();
            let told = note.as_ref().and_then(read_number).unwrap_or(0);
            (open(&notes.path("out"), false).ok(), note, told)
        };
        let (file, note, told) = blocking::run(opened).await;
        let limit = limit.saturating_add(MAX_LINE as u64);
        let place = Place { told, cut: 0, limit };
        Self { file: file.map(Arc::new), note: note.map(Arc::new), place, hear }
    }

    /// Passes on what is printed until the command is over; `None`: it was cancelled before.
    pub async fn follow<T>(
        &mut self,
        over: impl Future<Output = T>,
        cancel: &CancellationToken,
    ) -> Option<T> {
        tokio::pin!(over);
        let ended = loop {
            // A step is never dropped: it would be repeated.
            let pause = if self.pass_on(false).await { Duration::ZERO } else { LOOK };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                ended = &mut over => break ended,
                () = tokio::time::sleep(pause) => {}
            }
        };
        // Nobody is going to complete the last line.
        while !cancel.is_cancelled() && self.pass_on(true).await {}
        Some(ended)
    }

    /// Whether there was something to pass on.
    async fn pass_on(&mut self, is_last: bool) -> bool {
        let Some(file) = self.file.clone() else { return false };
        let (note, hear, place) = (self.note.clone(), self.hear.clone(), self.place);
        let after = blocking::run(move || {
            let after = place.read(&file, is_last, &*hear)?;
            if let Some(note) = note {
                // As many digits as any number has: it overwrites the one before.
                note.write_all_at(format!("{:020}\n", after.told).as_bytes(), 0).ok();
            }
            Some(after.cut_out(&file))
        })
        .await;
        self.place = after.unwrap_or(place);
        after.is_some()
    }
}

impl Place {
    /// Passes on what is complete of the next chunk; `None`: nothing is.
    fn read(self, file: &File, is_last: bool, hear: &dyn Hear) -> Option<Self> {
        let room = usize::try_from(self.limit.saturating_sub(self.told)).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; room];
        let count = file.read_at(&mut chunk, self.told).ok()?;
        let whole = match chunk[..count].iter().rposition(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if is_last || count == CHUNK => count,
            None => 0,
        };
        if whole == 0 {
            return None;
        }
        let mut text = String::from_utf8_lossy(&chunk[..whole]);
        if !text.ends_with('\n') {
            text.to_mut().push('\n');
        }
        hear.hear(&text);
        Some(Self { told: self.told + whole as u64, ..self })
    }

    /// What was passed on takes no room any more. The file keeps its length: nothing written meanwhile is lost.
    fn cut_out(self, file: &File) -> Self {
        if self.told - self.cut < TOLD {
            return self;
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, mode, 0, i64::try_from(self.told).unwrap_or(0)).ok();
        Self { cut: self.told, ..self }
    }
}

/// A regular file: whatever was put into its place is not followed, and does not make anybody wait.
fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

fn read_number(file: &File) -> Option<u64> {
    let mut text = [0; 32];
    let count = file.read_at(&mut text, 0).ok()?;
    str::from_utf8(&text[..count]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::spawn::copier::Copier;

    /// Hears all, with the times taken off.
    fn ear() -> (Arc<Mutex<Vec<String>>>, Arc<dyn Hear>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let texts = heard.clone();
        let hear = move |lines: &str| {
            texts.lock().unwrap().extend(lines.lines().map(|line| text_of(line).to_string()));
        };
        (heard, Arc::new(hear))
    }

    fn begun() -> (tempfile::TempDir, Notes, File) {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path(), "deployd-build-1-0-1", "a.1.0.build");
        notes.begin(None).unwrap();
        let file = OpenOptions::new().append(true).open(notes.path("out")).unwrap();
        (directory, notes, file)
    }

    #[tokio::test]
    async fn output_is_passed_on_once_and_joined_where_it_was() {
        let (_directory, notes, file) = begun();
        let (heard, hear) = ear();
        let mut copier = Copier::new(file, "build", 1 << 20);
        copier.take(b"one\ntwo\nth");
        Output::of(&notes, 1 << 20, hear.clone()).await.pass_on(false).await;
        assert_eq!(*heard.lock().unwrap(), ["one", "two"]);
        copier.take(b"ree\n");
        copier.take(b"four");
        let mut joined = Output::of(&notes, 1 << 20, hear).await;
        joined.pass_on(false).await;
        copier.finish();
        assert_eq!(joined.follow(std::future::ready(7), &CancellationToken::new()).await, Some(7));
        assert_eq!(*heard.lock().unwrap(), ["one", "two", "three", "four"]);
    }

    #[tokio::test]
    async fn a_cancelled_flood_is_heard_no_further() {
        let (_directory, notes, file) = begun();
        let cancel = CancellationToken::new();
        let hear = Arc::new({
            let cancel = cancel.clone();
            move |_: &str| cancel.cancel()
        });
        Copier::new(file, "build", 64 << 20).take(&b"line\n".repeat(1 << 20));
        let mut output = Output::of(&notes, 64 << 20, hear).await;
        assert_eq!(output.follow(std::future::pending::<()>(), &cancel).await, None);
        assert!(output.place.told <= CHUNK as u64);
    }

    #[tokio::test]
    async fn what_was_passed_on_takes_no_room() {
        let (_directory, notes, file) = begun();
        let heard = Arc::new(Mutex::new(0));
        let count = heard.clone();
        let hear = Arc::new(move |lines: &str| *count.lock().unwrap() += lines.lines().count());
        let mut copier = Copier::new(file.try_clone().unwrap(), "build", 64 << 20);
        copier.take(&b"0123456789abcde\n".repeat(1 << 19));
        copier.finish();
        let mut output = Output::of(&notes, 64 << 20, hear).await;
        output.follow(std::future::ready(()), &CancellationToken::new()).await;
        assert_eq!(*heard.lock().unwrap(), 1 << 19);
        assert!(file.metadata().unwrap().blocks() * 512 < 5 << 20);
    }

    #[tokio::test]
    async fn whatever_stands_in_the_place_of_an_output_ends() {
        for put in ["link", "fifo", "huge", "old"] {
            let (directory, notes, mut file) = begun();
            let out = notes.path("out");
            match put {
                "huge" => file.set_len(1 << 40).unwrap(),
                "old" => file.write_all(b"of an earlier version\n").unwrap(),
                other => {
                    std::fs::remove_file(&out).unwrap();
                    if other == "link" {
                        let secret = directory.path().join("secret");
                        std::fs::File::create(&secret).unwrap().write_all(b"a secret\n").unwrap();
                        std::os::unix::fs::symlink(secret, &out).unwrap();
                    } else {
                        nix::unistd::mkfifo(&out, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
                    }
                }
            }
            let (heard, hear) = ear();
            let mut output = Output::of(&notes, 1 << 20, hear).await;
            output.follow(std::future::ready(()), &CancellationToken::new()).await;
            let heard = heard.lock().unwrap();
            match put {
                "huge" => assert!(heard.iter().map(String::len).sum::<usize>() <= (1 << 20) + MAX_LINE),
                "old" => assert_eq!(*heard, ["of an earlier version"]),
                _ => assert!(heard.is_empty(), "{heard:?}"),
            }
        }
    }
}
