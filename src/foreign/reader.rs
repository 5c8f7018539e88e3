//! The daemon's end of the reader processes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::pool::{Cancel, Pool, nonsense};
use super::server::{Answer, Head, PIECE, Request};
use super::{Account, Unread};
use crate::blocking;

/// How long a file system or a user database may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of reads at the same time.
const AT_ONCE: usize = 16;

/// How long a user that was found is not looked up again.
const FRESH: Duration = Duration::from_secs(2);

/// A file to read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its path.
    pub path: PathBuf,
    /// It may have so many bytes.
    pub max: u64,
    /// On whose behalf; `None`: the daemon's.
    pub account: Option<Account>,
}

/// Reads files in processes of its own.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) pool: Arc<Pool>,
    places: Arc<Semaphore>,
    /// Users that were found a moment ago: each start of a container asks for one.
    accounts: Arc<Mutex<HashMap<String, (Instant, Account)>>>,
    patience: Duration,
}

/// Gives up when it is dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Reader {
    /// Reads in processes of this program.
    pub fn new(binary: PathBuf) -> Self {
        Self::with(Some(binary), PATIENCE)
    }

    /// Reads in threads of this process: what hangs there stays until the process ends.
    pub fn in_threads() -> Self {
        Self::with(None, PATIENCE)
    }

    fn with(binary: Option<PathBuf>, patience: Duration) -> Self {
        let (pool, places) = (Arc::new(Pool::new(binary)), Arc::new(Semaphore::new(AT_ONCE)));
        Self { pool, places, accounts: Arc::default(), patience }
    }

    /// The same, but each answer and each piece of a file may take this long.
    #[must_use]
    pub fn patient(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The content of a file.
    ///
    /// # Errors
    /// When it cannot be read, is not a regular file, is too large, or does not come in time.
    pub async fn read(&self, wanted: Wanted) -> Result<Vec<u8>, Unread> {
        self.run(move |reader, cancel| reader.read_now(&wanted, cancel)).await
    }

    /// What is known about a regular file without reading it.
    ///
    /// # Errors
    /// When it cannot be opened or is not a regular file.
    pub async fn head(&self, path: PathBuf) -> Result<Head, Unread> {
        let request = Request::Head { path: path.as_os_str().as_bytes().to_vec() };
        self.run(move |reader, cancel| match reader.ask(&request, &path, cancel)? {
            Answer::Head(head) => Ok(head),
            _ => Err(nonsense()),
        })
        .await
    }

    /// The user of this name; `None` when there is none.
    ///
    /// # Errors
    /// When the system's user database cannot be asked.
    pub async fn account(&self, name: String) -> Result<Option<Account>, Unread> {
        let known = || self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, account)) = known().get(&name).filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Some(account.clone()));
        }
        let found = self.run(move |reader, cancel| reader.account_now(&name, cancel)).await?;
        if let Some(account) = &found {
            let mut known = known();
            known.retain(|_, (at, _)| at.elapsed() < FRESH);
            known.insert(account.name.clone(), (Instant::now(), account.clone()));
        }
        Ok(found)
    }

    /// Runs `work` on a thread for blocking work; it is cancelled when the caller goes away.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &Cancel) -> Result<T, Unread> + Send + 'static,
    ) -> Result<T, Unread> {
        let _place = self.places.acquire().await.expect("it is never closed");
        let cancel = CancelOnDrop(Cancel::default());
        let (reader, told) = (self.clone(), cancel.0.clone());
        blocking::run(move || work(&reader, &told)).await
    }

    /// As [`Reader::read`], on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn read_now(&self, wanted: &Wanted, cancel: &Cancel) -> Result<Vec<u8>, Unread> {
        let mut all = Vec::new();
        let add = |piece: &[u8]| -> Result<(), Unread> {
            all.extend_from_slice(piece);
            Ok(())
        };
        self.stream(wanted, cancel, |_| Ok(()), add)?;
        Ok(all)
    }

    /// The names in a directory, on this thread.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names_now(&self, path: &Path, cancel: &Cancel) -> Result<Vec<OsString>, Unread> {
        let request = Request::Names { path: path.as_os_str().as_bytes().to_vec() };
        match self.ask(&request, path, cancel)? {
            Answer::Names(names) => Ok(names.into_iter().map(OsString::from_vec).collect()),
            _ => Err(nonsense()),
        }
    }

    /// As [`Reader::account`], on this thread.
    ///
    /// # Errors
    /// As there.
    pub fn account_now(&self, name: &str, cancel: &Cancel) -> Result<Option<Account>, Unread> {
        let request = Request::Account { name: name.to_string() };
        match self.ask(&request, Path::new("the system's user database"), cancel)? {
            Answer::Account(account) => Ok(account),
            _ => Err(nonsense()),
        }
    }

    /// Reads a file piece by piece, on this thread: `admit` sees first what was opened. Each piece may take as long as
    /// a whole answer.
    ///
    /// # Errors
    /// When it cannot be read, is not a regular file, or is too large; what `admit` and `take` return.
    pub fn stream<E: From<Unread>>(
        &self,
        wanted: &Wanted,
        cancel: &Cancel,
        admit: impl FnOnce(&Head) -> Result<(), E>,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = wanted.path.as_os_str().as_bytes().to_vec();
        let request = Request::Read { path, max: wanted.max, account: wanted.account.clone() };
        let (mut worker, answer) = self.pool.begin(&request, &wanted.path, self.patience, cancel)?;
        let Answer::Head(head) = answer else { return Err(nonsense().into()) };
        admit(&head)?;
        let mut buffer = vec![0; PIECE];
        loop {
            match worker.piece(&mut buffer, self.patience, cancel)? {
                0 => break,
                count => take(&buffer[..count])?,
            }
        }
        worker.is_free = true;
        Ok(())
    }

    fn ask(&self, request: &Request, path: &Path, cancel: &Cancel) -> Result<Answer, Unread> {
        let (mut worker, answer) = self.pool.begin(request, path, self.patience, cancel)?;
        worker.is_free = true;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn wanted(path: &Path, max: u64) -> Wanted {
        Wanted { path: path.to_path_buf(), max, account: None }
    }

    #[tokio::test]
    async fn files_names_and_users_are_read_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content = b"0123456789 ".repeat(3 * PIECE / 11 + 2);
        fs::File::create(&path).unwrap().write_all(&content).unwrap();
        let reader = Reader::in_threads();
        assert!(reader.read(wanted(&path, 1 << 30)).await.unwrap() == content);
        assert_eq!(
            reader.read(wanted(&path, 10)).await.unwrap_err().to_string(),
            "it is larger than 10 bytes"
        );
        let head = reader.head(path.clone()).await.unwrap();
        assert_eq!((head.bytes, head.path()), (content.len() as u64, path.canonicalize().unwrap()));
        assert!(reader.head(directory.path().join("absent")).await.unwrap_err().is_absent());
        let names = reader.names_now(directory.path(), &Cancel::default()).unwrap();
        assert_eq!(names, ["file"]);
        assert_eq!(reader.account("root".into()).await.unwrap().unwrap().uid, 0);
        assert_eq!(reader.account("no-such-user".into()).await.unwrap(), None);
        // All of that by one thread.
        assert_eq!(reader.pool.idle_count(), 1);
    }
}
