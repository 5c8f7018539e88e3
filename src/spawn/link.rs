//! One life of a spawner process, seen from the daemon.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;

use crate::crashpoint::handling;

use super::outbox::{Message, Outbox};
use super::server::{Answer, Request, encode, read_body};
use super::{ExitStatus, Spawned, Spec, stuck};

/// How long the start of a process may take, up to its program.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// One life of a spawner process.
pub(super) struct Link {
    outbox: Outbox,
    /// Held by it, and by each child until its program is executed.
    pub lock: PathBuf,
    pid: Pid,
    process: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The spawner hung up; what it was just starting may still come.
    ending: bool,
    starting: HashMap<u64, oneshot::Sender<Result<Spawned, Refused>>>,
    running: HashMap<i32, oneshot::Sender<ExitStatus>>,
}

/// Why nothing was started.
pub(super) struct Refused {
    pub step: String,
    pub error: io::Error,
}

/// Takes the lock of a spawner, once neither one holds it nor what it was starting. It is held as long as somebody has
/// this descriptor, or one that was made of it.
pub(super) fn take(lock: &Path, patience: Duration) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(lock)?;
    let begun = Instant::now();
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK {
            return Err(error.into());
        }
        if begun.elapsed() > patience {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            let text = format!("an earlier spawner (process {}) still starts containers", holder.trim());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        // flock has no way to wait with a time limit.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

impl Link {
    pub fn open(
        binary: &Path,
        lock: &Path,
        on_close: impl FnOnce() + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let (ours, theirs) = UnixStream::pair()?;
        // Taken here and handed over: whatever we ask for, and whenever we are killed, the lock is held until the
        // spawner is done with it. Nothing holds it for longer than a fork takes.
        let held = take(lock, Duration::ZERO)?;
        let mut child = Command::new(binary)
            .arg("spawner")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(held))
            .env_clear()
            .current_dir("/")
            .spawn()?;
        let outbox = Outbox::open(ours.try_clone()?)?;
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let state = Mutex::new(State::default());
        let link = Arc::new(Self { outbox, lock: lock.to_path_buf(), pid, process, state });
        let (reader, readers_link, lock) = (ours, link.clone(), lock.to_path_buf());
        std::thread::Builder::new().name("spawner-read".into()).spawn(move || {
            let read = std::panic::AssertUnwindSafe(|| readers_link.read(&reader));
            if std::panic::catch_unwind(read).is_err() {
                tracing::error!("the reader of the spawner panicked; another spawner takes its place");
            }
            readers_link.state().ending = true;
            // Whatever ended the reading: the spawner has to end, too, or another one can't begin.
            reader.shutdown(std::net::Shutdown::Both).ok();
            // It has hung up, so it ends: no zombie is left.
            child.wait().ok();
            // Whoever is told that it is gone will look what has become of its request: not before that is decided.
            if take(&lock, LIMIT).is_err()
                && let Err(error) = stuck::end_holders(&lock, stuck::is_spawning)
            {
                tracing::error!(%error, "a spawner is gone, but not what it was starting");
            }
            readers_link.close();
            on_close();
        })?;
        Ok(link)
    }

    pub fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// Whether nobody waits for the end of a process that it has started.
    pub fn has_nothing_running(&self) -> bool {
        self.state().running.is_empty()
    }

    /// Lets it end. What it has started runs on.
    pub fn hang_up(&self) {
        self.state().ending = true;
        self.outbox.close();
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.process, Signal::KILL) {
            Err(Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn request(&self, spec: Spec) -> io::Result<oneshot::Receiver<Result<Spawned, Refused>>> {
        let (tell, told) = oneshot::channel();
        let id = {
            let mut state = self.state();
            if state.ending {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            state.next += 1;
            let id = state.next;
            state.starting.insert(id, tell);
            id
        };
        let directory = spec.directory.to_str().map(str::to_string);
        let request = Request {
            id,
            argv: spec.argv,
            environment: spec.environment.into_iter().collect(),
            directory: directory.ok_or_else(|| io::Error::other("the working directory is not UTF-8"))?,
            user: spec.user,
            open_files: spec.open_files,
            marker: spec.marker,
        };
        self.outbox.send(Message { bytes: encode(&request)?, sent: 0, output: Some(spec.output) })?;
        Ok(told)
    }

    fn read(&self, socket: &UnixStream) {
        let mut socket = io::BufReader::new(socket);
        let mut length = [0; 4];
        while socket.read_exact(&mut length).is_ok() {
            match read_body(&mut socket, length) {
                Ok(answer) => self.take(answer),
                Err(_) => break,
            }
        }
    }

    /// Nothing more will be answered.
    fn close(&self) {
        let mut state = self.state();
        // Dropping the senders tells everybody who waits.
        state.starting.clear();
        state.running.clear();
    }

    fn take(&self, answer: Answer) {
        handling("the reader of the spawner");
        let mut state = self.state();
        match answer {
            Answer::Started { id, pid, start_ticks } => {
                let (ended, exit) = oneshot::channel();
                state.running.insert(pid, ended);
                if let Some(waiting) = state.starting.remove(&id) {
                    waiting.send(Ok(Spawned { pid, start_ticks, exit })).ok();
                }
            }
            Answer::Failed { id, step, errno } => {
                if let Some(waiting) = state.starting.remove(&id) {
                    let error = io::Error::from_raw_os_error(errno);
                    waiting.send(Err(Refused { step, error })).ok();
                }
            }
            Answer::Exited { pid, status } => {
                if let Some(waiting) = state.running.remove(&pid) {
                    waiting.send(status).ok();
                }
            }
        }
    }
}
