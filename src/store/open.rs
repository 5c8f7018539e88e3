//! Opening the store: never an empty one in the place of one that can't be read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};
use tokio::sync::watch;

use super::read::Snapshot;
use super::tables::{
    COUNTERS, EVENTS, FEED, HOST_EVENTS, KEYS, OPEN_TASKS, PLANS, REVISIONS, SCHEMA, TASKS, counter,
};
use super::{Inner, Store, StoreError, writer};

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
        if path.exists() {
            if let Integrity::Child(binary) = integrity {
                check_in_child(path, binary)?;
            }
        } else {
            create(path)?;
        }
        let database = builder().open(path).map_err(|error| damaged(path, &error))?;
        Self::start(database, path)
    }

    /// Opens a store on a backend, which tests use to let it fail.
    pub fn open_with_backend(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let path = Path::new("(a backend)");
        let database = builder().create_with_backend(backend).map_err(|error| damaged(path, &error))?;
        make_tables(&database).map_err(|error| damaged(path, &error))?;
        Self::start(database, path)
    }

    fn start(database: Database, path: &Path) -> Result<Self, StoreError> {
        let (instance, seq) = read_counters(&database, path)?;
        let database = Arc::new(database);
        let (queue, requests) = mpsc::channel();
        let (durable_sender, durable) = watch::channel(seq);
        let (failed_sender, failed) = watch::channel(false);
        let writers = database.clone();
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer::run(&writers, &requests, &durable_sender, &failed_sender))
            .map_err(|error| io_error("start the writer of", path, error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                queue: Mutex::new(Some(queue)),
                writer: Mutex::new(Some(writer)),
                durable,
                failed,
                instance: format!("{instance:016x}"),
            }),
        })
    }
}

fn builder() -> redb::Builder {
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
        let backend = redb::backends::FileBackend::new(file).map_err(|error| damaged(&temporary, &error))?;
        let database = builder().create_with_backend(backend).map_err(|error| damaged(&temporary, &error))?;
        make_tables(&database).map_err(|error| damaged(&temporary, &error))?;
    }
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&temporary).map_err(|error| io_error("sync", &temporary, error))?;
    fs::rename(&temporary, path).map_err(|error| io_error("rename", &temporary, error))?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    sync(directory).map_err(|error| io_error("sync", directory, error))
}

fn make_tables(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = database.begin_write()?;
    {
        let mut counters = transaction.open_table(COUNTERS)?;
        if counters.get(counter::SCHEMA)?.is_none() {
            counters.insert(counter::SCHEMA, SCHEMA)?;
            counters.insert(counter::INSTANCE, random()?)?;
        }
        transaction.open_table(REVISIONS)?;
        transaction.open_table(PLANS)?;
        transaction.open_table(TASKS)?;
        transaction.open_table(OPEN_TASKS)?;
        transaction.open_table(EVENTS)?;
        transaction.open_table(HOST_EVENTS)?;
        transaction.open_table(FEED)?;
        transaction.open_table(KEYS)?;
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
    let why = said.lines().rev().find(|line| !line.trim().is_empty());
    let why = why.map_or_else(|| format!("its check ended by {}", checked.status), str::to_string);
    Err(StoreError::Damaged { path: path.to_path_buf(), why })
}

/// What the child of [`Integrity::Child`] does: every checksum of the file and every row is read.
///
/// # Errors
/// What is wrong, for people.
pub fn verify(path: &Path) -> Result<(), String> {
    // redb repairs on opening what a crash has left; that is part of what is checked.
    let mut database = builder().open(path).map_err(|error| error.to_string())?;
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => return Err("its checksums are wrong".into()),
        Err(error) => return Err(error.to_string()),
    }
    read_counters(&database, path).map_err(|error| error.to_string())?;
    let snapshot = Snapshot::take(&database).map_err(|error| error.to_string())?;
    snapshot.verify().map_err(|error| error.to_string())
}

fn damaged(path: &Path, why: &(impl ToString + ?Sized)) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), why: why.to_string() }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_path_buf(), source: Arc::new(source) }
}
