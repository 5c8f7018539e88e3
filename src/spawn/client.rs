//! The daemon's end of the spawner.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::crashpoint::point;

use super::link::{LIMIT, Link, Refused, take};
use super::server::EXEC;
use super::{Launch, SpawnError, Spawned, Spec, stuck};

/// The spawner processes. Each is asked for one process at a time, so that what hangs holds up nothing else; one that
/// dies, or hangs for too long, is replaced.
pub struct Spawner(Arc<Shared>);

struct Shared {
    binary: PathBuf,
    directory: PathBuf,
    /// Those that have nothing to do.
    idle: Mutex<Vec<Arc<Link>>>,
    /// How many may be asked at the same time.
    places: Arc<Semaphore>,
    /// The numbers of the locks of those that are not gone.
    locks: Arc<Mutex<BTreeSet<usize>>>,
    /// How many of them there are while none is slow.
    usual: usize,
    /// How many were added for those that are slow.
    added: Mutex<usize>,
    /// When each process that is being started was asked for.
    asked: Mutex<Vec<Instant>>,
}

/// No more are started, on however many processors: each takes half a mebibyte, and what they start runs beside them.
const MAX_SPAWNERS: usize = 4;
/// Maximum number of spawners beside these, in the place of those that hang.
const MAX_ADDED: usize = 28;
/// What takes longer to start is slow: another spawner takes over its part.
const SLOW: Duration = Duration::from_millis(200);
/// How long a spawner may take to answer after what it was starting was ended.
const LATE: Duration = Duration::from_secs(2);

impl Spawner {
    /// Starts `binary spawner` for each processor, with locks in this directory.
    ///
    /// # Errors
    /// When they can't be started.
    pub fn start(binary: &Path, directory: &Path) -> io::Result<Arc<Self>> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_SPAWNERS);
        let shared = Shared {
            binary: binary.to_path_buf(),
            directory: directory.to_path_buf(),
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(count)),
            locks: Arc::default(),
            usual: count,
            added: Mutex::default(),
            asked: Mutex::default(),
        };
        for _ in 0..count {
            let link = shared.open()?;
            shared.idle().push(link);
        }
        Ok(Arc::new(Self(Arc::new(shared))))
    }

    /// Waits until the spawners of an earlier daemon are gone: then everything that daemon had asked for either runs
    /// with its final environment, or was never started. What still hangs after `patience` is ended, and never starts
    /// anything.
    ///
    /// # Errors
    /// When one can't be ended; the error names its process.
    pub fn wait_for_predecessors(directory: &Path, patience: Duration) -> io::Result<()> {
        let begun = Instant::now();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            if !name.to_str().is_some_and(|name| name.starts_with("spawner") && name.ends_with(".lock")) {
                continue;
            }
            let lock = directory.join(name);
            if take(&lock, patience.saturating_sub(begun.elapsed())).is_err() {
                let left = stuck::end_holders(&lock, |_| true)?;
                tracing::warn!(
                    processes = ?left,
                    "an earlier daemon was starting a program whose file system does not answer; it was ended"
                );
            }
        }
        Ok(())
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        locked(&self.idle)
    }

    /// Starts a spawner with the first lock that nobody holds. (What hangs may hold one for ever.)
    fn open(&self) -> io::Result<Arc<Link>> {
        let mut refused = None;
        for number in 0..2 * (MAX_SPAWNERS + MAX_ADDED) {
            if !locked(&self.locks).insert(number) {
                continue;
            }
            let locks = self.locks.clone();
            let on_close = move || drop(locked(&locks).remove(&number));
            match Link::open(&self.binary, &self.directory.join(lock_name(number)), on_close) {
                Ok(link) => return Ok(link),
                Err(error) => {
                    locked(&self.locks).remove(&number);
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Err(error);
                    }
                    refused = Some(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
    }

    /// A spawner that has nothing to do.
    fn link(&self) -> io::Result<Arc<Link>> {
        loop {
            let Some(link) = self.idle().pop() else { return self.open() };
            if !link.is_ending() {
                return Ok(link);
            }
            tracing::warn!("a spawner process is gone; starting another one");
        }
    }

    /// Waits for a place. As many are added as are taken by what is slow.
    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            let place = tokio::time::timeout(SLOW, self.places.clone().acquire_owned()).await;
            if let Ok(place) = place {
                return place.expect("it is never closed");
            }
            let slow = locked(&self.asked).iter().filter(|asked| asked.elapsed() >= SLOW).count();
            let mut added = locked(&self.added);
            if *added < slow.min(MAX_ADDED) {
                *added += 1;
                self.places.add_permits(1);
            }
        }
    }

    /// Gives back a place and a spawner; what was added goes first.
    fn leave(&self, place: OwnedSemaphorePermit, link: Arc<Link>, asked: Instant) {
        let mut all = locked(&self.asked);
        if let Some(index) = all.iter().position(|its| *its == asked) {
            all.swap_remove(index);
        }
        drop(all);
        let mut idle = self.idle();
        if idle.len() >= self.usual && link.has_nothing_running() {
            link.hang_up();
        } else if !link.is_ending() {
            idle.push(link);
        }
        drop(idle);
        let mut added = locked(&self.added);
        if *added > 0 {
            *added -= 1;
            place.forget();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first one is that of every version.
fn lock_name(number: usize) -> String {
    if number == 0 { "spawner.lock".into() } else { format!("spawner-{number}.lock") }
}

#[async_trait]
impl Launch for Spawner {
    async fn launch(&self, spec: Spec) -> Result<Spawned, SpawnError> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let place = self.0.place().await;
        point("before a process is asked for");
        let link = self.0.link().map_err(SpawnError::Spawner)?;
        let told = link.request(spec).map_err(SpawnError::Spawner)?;
        // To its end, whoever waits for it: until then the spawner is not asked for anything else.
        let asked = Instant::now();
        locked(&self.0.asked).push(asked);
        let asked = Asked { shared: self.0.clone(), link, place, asked };
        let answer = tokio::spawn(asked.answer(told));
        point("after a process was asked for");
        let answer = answer.await;
        point("after a process was started");
        let answer = answer.map_err(|error| SpawnError::Spawner(io::Error::other(error)))?;
        answer.map_err(|trouble| match trouble {
            Trouble::Refused(Refused { step, error }) if step == EXEC => {
                SpawnError::Exec { program, source: error }
            }
            Trouble::Refused(Refused { step, error }) => {
                SpawnError::Prepare { program, what: step, source: error }
            }
            Trouble::Stuck => SpawnError::Stuck { program, seconds: LIMIT.as_secs() },
            Trouble::Lost(error) => SpawnError::Spawner(error),
        })
    }
}

/// Why there is no process.
enum Trouble {
    Refused(Refused),
    /// It hung, was ended, and never ran its program.
    Stuck,
    /// Nothing is known.
    Lost(io::Error),
}

/// A request that was sent.
struct Asked {
    shared: Arc<Shared>,
    link: Arc<Link>,
    place: OwnedSemaphorePermit,
    asked: Instant,
}

type Told = oneshot::Receiver<Result<Spawned, Refused>>;

impl Asked {
    async fn answer(self, mut told: Told) -> Result<Spawned, Trouble> {
        let answer = match tokio::time::timeout(LIMIT, &mut told).await {
            Ok(Ok(answer)) => answer.map_err(Trouble::Refused),
            Ok(Err(_)) => Err(Trouble::Lost(io::Error::other("it ended before it had answered"))),
            Err(_) => self.give_up(&mut told).await,
        };
        self.shared.leave(self.place, self.link, self.asked);
        answer
    }

    /// Ends what hangs: what was to become the program, and if that does not help, the spawner.
    async fn give_up(&self, told: &mut Told) -> Result<Spawned, Trouble> {
        let spawner = self.link.pid();
        let ended = self.end_holders(move |pid| pid != spawner).await?;
        match tokio::time::timeout(LATE, told).await {
            // It was executed at the very last moment.
            Ok(Ok(Ok(spawned))) if !ended.contains(&spawned.pid) => return Ok(spawned),
            Ok(Ok(Err(refused))) => return Err(Trouble::Refused(refused)),
            Ok(_) => return Err(Trouble::Stuck),
            Err(_) => {}
        }
        tracing::warn!(pid = spawner, "a spawner process hangs; it is replaced");
        self.link.kill().map_err(Trouble::Lost)?;
        self.end_holders(|_| true).await?;
        Err(Trouble::Stuck)
    }

    /// Our own children, about to execute something else, may hold copies of the lock for a moment: they are spared.
    async fn end_holders(&self, which: impl Fn(i32) -> bool + Send + 'static) -> Result<Vec<i32>, Trouble> {
        let lock = self.link.lock.clone();
        let which = move |pid| stuck::is_spawning(pid) && which(pid);
        let ended = tokio::task::spawn_blocking(move || stuck::end_holders(&lock, which)).await;
        ended.map_err(io::Error::other).and_then(|ended| ended).map_err(Trouble::Lost)
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
        let link = Link::open(Path::new("/bin/grep"), &lock, || {}).unwrap();
        assert!(take(&lock, Duration::ZERO).is_err());
        assert!(!link.is_ending());
        // Whoever comes next ends what does not go.
        Spawner::wait_for_predecessors(directory.path(), Duration::ZERO).unwrap();
        assert!(take(&lock, LIMIT).is_ok());
    }
}
