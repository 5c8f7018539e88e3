//! A copy of the store as it is at one moment, while it is in use.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Key, ReadTransaction, ReadableTable, TableDefinition, Value, WriteTransaction};

use super::open::{builder, damaged, io_error};
use super::read::Snapshot;
use super::tables::each_table;
use super::{Store, StoreError};

impl Store {
    /// A complete store in a file of its own, at its beginning: what is acknowledged by now is in it.
    /// The file is in this directory and has no name, so that nothing of it is left, whatever happens.
    ///
    /// # Errors
    /// [`StoreError`] when there is no room, or when what is to be copied can't be read.
    pub fn backup(&self, directory: &Path) -> Result<File, StoreError> {
        let path = directory.join("deployd.redb.backup.tmp");
        // One at a time: they share the name, for a moment, and the room on the disk.
        let _one = self.inner.backups.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = nameless(&path).map_err(|error| io_error("create", &path, error))?;
        let copy = file.try_clone().map_err(|error| io_error("create", &path, error))?;
        let backend = FileBackend::new(copy).map_err(|error| damaged(&path, &error))?;
        let database =
            builder().create_with_backend(backend).map_err(|error| StoreError::Copy(error.to_string()))?;
        let copied = copy_all(&self.snapshot()?.transaction, &database);
        copied.map_err(|error| StoreError::Copy(error.to_string()))?;
        // A backup that can't be restored is found when it is made.
        Snapshot::take(&database)?.verify()?;
        database.close().map_err(|error| StoreError::Copy(error.to_string()))?;
        file.rewind().map_err(|error| io_error("read", &path, error))?;
        Ok(file)
    }
}

fn nameless(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

fn copy_all(from: &ReadTransaction, database: &redb::Database) -> Result<(), redb::Error> {
    let to = database.begin_write()?;
    each_table!(table => copy(from, &to, table)?);
    to.commit()?;
    Ok(())
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<(), redb::Error> {
    let from = from.open_table(table)?;
    let mut to = to.open_table(table)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}
