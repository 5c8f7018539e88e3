//! Single bits of the file are wrong, or its end is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use deployd::store::{Change, Integrity, Store, StoreError};
use deployd::task::event::{Definition, Event};
use deployd::task::summary::TaskSummary;
use deployd::task::{Caller, Task, TaskId, Timestamp};

use crate::{put, scale};

/// Of a file of one or two MiB; the header stands in these bytes.
const HEADER: u64 = 320;

fn by() -> Caller {
    Caller { uid: 7, user: "somebody".into(), pid: Some(3), program: None }
}

async fn commit_tasks(store: &Store, from: i64, to: i64) {
    for at in from..to {
        let definition =
            Definition { plan: "shop".into(), revision: 1, comment: None, deployments: Vec::new() };
        let started = Event::Started { by: by(), definition };
        let change = Change::CreateTask { at: Timestamp(at), event: started.clone(), key: None };
        let id = store.commit(vec![change]).await.unwrap().task.unwrap();
        let mut task = Task::begin(id, &started, Timestamp(at)).unwrap();
        task.apply(&Event::Completed, Timestamp(at)).unwrap();
        let summary = TaskSummary::of(&task, 2);
        let (event, at) = (Event::Completed, Timestamp(at));
        store
            .commit(vec![Change::Append { task: id, n: 2, at, event, summary, records: Vec::new() }])
            .await
            .unwrap();
    }
    let text = vec![b'#'; 20_000];
    let (name, at) = ("shop".into(), Timestamp(to));
    let put = Change::PutPlan { name, at, by: by(), comment: None, items: 1, batches: 1, text };
    store.commit(vec![put]).await.unwrap();
}

/// The last entry, and all that can be read, as text.
fn content(store: &Store) -> Result<(u64, String), StoreError> {
    let snapshot = store.snapshot()?;
    let feed = snapshot.feed(0, None, usize::MAX)?;
    let last = feed.last().map_or(0, |entry| entry.seq);
    let tasks = snapshot.task_summaries(&[], None, usize::MAX)?;
    let one = snapshot.task(TaskId(1))?;
    Ok((last, format!("{feed:?}{tasks:?}{one:?}{:?}{:?}", snapshot.open_tasks()?, snapshot.plans()?)))
}

/// A directory with a store; the bytes of one that was closed, or of one that was killed; its content, and
/// the content before the last commit.
struct Stage {
    directory: tempfile::TempDir,
    closed: Vec<u8>,
    killed: Vec<u8>,
    now: (u64, String),
    before: (u64, String),
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deployd.redb");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Store::open(&path, &Integrity::Unchecked).unwrap();
        runtime.block_on(commit_tasks(&store, 0, 60));
        let before = content(&store).unwrap();
        let host = deployd::task::host_event::HostEvent::DaemonStopped;
        let last = Change::Host { at: Timestamp(99), event: host };
        runtime.block_on(store.commit(vec![last])).unwrap();
        let now = content(&store).unwrap();
        let killed = fs::read(&path).unwrap();
        store.close();
        drop(store);
        Self { closed: fs::read(&path).unwrap(), killed, now, before, directory }
    }

    /// Opens a file as a daemon does at its start; its content, or why it is refused.
    fn start(&self, number: usize, bytes: &[u8]) -> Result<(u64, String), String> {
        let path = self.file(number);
        put(&path, bytes);
        let integrity = Integrity::Child(Path::new(env!("CARGO_BIN_EXE_deployd")).to_path_buf());
        let opened = Store::open(&path, &integrity);
        let answer = match opened {
            Ok(store) => {
                let content = content(&store).unwrap();
                store.close();
                Ok(content)
            }
            Err(error) => {
                assert!(fs::read(&path).unwrap() == bytes, "it was changed: {error}");
                Err(error.to_string())
            }
        };
        fs::remove_file(&path).unwrap();
        fs::remove_file(path.with_extension("redb.created")).ok();
        answer
    }

    fn file(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("{number}.redb"))
    }
}

/// A bit of the n-th damaged file: one of four lies in the header, the others in pages that are used.
fn bit(bytes: &[u8], n: usize) -> (usize, u8) {
    let mut state = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    };
    let bit = 1 << below(8);
    if below(4) == 0 {
        return (usize::try_from(below(HEADER)).unwrap(), bit);
    }
    let used: Vec<_> = (0..bytes.len() / 4096)
        .filter(|page| bytes[page * 4096..(page + 1) * 4096].iter().any(|byte| *byte != 0))
        .collect();
    let page = used[usize::try_from(below(used.len() as u64)).unwrap()];
    (page * 4096 + usize::try_from(below(4096)).unwrap(), bit)
}

/// What came of many damaged files.
#[derive(Default, Debug)]
struct Tally {
    refused: AtomicUsize,
    harmless: AtomicUsize,
    one_commit_back: AtomicUsize,
}

fn on_all_processors(count: usize, each: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    each(n);
                }
            });
        }
    });
}

fn flip(count: usize, stage: &Stage, bytes: &[u8], may_go_back: bool) -> Tally {
    let tally = Tally::default();
    on_all_processors(count, |n| {
        let mut damaged = bytes.to_vec();
        let (at, bit) = bit(bytes, n);
        damaged[at] ^= bit;
        let counted = match stage.start(n, &damaged) {
            Ok(found) if found == stage.now => &tally.harmless,
            Ok(found) if may_go_back && found == stage.before => &tally.one_commit_back,
            Ok((last, _)) => panic!("bit {bit} of byte {at}: wrong data, up to entry {last}"),
            Err(why) => {
                assert!(why.contains("left untouched: restore a backup"), "bit {bit} of byte {at}: {why}");
                &tally.refused
            }
        };
        counted.fetch_add(1, Ordering::Relaxed);
    });
    eprintln!("{count} flips: {tally:?}");
    assert!(tally.refused.load(Ordering::Relaxed) > count / 20, "{tally:?}");
    tally
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let stage = Stage::new();
    flip(100 * scale(), &stage, &stage.closed, false);
}

/// After a crash the last commit may be incomplete, and nothing tells damage to it from that: then the
/// store is as it was before that commit. Nothing else is forgotten.
#[test]
fn a_flipped_bit_after_a_crash_costs_at_most_the_last_commit() {
    let stage = Stage::new();
    let tally = flip(100 * scale(), &stage, &stage.killed, true);
    assert!(tally.harmless.load(Ordering::Relaxed) > 0, "{tally:?}");
}

#[test]
fn a_store_whose_end_is_missing_is_refused() {
    let stage = Stage::new();
    let count = (30 * scale()).min(300);
    eprintln!("{count} lengths of a store that was closed, and of one that was killed");
    for bytes in [&stage.closed, &stage.killed] {
        on_all_processors(count, |n| {
            let len = bytes.len() * n / count;
            let why = stage.start(n, &bytes[..len]).unwrap_err();
            assert!(why.contains("left untouched: restore a backup"), "{len} bytes: {why}");
        });
    }
}
