//! The limits: programs that do nothing but the work itself, with no bookkeeping beyond what durability
//! asks for. Each prints the seconds of its parts.

mod deploy;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use deploy::deploy;

const BATCHES: usize = 5;
/// As many processors as a limit uses.
const THREADS: usize = 2;

/// Runs a limit as a program of its own; the seconds of its parts.
pub fn ask(arguments: &[&str]) -> Result<Vec<f64>> {
    let output = Command::new(std::env::current_exe()?).arg("limit").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "limit {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// The program.
pub fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let parts = match words[..] {
        ["wave", size] => wave(size.parse()?)?,
        ["noop", size] => no_op(size.parse()?)?,
        ["round-trip", count] => round_trip(count.parse()?)?,
        ["deploy", address, list, to] => vec![deploy(address, list.as_ref(), to.as_ref())?],
        _ => bail!("there is no such limit: {words:?}"),
    };
    let parts: Vec<_> = parts.iter().map(f64::to_string).collect();
    println!("{}", parts.join(" "));
    Ok(())
}

/// A file to which records are appended, and synced.
struct Journal(File);

impl Journal {
    fn create(directory: &tempfile::TempDir) -> Result<Self> {
        Ok(Self(File::create(directory.path().join("journal"))?))
    }

    fn record(&mut self, records: usize) -> Result<()> {
        self.0.write_all(&vec![b' '; 128 * records])?;
        Ok(self.0.sync_data()?)
    }
}

/// Starts N processes in batches, each batch executed before the next; then ends all of them.
fn wave(size: usize) -> Result<Vec<f64>> {
    let directory = tempfile::tempdir()?;
    let mut journal = Journal::create(&directory)?;
    let mut children: Vec<Child> = Vec::with_capacity(size);
    let begun = Instant::now();
    let per_batch = size.div_ceil(BATCHES);
    for batch in 0..BATCHES {
        let count = per_batch.min(size - children.len());
        let started: Vec<Result<Vec<Child>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn(move || (thread..count).step_by(THREADS).map(|_| sleeper()).collect())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        for started in started {
            children.extend(started?);
        }
        journal.record(batch % 2 + 1)?;
    }
    let up = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    journal.record(1)?;
    for child in &children {
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
    }
    for child in &mut children {
        child.wait()?;
    }
    journal.record(1)?;
    Ok(vec![up, begun.elapsed().as_secs_f64()])
}

/// `posix_spawn` returns when the program is executed.
fn sleeper() -> Result<Child> {
    let mut command = Command::new("/usr/bin/sleep");
    command.arg("infinity").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn()?)
}

/// Records that wait for the disk, and how many are there.
#[derive(Default)]
struct Queue {
    queued: usize,
    durable: usize,
    ended: bool,
}

/// Runs N times /bin/true in batches, a record before and after each; a batch ends when all are durable.
fn no_op(size: usize) -> Result<Vec<f64>> {
    let directory = tempfile::tempdir()?;
    let mut journal = Journal::create(&directory)?;
    let (queue, more, durable) = (Mutex::new(Queue::default()), Condvar::new(), Condvar::new());
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let put = || {
        lock().queued += 1;
        more.notify_one();
    };
    let begun = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let committer = scope.spawn(|| -> Result<()> {
            loop {
                let waits = |queue: &mut Queue| queue.queued == queue.durable && !queue.ended;
                let waiting = more.wait_while(lock(), waits).unwrap_or_else(PoisonError::into_inner);
                let (from, to) = (waiting.durable, waiting.queued);
                drop(waiting);
                if from == to {
                    return Ok(());
                }
                journal.record(to - from)?;
                lock().durable = to;
                durable.notify_all();
            }
        });
        let run = || -> Result<()> {
            for _ in 0..BATCHES {
                let mut running: VecDeque<Child> = VecDeque::new();
                let mut left = size / BATCHES;
                while left > 0 || !running.is_empty() {
                    while left > 0 && running.len() < THREADS {
                        put();
                        running.push_back(Command::new("/bin/true").env_clear().spawn()?);
                        left -= 1;
                    }
                    let ended = running.pop_front().context("something runs")?.wait()?;
                    ensure!(ended.success(), "/bin/true has failed");
                    put();
                }
                let waits = |queue: &mut Queue| queue.durable < queue.queued;
                drop(durable.wait_while(lock(), waits).unwrap_or_else(PoisonError::into_inner));
            }
            Ok(())
        };
        let ran = run();
        lock().ended = true;
        more.notify_one();
        committer.join().expect("it does not panic")?;
        ran
    })?;
    Ok(vec![begun.elapsed().as_secs_f64()])
}

/// The median of round trips of 128 and 256 bytes on an open Unix socket, and with connecting.
fn round_trip(count: usize) -> Result<Vec<f64>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 128];
            while stream.read_exact(&mut request).is_ok() && stream.write_all(&[b'.'; 256]).is_ok() {}
        }
    });
    let ask = |stream: &mut UnixStream| -> Result<()> {
        stream.write_all(&[b'?'; 128])?;
        Ok(stream.read_exact(&mut [0; 256])?)
    };
    let mut open = UnixStream::connect(&path)?;
    let on_open = median_of(count, || ask(&mut open))?;
    drop(open);
    Ok(vec![on_open, median_of(count, || ask(&mut UnixStream::connect(&path)?))?])
}

/// The median time of something that is done `count` times.
pub fn median_of(count: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seen = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        work()?;
        seen.push(begun.elapsed().as_secs_f64());
    }
    seen.sort_by(f64::total_cmp);
    seen.get(count / 2).copied().context("nothing was measured")
}
