//! The processes that read: who waits for the next request, who is talked to, who hangs.

use std::io::{self, BufReader, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Unread;
use super::server::{Answer, BROKEN, Request, receive, send, serve_on};

/// Maximum number of processes that hang: each of them is left behind.
const MAX_HUNG: usize = 16;
/// Maximum number of processes that wait for the next read.
const MAX_IDLE: usize = 2;
/// How often a wait looks whether it was cancelled.
const STEP: Duration = Duration::from_millis(100);
/// How long a process that was killed may take to end before it counts as hung.
const LAST_BREATH: Duration = Duration::from_millis(50);

/// Set when the caller gives up.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Gives up.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// All processes that read.
#[derive(Debug)]
pub(super) struct Pool {
    /// What is started as `BINARY reader`; `None`: a thread of this process.
    binary: Option<PathBuf>,
    idle: Mutex<Vec<Worker>>,
    hung: Mutex<Vec<(Child, PathBuf)>>,
}

impl Pool {
    pub(super) fn new(binary: Option<PathBuf>) -> Self {
        Self { binary, idle: Mutex::default(), hung: Mutex::default() }
    }

    /// Sends a request; the process that has answered, and its answer.
    pub(super) fn begin<'a>(
        &'a self,
        request: &Request,
        path: &'a Path,
        patience: Duration,
        cancel: &Cancel,
    ) -> Result<(Busy<'a>, Answer), Unread> {
        self.look_around(path)?;
        loop {
            let idle = self.idle().pop();
            let was_idle = idle.is_some();
            let worker = idle.map_or_else(|| Worker::start(self.binary.as_deref()), Ok)?;
            let mut busy = Busy { pool: self, worker: Some(worker), path, is_free: false };
            match busy.converse(request, patience, cancel) {
                // It has ended since it was last used: another one is asked.
                Err(Unread::System(nix::libc::EPIPE)) if was_idle => {}
                Ok(answer) => {
                    let is_refused = matches!(answer, Answer::System(_) | Answer::Unfit(_));
                    busy.is_free = is_refused;
                    return match answer {
                        Answer::System(errno) => Err(Unread::System(errno)),
                        Answer::Unfit(why) => Err(Unread::Unfit(why)),
                        answer => Ok((busy, answer)),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins nothing that is going to hang as well, nor more than can be left behind.
    fn look_around(&self, path: &Path) -> Result<(), Unread> {
        let mut hung = self.hung();
        hung.retain_mut(|(child, _)| matches!(child.try_wait(), Ok(None)));
        let text = match hung.iter().find(|(_, its)| its == path) {
            Some((child, _)) => format!(
                "an earlier read of it still hangs (process {}): its file system does not answer",
                child.id()
            ),
            None if hung.len() >= MAX_HUNG => {
                let (_, example) = &hung[0];
                format!(
                    "{MAX_HUNG} earlier reads still hang, one of them of {}: its file system does not answer",
                    example.display()
                )
            }
            None => return Ok(()),
        };
        Err(Unread::Crowded(text))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hung(&self) -> MutexGuard<'_, Vec<(Child, PathBuf)>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn nonsense() -> Unread {
    Unread::Unfit("the process that reads it has answered something else".into())
}

impl Drop for Pool {
    /// Leaves no process behind but what hangs.
    fn drop(&mut self) {
        for Worker { socket, child } in self.idle().drain(..) {
            drop(socket);
            if let Some(mut child) = child {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}

/// A process that reads, or a thread in its place.
#[derive(Debug)]
struct Worker {
    socket: BufReader<UnixStream>,
    child: Option<Child>,
}

impl Worker {
    fn start(binary: Option<&Path>) -> Result<Self, Unread> {
        let (socket, theirs) = UnixStream::pair()?;
        let socket = BufReader::new(socket);
        let Some(binary) = binary else {
            std::thread::Builder::new().name("reader".into()).spawn(move || serve_on(&theirs))?;
            return Ok(Self { socket, child: None });
        };
        let child = Command::new(binary)
            .arg("reader")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .current_dir("/")
            .spawn();
        let child =
            child.map_err(|error| Unread::Unfit(format!("cannot start a process that reads it: {error}")))?;
        Ok(Self { socket, child: Some(child) })
    }
}

/// A process that is being talked to. It is used again only when it is free in the end.
pub(super) struct Busy<'a> {
    pool: &'a Pool,
    worker: Option<Worker>,
    path: &'a Path,
    pub(super) is_free: bool,
}

impl Busy<'_> {
    fn socket<'b>(&'b mut self, patience: Duration, cancel: &'b Cancel) -> Patient<'b> {
        let worker = self.worker.as_mut().expect("it is there until it is dropped");
        Patient { socket: &mut worker.socket, patience, begun: Instant::now(), cancel }
    }

    fn converse(&mut self, request: &Request, patience: Duration, cancel: &Cancel) -> Result<Answer, Unread> {
        let mut socket = self.socket(patience, cancel);
        // It fits into the socket's buffer.
        send(socket.socket.get_mut(), request)?;
        socket.understand(receive)
    }

    pub(super) fn piece(
        &mut self,
        buffer: &mut [u8],
        patience: Duration,
        cancel: &Cancel,
    ) -> Result<usize, Unread> {
        let mut socket = self.socket(patience, cancel);
        let mut length = [0; 4];
        socket.understand(|socket| socket.read_exact(&mut length))?;
        if u32::from_le_bytes(length) == BROKEN {
            return Err(match socket.understand(receive)? {
                Answer::System(errno) => Unread::System(errno),
                Answer::Unfit(why) => Unread::Unfit(why),
                _ => nonsense(),
            });
        }
        let length = u32::from_le_bytes(length) as usize;
        let piece = buffer.get_mut(..length).ok_or_else(nonsense)?;
        socket.understand(|socket| socket.read_exact(piece))?;
        Ok(length)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let Some(Worker { socket, child }) = self.worker.take() else { return };
        let mut idle = self.pool.idle();
        if self.is_free && idle.len() < MAX_IDLE {
            idle.push(Worker { socket, child });
            return;
        }
        drop(idle);
        drop(socket);
        let Some(mut child) = child else { return };
        child.kill().ok();
        let begun = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if begun.elapsed() > LAST_BREATH {
                tracing::warn!(path = %self.path.display(), pid = child.id(), "a read hangs in the kernel; its process is left behind");
                self.pool.hung().push((child, self.path.to_path_buf()));
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A socket that is read until there is an answer, but not longer than this, and not after a cancellation.
struct Patient<'a> {
    socket: &'a mut BufReader<UnixStream>,
    patience: Duration,
    begun: Instant,
    cancel: &'a Cancel,
}

impl Patient<'_> {
    fn understand<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> Result<T, Unread> {
        work(self).map_err(|error| match error.kind() {
            _ if self.cancel.is_cancelled() => Unread::Cancelled,
            ErrorKind::TimedOut => Unread::Silent(self.patience),
            // The process has ended.
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Unread::System(nix::libc::EPIPE),
            _ => error.into(),
        })
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.socket.buffer().is_empty() {
            return self.socket.read(buffer);
        }
        loop {
            let rest = self.patience.saturating_sub(self.begun.elapsed());
            if rest.is_zero() || self.cancel.is_cancelled() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.get_ref().set_read_timeout(Some(rest.min(STEP)))?;
            match self.socket.read(buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
impl Pool {
    pub(super) fn idle_count(&self) -> usize {
        self.idle().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::reader::{PATIENCE, Reader, Wanted};

    fn wanted(path: &Path, max: u64) -> Wanted {
        Wanted { path: path.to_path_buf(), max, account: None }
    }

    /// A stand-in for a process whose file system is dead: it takes requests and never answers.
    fn silent() -> Worker {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        std::mem::forget(theirs);
        Worker { socket: BufReader::new(socket), child: Some(child) }
    }

    #[tokio::test]
    async fn read_that_hangs_ends_in_time_and_with_its_caller() {
        let reader = Reader::in_threads().patient(Duration::from_millis(300));
        reader.pool.idle().push(silent());
        let error = reader.read(wanted(Path::new("/dev/null"), 1)).await.unwrap_err();
        assert_eq!(error, Unread::Silent(Duration::from_millis(300)));
        let reader = Reader::in_threads();
        reader.pool.idle().push(silent());
        let hangs = reader.read(wanted(Path::new("/dev/null"), 1));
        assert!(tokio::time::timeout(Duration::from_millis(50), hangs).await.is_err());
        let begun = Instant::now();
        while Arc::strong_count(&reader.pool) > 1 {
            assert!(begun.elapsed() < PATIENCE, "the thread still waits");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn process_that_has_ended_is_replaced() {
        let reader = Reader::in_threads();
        let (socket, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        reader.pool.idle().push(Worker { socket: BufReader::new(socket), child: None });
        assert_eq!(reader.account("root".into()).await.unwrap().unwrap().uid, 0);
    }

    #[tokio::test]
    async fn what_hangs_is_not_read_again() {
        let reader = Reader::in_threads();
        let sleeper = || Command::new("sleep").arg("1000").spawn().unwrap();
        reader.pool.hung().push((sleeper(), "/dead/one".into()));
        let said = reader.read(wanted(Path::new("/dead/one"), 1)).await.unwrap_err().to_string();
        assert!(said.starts_with("an earlier read of it still hangs"), "{said}");
        assert!(reader.account("root".into()).await.is_ok());
        for number in 1..MAX_HUNG {
            reader.pool.hung().push((sleeper(), format!("/dead/{number}").into()));
        }
        // What was looked up a moment ago is known without a read.
        let said = reader.account("nobody".into()).await.unwrap_err().to_string();
        assert!(said.starts_with("16 earlier reads still hang, one of them of /dead/one"), "{said}");
        for (child, _) in &mut *reader.pool.hung() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(reader.account("nobody".into()).await.is_ok());
    }
}
