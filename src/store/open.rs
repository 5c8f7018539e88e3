//! Opening the store: never an empty one in the place of one that can't be read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, RwLock};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};
use tokio::sync::watch;

use super::file::{self, Place};
use super::ground::Ground;
use super::overlay::Overlay;
use super::queue::Queue;
use super::read::Snapshot;
use super::tables::{COUNTERS, SCHEMA, counter, each_table};
use super::{Inner, Store, StoreError, writer};
use crate::metrics::Metrics;

/// redb's cache. Its default is a gibibyte.
const CACHE: usize = 4 << 20;

/// Who checks an existing file before it is used.
#[derive(Debug, Clone)]
pub enum Integrity {
    /// `BINARY check-db FILE`: the check of a damaged file may panic or exhaust memory, and even
    /// that is an answer.
    Child(PathBuf),
    /// Nobody: for tests that open many stores.
    Unchecked,
}

impl Store {
    /// Opens the store in this file, or creates it.
    ///
    /// # Errors
    /// [`StoreError`] when it is damaged, newer or in use; then the file is left as it is.
    pub fn open(path: &Path, integrity: &Integrity) -> Result<Self, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(_) => {
                file::open_to_read(path)?;
                if let Integrity::Child(binary) = integrity
                    && !file::is_sealed(path)
                {
                    check_in_child(path, binary)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if file::is_marked(path) {
                    return Err(StoreError::Gone { path: path.to_path_buf(), mark: file::mark_of(path) });
                }
                create(path)?;
            }
            Err(error) => return Err(io_error("read", path, error)),
        }
        file::mark(path)?;
        file::break_seal(path)?;
        let (opened, place) = file::open(path)?;
        let backend = FileBackend::new(opened).map_err(|error| damaged(path, &error))?;
        let ground = Ground::new(backend).map_err(|error| io_error("read", path, error))?;
        let database = builder().create_with_backend(ground).map_err(|error| unusable(path, error))?;
        Self::start(database, path, Some(place))
    }

    /// Opens a store on a backend, or creates it on an empty one: for tests, which let it fail.
    pub fn open_with_backend(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let path = Path::new("(a backend)");
        let ground = Ground::new(backend).map_err(|error| io_error("read", path, error))?;
        let is_new = ground.len().map_err(|error| io_error("read", path, error))? == 0;
        let database = builder().create_with_backend(ground).map_err(|error| unusable(path, error))?;
        if is_new {
            make_tables(&database).map_err(|error| damaged(path, &error))?;
        }
        Self::start(database, path, None)
    }

    fn start(database: Database, path: &Path, place: Option<Place>) -> Result<Self, StoreError> {
        let (instance, seq) = read_counters(&database, path)?;
        let sealed = place.is_some().then(|| path.to_path_buf());
        let database = Arc::new(database);
        let queue = Arc::new(Queue::default());
        let requests = queue.clone();
        let (durable_sender, durable) = watch::channel(seq);
        let (failed_sender, failed) = watch::channel(false);
        let metrics = Arc::new(Metrics::new());
        let of_file = place.as_ref().map(|place| place.path().to_path_buf());
        let (writers, measured) = (database.clone(), metrics.clone());
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let tell =
                    writer::Tell { durable: &durable_sender, failed: &failed_sender, metrics: &measured };
                writer::run(&writers, place.as_ref(), &requests, &tell);
            })
            .map_err(|error| io_error("start the writer of", path, error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                database: RwLock::new(Some(database)),
                sealed,
                queue,
                writer: Mutex::new(Some(writer)),
                durable,
                failed,
                backups: Mutex::new(()),
                path: of_file,
                metrics,
                instance: format!("{instance:016x}"),
            }),
        })
    }
}

pub fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Creates a store under a temporary name and renames it: a kill in between leaves no half of one.
fn create(path: &Path) -> Result<(), StoreError> {
    let temporary = path.with_extension("redb.tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &temporary, error));
        }
        _ => {}
    }
    {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| io_error("create", &temporary, error))?;
        let backend = FileBackend::new(file).map_err(|error| damaged(&temporary, &error))?;
        let database = builder().create_with_backend(backend).map_err(|error| damaged(&temporary, &error))?;
        make_tables(&database).map_err(|error| damaged(&temporary, &error))?;
    }
    let synced = File::open(&temporary).and_then(|file| file.sync_all());
    synced.map_err(|error| io_error("sync", &temporary, error))?;
    fs::rename(&temporary, path).map_err(|error| io_error("rename", &temporary, error))?;
    file::sync_directory(path)
}

fn make_tables(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = database.begin_write()?;
    each_table!(table => transaction.open_table(table)?);
    {
        let mut counters = transaction.open_table(COUNTERS)?;
        if counters.get(counter::SCHEMA)?.is_none() {
            counters.insert(counter::SCHEMA, SCHEMA)?;
            counters.insert(counter::INSTANCE, random()?)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The instance and the last entry; refuses a layout that is not ours.
fn read_counters(database: &Database, path: &Path) -> Result<(u64, u64), StoreError> {
    let read = || -> Result<_, Box<dyn std::error::Error>> {
        let counters = database.begin_read()?.open_table(COUNTERS)?;
        let get = |name| -> Result<Option<u64>, redb::StorageError> {
            Ok(counters.get(name)?.map(|value| value.value()))
        };
        Ok((get(counter::SCHEMA)?, get(counter::INSTANCE)?, get(counter::SEQ)?))
    };
    match read().map_err(|error| damaged(path, &error))? {
        (Some(found), _, _) if found > SCHEMA => {
            Err(StoreError::Newer { path: path.to_path_buf(), found, known: SCHEMA })
        }
        (Some(_), Some(instance), seq) => Ok((instance, seq.unwrap_or(0))),
        _ => Err(damaged(path, &"it is no store of deployd")),
    }
}

fn check_in_child(path: &Path, binary: &Path) -> Result<(), StoreError> {
    let checked = Command::new(binary)
        .arg("check-db")
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io_error("run the check of", path, error))?;
    if checked.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&checked.stderr);
    match said.lines().rev().find_map(|line| line.strip_prefix(VERDICT)) {
        Some(verdict) => Err(StoreError::Refused(verdict.to_string())),
        None => Err(damaged(path, &format!("its check ended by {}", checked.status))),
    }
}

/// What the child of [`Integrity::Child`] says before it says what is wrong.
pub const VERDICT: &str = "deployd: ";

/// What the child of [`Integrity::Child`] does: every checksum of the file and every row is read.
/// Nothing is written.
///
/// # Errors
/// [`StoreError`] with what is wrong and what to do.
pub fn verify(path: &Path) -> Result<(), StoreError> {
    let overlay = Overlay::new(file::open_to_read(path)?).map_err(|error| io_error("read", path, error))?;
    // What damage makes redb do is not in our hands; that it panics is an answer, too.
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| verify_backend(overlay, path)));
    told.unwrap_or_else(|_| Err(damaged(path, "its content makes no sense")))
}

/// As [`verify`], of a store on a backend.
///
/// # Errors
/// [`StoreError`] with what is wrong.
pub fn verify_with_backend(backend: impl StorageBackend) -> Result<(), StoreError> {
    verify_backend(backend, Path::new("(a backend)"))
}

fn verify_backend(backend: impl StorageBackend, path: &Path) -> Result<(), StoreError> {
    // redb repairs on opening what a crash has left; that is part of what is checked.
    let mut database = builder().create_with_backend(backend).map_err(|error| unusable(path, error))?;
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => return Err(damaged(path, "its checksums are wrong")),
        Err(error) => return Err(unusable(path, error)),
    }
    read_counters(&database, path)?;
    match Snapshot::take(&database)?.verify() {
        Err(error @ (StoreError::Journal { .. } | StoreError::Read(_))) => Err(damaged(path, &error)),
        verified => verified,
    }
}

/// What the system refuses says nothing about the file.
fn unusable(path: &Path, error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) if error.raw_os_error().is_some() => {
            io_error("use", path, error)
        }
        error => damaged(path, &error),
    }
}

pub fn damaged(path: &Path, why: &(impl ToString + ?Sized)) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), why: why.to_string() }
}

pub fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_path_buf(), source: Arc::new(source) }
}
