//! What lies beside the store and says which history its directory has seen.
//!
//! Each start of a daemon is a session: a random number that stands in the store, and in the name of a file beside it.
//! A store without its file is not the one that was used here last. The file also says how far the journal has come
//! (kept up to date after each commit, without a sync: it outlives a killed daemon, not a power cut), so that a copy
//! of the store that was made and put back within one session is noticed, too.
//!
//! ```text
//! deployd.redb.session-<number>.next   made before the store has the number
//! deployd.redb.session-<number>        once it has
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::StoreError;
use super::file::sync_directory;
use super::open::io_error;

const MARK: &str = "session-";
const NEXT: &str = ".next";
/// Number of bytes of a file: four numbers of twenty digits, each with what follows it.
const LENGTH: usize = 84;

/// How far a history has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// The last entry of the journal.
    pub seq: u64,
    /// The last task.
    pub task: u64,
    /// The epoch.
    pub epoch: u64,
    /// When the store's file was made, in nanoseconds since the epoch; 0 where the file system does not know.
    born: u64,
}

/// The sessions of which there are files beside a store.
#[derive(Debug, Default)]
pub struct Beside {
    /// Those that the store had.
    had: BTreeMap<u64, Reached>,
    /// Those that it was about to have.
    next: BTreeMap<u64, Reached>,
}

/// The session that has begun.
#[derive(Debug)]
pub struct Session {
    file: File,
    reached: Reached,
}

impl Beside {
    /// What lies beside the store at `path`.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let error = |error| io_error("read what lies beside", path, error);
        let mut beside = Self::default();
        for file in files(path).map_err(error)? {
            let Some((number, is_next)) = number_of(path, &file) else { continue };
            let reached = read(&file).map_err(error)?;
            if is_next { &mut beside.next } else { &mut beside.had }.insert(number, reached);
        }
        Ok(beside)
    }

    /// Whether a store was used here by a version that knows sessions.
    pub fn is_empty(&self) -> bool {
        self.had.is_empty()
    }

    /// Whether the store at `path`, which had this session and has come to this entry, is the one that was used here
    /// last.
    pub fn continues(&self, path: &Path, session: Option<u64>, seq: u64) -> bool {
        let Some(session) = session else { return self.is_empty() };
        let reached = match (self.had.get(&session), self.next.get(&session)) {
            (Some(reached), _) if self.had.len() == 1 => reached,
            // Killed between the store's commit and the file's new name: the one before is still there.
            (None, Some(reached)) if self.had.len() <= 1 => reached,
            _ => return false,
        };
        let now = born(path);
        reached.seq <= seq && (reached.born == 0 || now == 0 || reached.born == now)
    }

    /// How far any history has come here.
    pub fn reached(&self) -> Reached {
        self.had.values().chain(self.next.values()).fold(Reached::default(), |most, it| Reached {
            seq: most.seq.max(it.seq),
            task: most.task.max(it.task),
            epoch: most.epoch.max(it.epoch),
            born: 0,
        })
    }
}

impl Session {
    /// Begins a session: its file is on disk before the store has its number.
    pub fn begin(path: &Path, number: u64, seq: u64, task: u64, epoch: u64) -> Result<Self, StoreError> {
        let next = file_of(path, number, NEXT);
        let reached = Reached { seq, task, epoch, born: born(path) };
        let made = || -> io::Result<File> {
            let file = File::options().write(true).create_new(true).mode(0o600).open(&next)?;
            write(&file, &reached)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = made().map_err(|error| io_error("write", &next, error))?;
        sync_directory(path)?;
        Ok(Self { file, reached })
    }

    /// The store has the number: what was before is over.
    pub fn confirm(path: &Path, number: u64) -> Result<(), StoreError> {
        let (next, mine) = (file_of(path, number, NEXT), file_of(path, number, ""));
        fs::rename(&next, &mine).map_err(|error| io_error("rename", &next, error))?;
        // None of this has to be durable: whoever finds the file of the session before beside it knows why.
        for file in files(path).map_err(|error| io_error("read what lies beside", path, error))? {
            if file != mine && number_of(path, &file).is_some() {
                fs::remove_file(&file).map_err(|error| io_error("remove", &file, error))?;
            }
        }
        Ok(())
    }

    /// The journal has come so far.
    pub fn note(&mut self, seq: u64, task: u64) {
        (self.reached.seq, self.reached.task) = (seq, task);
        if let Err(error) = write(&self.file, &self.reached) {
            tracing::warn!(%error, "cannot note beside the store how far its journal has come");
        }
    }
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn file_of(path: &Path, number: u64, end: &str) -> PathBuf {
    path.with_extension(format!("redb.{MARK}{number:016x}{end}"))
}

/// The number of a session, and whether it was only about to begin.
fn number_of(path: &Path, file: &Path) -> Option<(u64, bool)> {
    let name = file.file_name()?.to_str()?;
    let rest = name.strip_prefix(path.with_extension("redb.").file_name()?.to_str()?)?.strip_prefix(MARK)?;
    let (number, is_next) = rest.strip_suffix(NEXT).map_or((rest, false), |number| (number, true));
    Some((u64::from_str_radix(number, 16).ok()?, is_next))
}

fn read(file: &Path) -> io::Result<Reached> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(file)?;
    let mut text = String::new();
    file.take(LENGTH as u64).read_to_string(&mut text).ok();
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    // One that was cut off while it was written says nothing.
    Ok(Reached { seq: number(), task: number(), epoch: number(), born: number() })
}

fn write(file: &File, reached: &Reached) -> io::Result<()> {
    let Reached { seq, task, epoch, born } = reached;
    file.write_all_at(format!("{seq:020} {task:020} {epoch:020} {born:020}\n").as_bytes(), 0)
}

fn born(path: &Path) -> u64 {
    let born = || fs::metadata(path).ok()?.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok();
    born().and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store's directory, with sessions as a daemon leaves them.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            File::create(place.path()).unwrap();
            place
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("deployd.redb")
        }

        fn begin(&self, number: u64, seq: u64) -> Session {
            Session::begin(&self.path(), number, seq, 1, 1).unwrap()
        }

        fn pass(&self, number: u64, seq: u64) {
            self.begin(number, seq);
            Session::confirm(&self.path(), number).unwrap();
        }

        fn continues(&self, session: Option<u64>, seq: u64) -> bool {
            Beside::read(&self.path()).unwrap().continues(&self.path(), session, seq)
        }
    }

    #[test]
    fn the_store_that_was_used_last_continues_and_no_other_does() {
        let place = Place::new();
        assert!(place.continues(None, 0), "nothing was here before");
        assert!(!place.continues(Some(5), 0), "it was used elsewhere");
        place.pass(5, 10);
        assert!(place.continues(Some(5), 10) && place.continues(Some(5), 11));
        place.pass(6, 20);
        assert!(place.continues(Some(6), 20));
        assert!(!place.continues(Some(5), 30), "a copy of an earlier session");
        assert!(!place.continues(None, 30), "a copy of a version without sessions");
    }

    #[test]
    fn a_copy_put_back_within_its_session_is_noticed() {
        let place = Place::new();
        let mut session = place.begin(5, 10);
        Session::confirm(&place.path(), 5).unwrap();
        assert!(place.continues(Some(5), 10));
        session.note(12, 3);
        assert!(!place.continues(Some(5), 10));
        assert!(place.continues(Some(5), 12));
        assert_eq!(
            Beside::read(&place.path()).unwrap().reached(),
            Reached { seq: 12, task: 3, epoch: 1, born: 0 }
        );
    }

    #[test]
    fn a_start_that_was_killed_at_any_moment_is_no_restore() {
        let place = Place::new();
        place.pass(5, 10);
        place.begin(6, 10);
        assert!(place.continues(Some(5), 10), "before the commit");
        assert!(place.continues(Some(6), 11), "after the commit");
        place.begin(7, 11);
        assert!(place.continues(Some(6), 11), "twice");
        place.pass(8, 11);
        assert!(place.continues(Some(8), 11));
        assert!(!place.continues(Some(6), 11) && !place.continues(Some(7), 11));
    }

    #[test]
    fn a_directory_that_was_copied_over_the_present_one_is_noticed() {
        let place = Place::new();
        place.pass(5, 10);
        let old = fs::read(file_of(&place.path(), 5, "")).unwrap();
        place.pass(6, 20);
        let mut back = File::create(file_of(&place.path(), 5, "")).unwrap();
        io::Write::write_all(&mut back, &old).unwrap();
        assert!(!place.continues(Some(5), 10), "the file of the newer session is still there");
    }

    #[test]
    fn another_file_in_the_place_of_the_store_is_noticed() {
        let place = Place::new();
        place.pass(5, 10);
        let other = place.0.path().join("other");
        File::create(&other).unwrap();
        let before = born(&place.path());
        // The file system's clock is coarse: the other file must be born later than the first one.
        while before > 0 && born(&other) == before {
            fs::remove_file(&other).unwrap();
            File::create(&other).unwrap();
        }
        fs::rename(&other, place.path()).unwrap();
        if before > 0 {
            assert!(!place.continues(Some(5), 10));
        }
    }
}
