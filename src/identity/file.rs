//! The file `identity` of a state directory: who its daemon is, and where the directory was when it was written.
//!
//! A state directory that lies elsewhere now was moved, unless the place where it was still has the same identity:
//! then this one is a copy, and draws an identity of its own.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::random;

/// The file's name.
const NAME: &str = "identity";
/// Maximum size of the file, in bytes.
const LIMIT: u64 = 64 << 10;
/// Maximum number of former places that are kept.
const FORMER: usize = 16;
/// How long a look at the place where the directory was may take: that may be a mount that no longer answers.
const LOOK: Duration = Duration::from_secs(5);

/// The identity of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 32 hex digits.
    pub id: String,
    /// The state directory, without symbolic links.
    pub directory: PathBuf,
    /// All names by which the state directory is, or was, known while it had this identity.
    pub places: Vec<PathBuf>,
    /// How the directory came here.
    pub arrival: Arrival,
    record: Record,
}

/// How a state directory came to where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It had no identity.
    New,
    /// It is where it was.
    Same,
    /// Another directory has taken the place of the one that was here: it was restored as a whole.
    Replaced,
    /// It was there before.
    Moved(PathBuf),
    /// It is a copy of that one.
    Copied(PathBuf),
}

/// Why a daemon does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system refused.
    #[error("cannot {what} {path}: {source}. Check that the state directory is writable and has room")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file makes no sense.
    #[error(
        "cannot read {path}: {why}. Restore it from a copy; if there is none, remove it: deployd then draws a new \
         identity, and treats what runs as another daemon's"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Whether it is a copy can't be found out.
    #[error(
        "cannot find out whether the state directory {state} was moved or copied: cannot look at {before}, where it \
         was: {why}. Make that path readable, or remove it"
    )]
    Unclear {
        /// The state directory.
        state: PathBuf,
        /// Where it was.
        before: PathBuf,
        /// What is wrong.
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: String,
    path: PathBuf,
    inode: u64,
    /// When the directory was made, in nanoseconds since the epoch, where the file system knows: an inode's number may
    /// be given to another one, its birth not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    born: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    former: Vec<PathBuf>,
}

impl Identity {
    /// The identity of the daemon of this state directory, which must exist and be locked. What has changed is on disk
    /// when this returns, but for a directory that was [replaced](Arrival::Replaced): see [`Self::confirm`].
    ///
    /// # Errors
    /// When the file can't be read or written, or when it is not clear whether the directory is a copy.
    pub fn settle(state: &Path) -> Result<Self, IdentityError> {
        let error = |what| move |source| IdentityError::Io { what, path: state.to_path_buf(), source };
        let directory = fs::canonicalize(state).map_err(error("find"))?;
        let metadata = fs::metadata(&directory).map_err(error("look at"))?;
        let file = directory.join(NAME);
        let before = match read(&file) {
            Ok(record) => record,
            Err(Unreadable::System(source)) => {
                return Err(IdentityError::Io { what: "read", path: file, source });
            }
            Err(Unreadable::Content(why)) => return Err(IdentityError::Damaged { path: file, why }),
        };
        let arrival = match &before {
            None => Arrival::New,
            Some(record) => arrival(record, &directory, &metadata)?,
        };
        let (id, mut former) = match before {
            Some(record) if !matches!(arrival, Arrival::Copied(_)) => (record.id, record.former),
            _ => (draw().map_err(error("draw an identity for"))?, Vec::new()),
        };
        if let Arrival::Moved(from) = &arrival {
            former.retain(|place| place != from && *place != directory);
            former.push(from.clone());
            former.drain(..former.len().saturating_sub(FORMER));
        }
        let (path, inode, born) = (directory.clone(), metadata.ino(), born(&metadata));
        let record = Record { id: id.clone(), path, inode, born, former: former.clone() };
        // Another daemon may have moved in since.
        former.retain(|place| !is_taken(place, &id));
        let mut places = vec![directory.clone()];
        if state != directory {
            places.push(state.to_path_buf());
        }
        places.extend(former);
        let identity = Self { id, directory, places, arrival, record };
        if !matches!(identity.arrival, Arrival::Same | Arrival::Replaced) {
            identity.write()?;
        }
        Ok(identity)
    }

    /// What was restored is known: from now on this directory is the one that was here.
    ///
    /// # Errors
    /// When that can't be written down.
    pub fn confirm(&self) -> Result<(), IdentityError> {
        if self.arrival == Arrival::Replaced { self.write() } else { Ok(()) }
    }

    fn write(&self) -> Result<(), IdentityError> {
        let path = self.directory.join(NAME);
        write(&path, &self.record).map_err(|source| IdentityError::Io { what: "write", path, source })
    }
}

fn draw() -> io::Result<String> {
    let bytes: [u8; 16] = random::bytes()?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn arrival(record: &Record, directory: &Path, metadata: &Metadata) -> Result<Arrival, IdentityError> {
    let is_it = match (record.born, born(metadata)) {
        (Some(before), Some(now)) => before == now && record.inode == metadata.ino(),
        _ => record.inode == metadata.ino(),
    };
    if record.path == directory {
        return Ok(if is_it { Arrival::Same } else { Arrival::Replaced });
    }
    let before = record.path.clone();
    let unclear =
        |why: String| IdentityError::Unclear { state: directory.to_path_buf(), before: before.clone(), why };
    match look(&before).map_err(unclear)? {
        // Another name of this very directory.
        Some(there) if (there.device, there.inode) == (metadata.dev(), metadata.ino()) => {
            Ok(Arrival::Moved(before))
        }
        Some(there) if there.id.as_deref() == Some(&record.id) => Ok(Arrival::Copied(before)),
        _ => Ok(Arrival::Moved(before)),
    }
}

/// What is where a state directory was.
struct There {
    device: u64,
    inode: u64,
    id: Option<String>,
}

/// Looks at a directory that may be anybody's by now: `None` when it is gone.
fn look(directory: &Path) -> Result<Option<There>, String> {
    let (tell, told) = mpsc::channel();
    let path = directory.to_path_buf();
    let look = move || -> io::Result<Option<There>> {
        let gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        };
        let metadata = match fs::metadata(&path) {
            Err(error) if gone(&error) => return Ok(None),
            metadata => metadata?,
        };
        let id = match read(&path.join(NAME)) {
            Err(Unreadable::System(error)) if gone(&error) => None,
            Err(Unreadable::System(error)) => return Err(error),
            Err(Unreadable::Content(_)) | Ok(None) => None,
            Ok(Some(record)) => Some(record.id),
        };
        Ok(Some(There { device: metadata.dev(), inode: metadata.ino(), id }))
    };
    let thread = std::thread::Builder::new().name("identity".into());
    thread.spawn(move || drop(tell.send(look()))).map_err(|error| error.to_string())?;
    match told.recv_timeout(LOOK) {
        Ok(looked) => looked.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK.as_secs())),
    }
}

/// Whether another daemon lives where this one was. What can't be seen is nobody's.
fn is_taken(place: &Path, id: &str) -> bool {
    look(place).is_ok_and(|there| there.is_some_and(|there| there.id.is_some_and(|there| there != id)))
}

enum Unreadable {
    System(io::Error),
    Content(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// `None` when there is no such file.
fn read(file: &Path) -> Result<Option<Record>, Unreadable> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let opened = match OpenOptions::new().read(true).custom_flags(flags).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if !opened.metadata()?.is_file() {
        return Err(Unreadable::Content("it is not a regular file".into()));
    }
    let mut text = String::new();
    let read = opened.take(LIMIT).read_to_string(&mut text);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Unreadable::Content(error.to_string()),
        _ => Unreadable::System(error),
    })?;
    let record: Record =
        serde_json::from_str(&text).map_err(|error| Unreadable::Content(error.to_string()))?;
    let is_id = record.id.len() == 32 && record.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(Some(record)) } else { Err(Unreadable::Content("its `id` is not 32 hex digits".into())) }
}

fn write(file: &Path, record: &Record) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    written.write_all((serde_json::to_string(record).map_err(io::Error::other)? + "\n").as_bytes())?;
    written.sync_all()?;
    fs::rename(&temporary, file)?;
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn born(metadata: &Metadata) -> Option<u64> {
    let born = metadata.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(born.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(state: &Path) -> Identity {
        Identity::settle(state).unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        fs::copy(from.join(NAME), to.join(NAME)).unwrap();
    }

    #[test]
    fn an_identity_lasts_and_nobody_else_may_read_it() {
        let root = tempfile::tempdir().unwrap();
        let first = settle(root.path());
        assert_eq!((first.arrival.clone(), first.id.len()), (Arrival::New, 32));
        let again = settle(root.path());
        assert_eq!((again.arrival, again.id), (Arrival::Same, first.id));
        assert_eq!(fs::metadata(root.path().join(NAME)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_moved_directory_keeps_its_identity_and_remembers_where_it_was() {
        let root = tempfile::tempdir().unwrap();
        let [a, b, link] = ["a", "b", "link"].map(|name| root.path().join(name));
        fs::create_dir(&a).unwrap();
        let first = settle(&a);
        fs::rename(&a, &b).unwrap();
        let moved = settle(&b);
        assert_eq!((&moved.id, &moved.arrival), (&first.id, &Arrival::Moved(first.directory.clone())));
        assert_eq!(moved.places, [moved.directory.clone(), first.directory.clone()]);
        std::os::unix::fs::symlink(&b, &link).unwrap();
        let by_link = settle(&link);
        assert_eq!((&by_link.id, &by_link.arrival), (&first.id, &Arrival::Same));
        assert_eq!(by_link.places, [moved.directory, link, first.directory]);
        // Somebody else lives there now.
        fs::create_dir(&a).unwrap();
        assert_ne!(settle(&a).id, first.id);
        assert_eq!(settle(&b).places.len(), 1);
    }

    #[test]
    fn a_copy_draws_an_identity_of_its_own_and_the_original_keeps_its() {
        let root = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| root.path().join(name));
        fs::create_dir(&a).unwrap();
        let first = settle(&a);
        copy(&a, &b);
        copy(&a, &c);
        let copied = settle(&b);
        assert_eq!(copied.arrival, Arrival::Copied(first.directory.clone()));
        assert_ne!(copied.id, first.id);
        assert_eq!((settle(&b).arrival, settle(&b).id), (Arrival::Same, copied.id));
        assert_eq!((settle(&a).arrival, settle(&a).id), (Arrival::Same, first.id.clone()));
        // The original is gone: what is left of it was moved here.
        fs::remove_dir_all(&a).unwrap();
        assert_eq!(settle(&c).id, first.id);
    }

    #[test]
    fn a_directory_that_was_restored_in_place_is_noticed_and_keeps_its_identity() {
        let root = tempfile::tempdir().unwrap();
        let [a, backup] = ["a", "backup"].map(|name| root.path().join(name));
        fs::create_dir(&a).unwrap();
        let first = settle(&a);
        copy(&a, &backup);
        fs::rename(&a, root.path().join("away")).unwrap();
        fs::rename(&backup, &a).unwrap();
        let restored = settle(&a);
        assert_eq!((&restored.arrival, &restored.id), (&Arrival::Replaced, &first.id));
        // Whoever was killed before it was taken note of has to find it again.
        assert_eq!(settle(&a), restored);
        restored.confirm().unwrap();
        assert_eq!(settle(&a).arrival, Arrival::Same);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_and_left() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"id\":\"7\",\"path\":\"/\",\"inode\":1}", "\u{0}"] {
            let mut file = File::create(root.path().join(NAME)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let error = Identity::settle(root.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(fs::read_to_string(root.path().join(NAME)).unwrap(), text);
        }
        fs::remove_file(root.path().join(NAME)).unwrap();
        nix::unistd::mkfifo(&root.path().join(NAME), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(Identity::settle(root.path()), Err(IdentityError::Damaged { .. })));
    }
}
