//! The power fails at any moment: what was acknowledged is there, and nothing else but what was being
//! written.
//!
//! The store runs on a disk that writes down every write, growth and sync ([`disk`]). At each of them
//! the power is cut: images are made of what was synced and of some of what was not, and each is checked
//! and opened as a daemon does at its start, and compared with a model of what has to be in it. The
//! number of images grows with `DEPLOYD_TEST_SCALE` (1 when absent); a run is repeated by its
//! `DEPLOYD_TEST_SEED`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/http.rs"]
mod http;
#[path = "../it/push.rs"]
mod push;
#[path = "../it/strace.rs"]
mod strace;

mod calls;
mod disk;
mod files;
mod releases;
mod workload;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use deployd::store::{Store, verify_with_backend};
use disk::{Disk, Op, Platter, Random};
use workload::{Content, Workload};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn scale() -> u64 {
    number("DEPLOYD_TEST_SCALE").unwrap_or(1)
}

/// One for the whole run.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = number("DEPLOYD_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        eprintln!("DEPLOYD_TEST_SEED={seed}");
        seed
    })
}

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// Something acknowledged is missing: the store is as it was earlier.
    Lost,
    /// It never was like this.
    Invented,
    /// The check or the start refuses it.
    Refused,
    /// They panic.
    Panicked,
}

/// Checks and opens an image; what is in it has to be what is acknowledged, or a request further.
fn judge(image: &[u8], contents: &[Content], acknowledged: usize, asked: usize) -> Result<(), Wrong> {
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        verify_with_backend(Disk::of(image.to_vec()))?;
        let store = Store::open_with_backend(Disk::of(image.to_vec()))?;
        let content = Content::of(&store.snapshot()?);
        store.close();
        content
    }));
    match opened {
        Err(_) => Err(Wrong::Panicked),
        Ok(Err(_)) => Err(Wrong::Refused),
        Ok(Ok(found)) if contents[acknowledged..=asked].contains(&found) => Ok(()),
        Ok(Ok(found)) if contents[..acknowledged].contains(&found) => Err(Wrong::Lost),
        Ok(Ok(_)) => Err(Wrong::Invented),
    }
}

/// What an image's recovery does to the disk.
fn recovery(image: &[u8]) -> Vec<Op> {
    let disk = Disk::of(image.to_vec());
    if let Ok(store) = Store::open_with_backend(disk.clone()) {
        store.close();
    }
    disk.log()
}

/// What was found: how many images, and which of them were wrong.
#[derive(Default)]
struct Findings {
    images: AtomicU64,
    wrong: Mutex<BTreeMap<(Wrong, &'static str), Vec<String>>>,
}

impl Findings {
    fn add(&self, kind: &'static str, place: impl Fn() -> String, verdict: Result<(), Wrong>) {
        self.images.fetch_add(1, Ordering::Relaxed);
        if let Err(wrong) = verdict {
            self.wrong.lock().unwrap().entry((wrong, kind)).or_default().push(place());
        }
    }

    fn count(&self, wanted: Wrong) -> usize {
        let wrong = self.wrong.lock().unwrap();
        wrong.iter().filter(|((wrong, _), _)| *wrong == wanted).map(|(_, places)| places.len()).sum()
    }
}

/// How a run is cut.
#[derive(Clone, Copy)]
struct Cuts {
    /// Of each random kind, at each operation of the disk.
    samples: usize,
    /// The power fails again during the recovery of every n-th image.
    twice: Option<usize>,
    /// Only at every n-th operation.
    step: usize,
}

/// Cuts the power at every operation of a run, on all processors.
fn cut(log: &[Op], contents: &[Content], cuts: Cuts) -> Findings {
    let findings = Findings::default();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let findings = &findings;
            scope.spawn(move || {
                let mut platter = Platter::default();
                let (mut acknowledged, mut asked) = (None, 0);
                for (index, op) in log.iter().enumerate() {
                    platter.take(op);
                    match op {
                        Op::Acknowledged(count) => acknowledged = Some(*count),
                        Op::Asked(count) => asked = *count,
                        _ => {}
                    }
                    // A store gets its name when it is complete: what is cut before that is no store.
                    let Some(acknowledged) = acknowledged else { continue };
                    let mine = (index / cuts.step) % workers == worker && index % cuts.step == 0;
                    if !mine || matches!(op, Op::Acknowledged(_) | Op::Asked(_)) {
                        continue;
                    }
                    let mut random = Random::new(seed() + index as u64);
                    let asked = asked.max(acknowledged);
                    for (number, (kind, image)) in
                        platter.images(cuts.samples, &mut random).into_iter().enumerate()
                    {
                        let place = || format!("operation {index}, image {number}");
                        findings.add(kind, place, judge(&image, contents, acknowledged, asked));
                        if cuts.twice.is_some_and(|n| (index + number) % n == 0) {
                            again(&image, &mut random, |image| {
                                let verdict = judge(image, contents, acknowledged, asked);
                                findings.add("cut again", place, verdict);
                            });
                        }
                    }
                }
            });
        }
    });
    findings
}

/// The power fails again at every operation of an image's recovery.
fn again(image: &[u8], random: &mut Random, mut judge: impl FnMut(&[u8])) {
    let mut platter = Platter { durable: image.to_vec(), pending: Vec::new() };
    for op in recovery(image) {
        platter.take(&op);
        for (_, image) in platter.images(1, random) {
            judge(&image);
        }
    }
}

/// Some tasks and plans on a disk.
fn run(disk: &Disk, tasks: u64, hasty: bool) -> (Vec<Op>, Vec<Content>) {
    let mut random = Random::new(seed());
    let mut workload = Workload::new(disk.clone());
    workload.hasty = hasty;
    for task in 0..tasks {
        workload.task(&mut random);
        // Every now and then the file has to grow.
        let bytes = if task % 5 == 2 { 400_000 } else { 300 };
        workload.plan(bytes);
        workload.prune();
    }
    let contents = workload.close();
    (disk.log(), contents)
}

#[test]
fn what_is_acknowledged_survives_a_power_cut_at_any_moment() {
    let (log, contents) = run(&Disk::of(Vec::new()), 10, false);
    // From 20 on it takes hours, and finds nothing else.
    let samples = usize::try_from(2 * scale().min(20)).unwrap();
    let found = cut(&log, &contents, Cuts { samples, twice: None, step: 1 });
    let images = found.images.load(Ordering::Relaxed);
    eprintln!("{images} images of {} requests", contents.len() - 1);
    assert!(images > 2000, "only {images} images");
    assert!(found.wrong.lock().unwrap().is_empty(), "{:#?}", found.wrong.lock().unwrap());
}

#[test]
fn a_power_cut_during_the_recovery_from_one_loses_nothing_either() {
    let (log, contents) = run(&Disk::of(Vec::new()), 4, false);
    let step = usize::try_from(12 / scale().min(12)).unwrap();
    let found = cut(&log, &contents, Cuts { samples: 1, twice: Some(step), step });
    let images = found.images.load(Ordering::Relaxed);
    eprintln!("{images} images, most of them cut twice");
    assert!(images > 1000, "only {images} images");
    assert!(found.wrong.lock().unwrap().is_empty(), "{:#?}", found.wrong.lock().unwrap());
}

/// The checks above have teeth: they find a store that does not sync (as `Durability::None` does not),
/// a disk that leaves out a single sync now and then, and an acknowledgement that comes too early.
#[test]
fn what_is_not_durable_is_found_missing() {
    let cuts = Cuts { samples: 1, twice: None, step: 3 };
    for (name, disk, hasty) in [
        ("no syncs", Disk::lying(1), false),
        ("one sync of nine is missing", Disk::lying(9), false),
        ("acknowledged before it is written", Disk::of(Vec::new()), true),
    ] {
        let (log, contents) = run(&disk, 2, hasty);
        let found = cut(&log, &contents, cuts);
        let wrong = found.wrong.lock().unwrap().clone();
        let summary: Vec<_> = wrong.iter().map(|(kind, places)| (kind, places.len())).collect();
        eprintln!("{name}: {summary:?}");
        let missed = found.count(Wrong::Lost) + found.count(Wrong::Refused) + found.count(Wrong::Panicked);
        assert!(missed > 0, "{name}: nothing was found");
        // A lying disk may also leave what is refused, by which sync is left out; this one is whole, and too old.
        assert!(!hasty || found.count(Wrong::Lost) > 0, "{name}: {summary:?}");
    }
}
