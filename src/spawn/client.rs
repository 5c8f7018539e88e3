//! The daemon's end of the spawner.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::crashpoint::{handling, point};

use super::outbox::{Message, Outbox};
use super::server::{Answer, EXEC, Request, encode, read_body};
use super::{ExitStatus, Launch, SpawnError, Spawned, Spec};

/// The spawner processes: what is started goes to the one that has the least to do. Each is started again if it dies.
pub struct Spawner {
    binary: PathBuf,
    slots: Vec<Slot>,
    /// Who is asked first when all have equally much to do.
    turn: AtomicUsize,
}

/// The place of one of them.
struct Slot {
    lock: PathBuf,
    link: Mutex<Arc<Link>>,
}

/// No more are started, on however many processors: each takes half a mebibyte, and what they start runs beside them.
const MAX_SPAWNERS: usize = 4;
/// How long it is waited for what a dead spawner was just starting.
const SETTLING: Duration = Duration::from_secs(30);

/// One life of a spawner process.
struct Link {
    outbox: Outbox,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The spawner hung up; what it was just starting may still come.
    ending: bool,
    /// Nothing more will be answered, and nothing more will come.
    closed: bool,
    starting: HashMap<u64, oneshot::Sender<Result<Spawned, Refused>>>,
    running: HashMap<i32, oneshot::Sender<ExitStatus>>,
}

struct Refused {
    step: String,
    error: io::Error,
}

impl Spawner {
    /// Starts `binary spawner` for each processor, with locks in this directory.
    ///
    /// # Errors
    /// When they can't be started.
    pub fn start(binary: &Path, directory: &Path) -> io::Result<Arc<Self>> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_SPAWNERS);
        let slots = (0..count).map(|number| {
            let lock = directory.join(lock_name(number));
            Ok(Slot { link: Mutex::new(Link::open(binary, &lock)?), lock })
        });
        let slots = slots.collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { binary: binary.to_path_buf(), slots, turn: AtomicUsize::new(0) }))
    }

    /// Waits until the spawners of an earlier daemon are gone: then everything that daemon had asked
    /// for either runs with its final environment, or was never started.
    ///
    /// # Errors
    /// When one is not gone in time; the error names its process.
    pub fn wait_for_predecessors(directory: &Path, patience: Duration) -> io::Result<()> {
        for number in 0..MAX_SPAWNERS {
            let lock = directory.join(lock_name(number));
            if number == 0 || lock.exists() {
                take(&lock, patience)?;
            }
        }
        Ok(())
    }

    fn link(&self) -> io::Result<Arc<Link>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = self.slots.iter().cycle().skip(turn % self.slots.len()).take(self.slots.len());
        let slot = in_turn.min_by_key(|slot| slot.link().waiting()).expect("there is one at least");
        let mut link = slot.link();
        if link.is_closed() {
            tracing::warn!("a spawner process is gone; starting another one");
            *link = Link::open(&self.binary, &slot.lock)?;
        }
        Ok(link.clone())
    }
}

impl Slot {
    fn link(&self) -> MutexGuard<'_, Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first one is that of every version.
fn lock_name(number: usize) -> String {
    if number == 0 { "spawner.lock".into() } else { format!("spawner-{number}.lock") }
}

/// Takes the lock of a spawner, once neither one holds it nor what it was starting. It is held as long as somebody has
/// this descriptor, or one that was made of it.
fn take(lock: &Path, patience: Duration) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(lock)?;
    let begun = Instant::now();
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK {
            return Err(error.into());
        }
        if begun.elapsed() > patience {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            let text = format!(
                "an earlier spawner (process {}) still starts containers; wait for it, or end it",
                holder.trim()
            );
            return Err(io::Error::other(text));
        }
        // flock has no way to wait with a time limit.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

#[async_trait]
impl Launch for Spawner {
    async fn launch(&self, spec: Spec) -> Result<Spawned, SpawnError> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let link = self.link().map_err(SpawnError::Spawner)?;
        point("before a process is asked for");
        let answer = link.request(spec).map_err(SpawnError::Spawner)?;
        point("after a process was asked for");
        let answer = answer.await;
        point("after a process was started");
        match answer {
            Ok(Ok(spawned)) => Ok(spawned),
            Ok(Err(Refused { step, error })) if step == EXEC => {
                Err(SpawnError::Exec { program, source: error })
            }
            Ok(Err(Refused { step, error })) => {
                Err(SpawnError::Prepare { program, what: step, source: error })
            }
            Err(_) => Err(SpawnError::Spawner(io::Error::other("it ended before it had answered"))),
        }
    }
}

impl Link {
    fn open(binary: &Path, lock: &Path) -> io::Result<Arc<Self>> {
        let (ours, theirs) = UnixStream::pair()?;
        // Taken here and handed over: whatever we ask for, and whenever we are killed, the lock is held until the
        // spawner is done with it. Nothing holds it for longer than a fork takes.
        let held = take(lock, Duration::from_secs(1))?;
        let mut child = Command::new(binary)
            .arg("spawner")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(held))
            .env_clear()
            .current_dir("/")
            .spawn()?;
        let outbox = Outbox::open(ours.try_clone()?)?;
        let link = Arc::new(Self { outbox, state: Mutex::new(State::default()) });
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
            if let Err(error) = take(&lock, SETTLING) {
                tracing::error!(%error, "a spawner is gone, but not what it was starting");
            }
            readers_link.close();
        })?;
        Ok(link)
    }

    fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// How many requests wait for its answer; to one that is ending none is sent if another one is there.
    fn waiting(&self) -> usize {
        let state = self.state();
        if state.ending && !state.closed { usize::MAX } else { state.starting.len() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, spec: Spec) -> io::Result<oneshot::Receiver<Result<Spawned, Refused>>> {
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
        state.closed = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in for a spawner waits for its input, and will never take a lock by itself.
    #[test]
    fn the_lock_is_held_before_a_spawner_could_take_it() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join(lock_name(0));
        let link = Link::open(Path::new("/bin/grep"), &lock).unwrap();
        assert!(take(&lock, Duration::ZERO).is_err());
        assert!(Spawner::wait_for_predecessors(directory.path(), Duration::ZERO).is_err());
        assert!(!link.is_closed());
    }
}
