//! The daemon is killed at every point that it meets: before and after every commit and every touch of
//! the host ([`deployd::crashpoint`]). Wherever that is, the release ends as it would have without, and
//! the containers themselves say that nothing was done twice and nothing was left out.
//!
//! Each scene is played undisturbed first, which lists its points; then once for each of them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/http.rs"]
mod http;

mod check;
mod scenes;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use deployd::crashpoint::{HOST, Side};
use deployd::task::event::Event;
use deployd::task::host_event::HostEvent;

use scenes::SCENES;
use stage::Stage;

/// A point: in which life of the daemon, its name, and which of its meetings.
type Point = (usize, String, u64);

/// The points of one life.
fn points(life: usize, trail: &[String]) -> Vec<Point> {
    let mut counts = BTreeMap::<&String, u64>::new();
    let point = |name| {
        let count = counts.entry(name).or_default();
        *count += 1;
        (life, name.clone(), *count)
    };
    trail.iter().map(point).collect()
}

/// Plays a scene to its end, with the daemon killed at these points, one in a life; the trail of each
/// life.
fn play(scene: fn() -> Stage, kills: &[Point]) -> Vec<Vec<String>> {
    let mut stage = scene();
    let mut trails = Vec::new();
    loop {
        let life = trails.len();
        assert!(life < 10, "{kills:?}: it does not come to an end:\n{}", stage.daemon.log());
        let kill = kills.iter().find(|point| point.0 == life);
        let (done, trail) = stage.live(kill.map(|(_, name, k)| (&**name, *k)));
        trails.push(trail);
        if done {
            break;
        }
    }
    check::check(&stage, &format!("killed {kills:?}"), trails.len());
    trails
}

/// Whether the kill came: its point may be met less often when things that go on at once change places.
fn was_met((life, name, k): &Point, trails: &[Vec<String>]) -> bool {
    trails.get(*life).is_some_and(|trail| trail.iter().filter(|met| *met == name).count() as u64 >= *k)
}

/// Does something with each of these, on all processors.
fn each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(item) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// Kills at every point of a scene.
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn sweep(name: &str, scene: fn() -> Stage) {
    let undisturbed = play(scene, &[]);
    let all: Vec<Point> =
        undisturbed.iter().enumerate().flat_map(|(life, trail)| points(life, trail)).collect();
    let met = AtomicUsize::new(0);
    each(&all, |point| {
        let trails = play(scene, std::slice::from_ref(point));
        met.fetch_add(usize::from(was_met(point, &trails)), Ordering::Relaxed);
    });
    let met = met.into_inner();
    eprintln!("{name}: killed at {met} of {} points", all.len());
    assert!(met * 10 >= all.len() * 9, "{name}: only {met} of {} points were met", all.len());
}

macro_rules! sweeps {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            sweep(stringify!($name), scenes::$name);
        })*

        #[test]
        fn every_scene_is_swept() {
            let swept = [$(stringify!($name)),*];
            assert_eq!(SCENES.map(|(name, _)| name), swept);
        }
    };
}

sweeps!(
    start_one_after_another,
    start_at_once,
    stop_and_restart,
    package,
    package_over_package,
    build_with_hooks,
    five_ways,
    two_tasks_one_paused,
    pause_in_the_middle,
    stop_in_the_middle,
    failure,
    housekeeping,
    catalog_reload,
    graceful_shutdown,
    branch_moves_on,
);

#[test]
fn every_point_is_met_in_some_scene() {
    let mut met = BTreeSet::new();
    for (_, scene) in SCENES {
        let undisturbed = play(scene, &[]);
        // What follows a crash has points of its own.
        let again = points(0, &undisturbed[0]).into_iter().nth_back(1).unwrap();
        for trail in undisturbed.into_iter().chain(play(scene, &[again])) {
            met.extend(trail);
        }
    }
    let commits = Event::NAMES.into_iter().chain(HostEvent::NAMES);
    let commits = commits.flat_map(|what| [Side::Before.of(what), Side::After.of(what)]);
    let all: BTreeSet<String> = HOST.map(str::to_string).into_iter().chain(commits).collect();
    assert!(all.len() >= 40, "{all:?}");
    let never: Vec<_> = all.difference(&met).collect();
    assert!(never.is_empty(), "a point that is never met proves nothing: {never:?}");
    let unknown: Vec<_> = met.difference(&all).collect();
    assert!(unknown.is_empty(), "not in the lists: {unknown:?}");
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn killed_again_during_the_recovery() {
    // Each seventh point of the first life, and each fifth of the life that follows.
    let first = points(0, &play(scenes::five_ways, &[])[0]);
    let pairs: Vec<(Point, usize)> = first
        .into_iter()
        .step_by(7)
        .enumerate()
        .flat_map(|(n, point)| (0..5).map(move |m| (point.clone(), (m * 5 + n) * 2)))
        .collect();
    let killed_twice = AtomicUsize::new(0);
    each(&pairs, |(point, m)| {
        let trails = play(scenes::five_ways, std::slice::from_ref(point));
        let Some(again) = trails.get(1).and_then(|trail| points(1, trail).into_iter().nth(*m)) else {
            return;
        };
        let trails = play(scenes::five_ways, &[point.clone(), again.clone()]);
        let both = was_met(point, &trails) && was_met(&again, &trails);
        killed_twice.fetch_add(usize::from(both), Ordering::Relaxed);
    });
    let killed_twice = killed_twice.into_inner();
    eprintln!("killed again during the recovery: {killed_twice} of {} pairs", pairs.len());
    assert!(killed_twice * 3 >= pairs.len(), "only {killed_twice} of {} pairs", pairs.len());
}
