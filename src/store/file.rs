//! The store's file: what may be opened as one, and whether it is still the one that was opened.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::open::{damaged, io_error};

/// The bits of a mode that let others than the owner read or write.
const OTHERS: u32 = 0o077;

/// Which file was opened. It may be removed or replaced while the daemon runs.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to the file that was opened.
    ///
    /// # Errors
    /// What happened to it.
    pub fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        match fs::symlink_metadata(&self.path) {
            Ok(now) if now.dev() == self.device && now.ino() == self.inode => Ok(()),
            Ok(_) => Err(format!("another file has taken the place of {path} while it was in use")),
            Err(error) => Err(format!("{path} has gone while it was in use: {error}")),
        }
    }
}

/// Leaves word for the next start that this daemon ended because its store failed: why the tasks were
/// interrupted can't be said in the store itself. Best effort: what can't write may not be able to
/// create a file either, and after a power cut nothing is known at all.
pub fn note_failure(path: &Path, why: &str) {
    let note = failure_of(path);
    let created = File::options().write(true).create(true).truncate(true).mode(0o600).open(&note);
    if let Err(error) = created.and_then(|mut file| writeln!(file, "{why}")) {
        tracing::warn!(file = %note.display(), %error, "cannot leave word that the store failed");
    }
}

/// The name of that note beside a store.
pub fn failure_of(path: &Path) -> PathBuf {
    path.with_extension("redb.failed")
}

/// Opens the file of an existing store for reading and writing.
pub fn open(path: &Path) -> Result<(File, Place), StoreError> {
    let file = open_with(path, File::options().read(true).write(true))?;
    let metadata = file.metadata().map_err(|error| io_error("read", path, error))?;
    let place = Place { path: path.to_path_buf(), device: metadata.dev(), inode: metadata.ino() };
    Ok((file, place))
}

/// Opens the file of an existing store for reading.
pub fn open_to_read(path: &Path) -> Result<File, StoreError> {
    open_with(path, File::options().read(true))
}

fn open_with(path: &Path, options: &mut fs::OpenOptions) -> Result<File, StoreError> {
    // Looked at before it is opened: opening a fifo would wait.
    let metadata = fs::symlink_metadata(path).map_err(|error| io_error("read", path, error))?;
    judge(path, &metadata)?;
    let options = options.custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path).map_err(|error| io_error("open", path, error))
}

/// Whether this can be the store: a file of our own that nobody else reads or writes.
fn judge(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    let refuse = |why: String| Err(StoreError::Unsafe { path: path.to_path_buf(), why });
    let (file, us) = (path.display(), nix::unistd::geteuid().as_raw());
    if metadata.is_symlink() {
        return refuse("it is a symbolic link; put the file itself there, or set stateDir".into());
    }
    if !metadata.is_file() {
        return refuse("it is not a regular file; move it away, and restore a backup in its place".into());
    }
    if metadata.uid() != us {
        let uid = metadata.uid();
        return refuse(format!("it belongs to user {uid}; if it is the right one: chown {us} {file}"));
    }
    if metadata.mode() & OTHERS != 0 {
        let mode = metadata.mode() & 0o7777;
        return refuse(format!(
            "others may read or change it (mode {mode:04o}); if it is the right one: chmod 600 {file}"
        ));
    }
    if metadata.len() == 0 {
        return Err(damaged(path, "it is empty"));
    }
    Ok(())
}

/// What says that a store was created here once: without it, a store that is gone would be taken for
/// one that never was, and everything that was in it would be silently forgotten.
pub fn mark(path: &Path) -> Result<(), StoreError> {
    let mark = mark_of(path);
    if mark.exists() {
        return Ok(());
    }
    let created = File::options().write(true).create(true).truncate(false).mode(0o600).open(&mark);
    created.map_err(|error| io_error("create", &mark, error))?;
    sync_directory(path)
}

/// Whether a store was created here once.
pub fn is_marked(path: &Path) -> bool {
    mark_of(path).exists()
}

/// The name of the mark beside a store.
pub fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("redb.created")
}

/// Seals the file of a store that was closed in good order: the next start needs not read all of it. The
/// seal names the very file as it is now, so that whatever touches it breaks the seal; and the daemon that
/// wrote it, for another one may see it with other eyes.
pub fn seal(path: &Path) -> io::Result<()> {
    let mut mark = File::options().write(true).truncate(true).open(mark_of(path))?;
    mark.write_all(seal_of(&fs::symlink_metadata(path)?).as_bytes())?;
    mark.sync_all()
}

/// Whether the file is as an orderly end has left it.
pub fn is_sealed(path: &Path) -> bool {
    let found = fs::read_to_string(mark_of(path)).ok();
    found.is_some() && found == fs::symlink_metadata(path).ok().as_ref().map(seal_of)
}

/// Breaks the seal, for the file is going to be written: on disk, since a power cut may leave a file with
/// new content and an old time.
pub fn break_seal(path: &Path) -> Result<(), StoreError> {
    let mark = mark_of(path);
    let broken = || -> io::Result<()> {
        let mark = File::options().write(true).open(&mark)?;
        if mark.metadata()?.len() > 0 {
            mark.set_len(0)?;
            mark.sync_all()?;
        }
        Ok(())
    };
    broken().map_err(|error| io_error("write", &mark, error))
}

fn seal_of(file: &Metadata) -> String {
    format!(
        "{} {} {} {} {}.{:09} {}.{:09}\n",
        env!("CARGO_PKG_VERSION"),
        file.dev(),
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec()
    )
}

/// Makes names in the directory of this file durable.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let synced: io::Result<()> = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| io_error("sync", directory, error))
}
