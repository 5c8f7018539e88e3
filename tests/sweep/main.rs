//! The daemon is killed at every point that it meets: before and after every commit and every touch of
//! the host ([`deployd::crashpoint`]). Wherever that is, the release ends as it would have without, and
//! the containers themselves say that nothing was done twice and nothing was left out.
//!
//! Each scene is played undisturbed first, which lists its points; then once for each of them (without
//! `DEPLOYD_TEST_SCALE=100`: for each name, and a third of the others).

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

mod calls;
mod check;
mod refused;
mod scenes;
mod stage;
mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use deployd::crashpoint::{HOST, Side};
use deployd::task::event::Event;
use deployd::task::host_event::HostEvent;

use calls::Calls;
use harness::{Daemon, items};
use scenes::{SCENES, Scene};
use stage::{Kill, Life, Stage};

/// A kill, and the life of the daemon in which it comes.
type At = (usize, Kill);

/// A kill at each point of a life.
fn points(life: usize, trail: &[String]) -> Vec<At> {
    let mut counts = BTreeMap::<&String, u64>::new();
    let point = |name| {
        let count = counts.entry(name).or_default();
        *count += 1;
        (life, Kill::Point(name.clone(), *count))
    };
    trail.iter().map(point).collect()
}

/// Plays a scene to its end, with the daemon killed there, once in a life at most.
fn play(scene: impl Fn() -> Stage, kills: &[At]) -> Vec<Life> {
    let mut stage = scene();
    let mut lives: Vec<Life> = Vec::new();
    while lives.last().is_none_or(|life| !life.done) {
        assert!(lives.len() < 10, "{kills:?}: it does not come to an end:\n{}", stage.daemon.log());
        let kill = kills.iter().find(|(life, _)| *life == lives.len());
        lives.push(stage.live(kill.map(|(_, kill)| kill)));
    }
    check::check(&stage, &format!("killed {kills:?}"), lives.len());
    lives
}

/// Whether the kill came.
fn was_met((life, kill): &At, lives: &[Life]) -> bool {
    lives.get(*life).is_some_and(|life| life.met(kill))
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

/// Plays a scene once for each of these; how many kills came.
fn killed_at_each(scene: impl Fn() -> Stage + Sync, kills: &[At]) -> usize {
    let met = AtomicUsize::new(0);
    each(kills, |kill| {
        let lives = play(&scene, std::slice::from_ref(kill));
        met.fetch_add(usize::from(was_met(kill, &lives)), Ordering::Relaxed);
    });
    met.into_inner()
}

/// Of a scene's points, those that are killed at: in the long run all of them, else the first one of each name
/// and a third of the others.
fn chosen(all: Vec<At>) -> Vec<At> {
    let is_chosen =
        |(n, at): &(usize, At)| scale() >= 100 || n.is_multiple_of(3) || matches!(at.1, Kill::Point(_, 1));
    all.into_iter().enumerate().filter(is_chosen).map(|(_, at)| at).collect()
}

/// Kills at the points of a scene.
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn sweep(name: &str, scene: Scene) {
    let undisturbed = play(scene, &[]);
    let all: Vec<At> = undisturbed.iter().enumerate().flat_map(|(n, life)| points(n, &life.trail)).collect();
    let (count, chosen) = (all.len(), chosen(all));
    let met = killed_at_each(scene, &chosen);
    eprintln!("{name}: killed at {met} of {} points, of {count}", chosen.len());
    assert!(met * 10 >= chosen.len() * 8, "{name}: only {met} of {} points were met", chosen.len());
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
    stop_now,
    failure,
    housekeeping,
    catalog_reload,
    graceful_shutdown,
    branch_moves_on,
    prepared_in_advance,
);

#[test]
fn every_point_is_met_in_some_scene() {
    let mut met = BTreeSet::new();
    for (_, scene) in SCENES {
        let undisturbed = play(scene, &[]);
        // What follows a crash has points of its own.
        let again = points(0, &undisturbed[0].trail).into_iter().nth_back(1).unwrap();
        for life in undisturbed.into_iter().chain(play(scene, &[again])) {
            met.extend(life.trail);
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
    // Each seventh point of the first life (by default each fourteenth), and each tenth of the life that
    // follows.
    let step = if scale() >= 100 { 7 } else { 14 };
    let first = points(0, &play(scenes::five_ways, &[])[0].trail);
    let pairs: Vec<(At, usize)> = first
        .into_iter()
        .step_by(step)
        .enumerate()
        .flat_map(|(n, point)| (0..5).map(move |m| (point.clone(), m * 10 + n % 10)))
        .collect();
    let killed_twice = AtomicUsize::new(0);
    each(&pairs, |(point, m)| {
        let lives = play(scenes::five_ways, std::slice::from_ref(point));
        let Some(again) = lives.get(1).and_then(|life| points(1, &life.trail).into_iter().nth(*m)) else {
            return;
        };
        let lives = play(scenes::five_ways, &[point.clone(), again.clone()]);
        let both = was_met(point, &lives) && was_met(&again, &lives);
        killed_twice.fetch_add(usize::from(both), Ordering::Relaxed);
    });
    let killed_twice = killed_twice.into_inner();
    eprintln!("killed again during the recovery: {killed_twice} of {} pairs", pairs.len());
    assert!(killed_twice * 3 >= pairs.len(), "only {killed_twice} of {} pairs", pairs.len());
}

/// How much of what takes long is done, in per cent.
fn scale() -> u64 {
    std::env::var("DEPLOYD_TEST_SCALE").map_or(2, |scale| scale.parse().unwrap())
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn killed_before_a_system_call() {
    let scene = || {
        let mut stage = scenes::five_ways();
        stage.calls = Some(Calls::new(stage.daemon.path("calls")));
        stage
    };
    let calls = &play(scene, &[])[0].calls;
    let mut kills: Vec<At> = Vec::new();
    for (kind, count) in calls {
        assert!(*count > 0, "{kind} is never called");
        // Evenly spread, and three of each kind at least.
        let chosen = (count * scale() / 100).clamp(3.min(*count), *count);
        kills.extend((0..chosen).map(|i| (0, Kill::Call(kind, i * count / chosen + 1))));
    }
    let met = killed_at_each(scene, &kills);
    eprintln!("killed before {met} of {} system calls ({calls:?})", kills.len());
    assert!(met * 10 >= kills.len() * 8, "only {met} of {}", kills.len());
}

/// Killed again and again while one service is restarted all the time: the others never notice, and a
/// history does not keep the daemon from coming back.
#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn containers_never_notice_that_their_daemon_dies() {
    let mut daemon = Daemon::new();
    for id in 1..=5 {
        daemon.add(id, &[(&format!("c{id}"), "")], "");
    }
    daemon.launch();
    let all: Vec<_> = (1..=5).map(|id| (id, 0, "START", "")).collect();
    daemon.executed("all", &items(&all), "SUCCEEDED");
    let body = "{\"plan\": \"all\"}";
    for _ in 1..10 * scale() {
        let (_, task) = daemon.call("POST", "/v1/tasks", body);
        daemon.until_state(task["id"].as_u64().unwrap(), "SUCCEEDED");
    }
    let (status, ..) = daemon.http("POST", "/v1/plans?name=load", "", &items(&[(5, 0, "RESTART", "")]));
    assert_eq!(status, 201);
    let bystanders = |daemon: &Daemon| -> Vec<_> {
        // They are started together: who writes first is not who stands first in the catalog.
        let mut starts = daemon.witness();
        starts.retain(|start| start.container != "c5");
        starts.sort_by(|a, b| a.container.cmp(&b.container));
        starts.into_iter().map(|start| start.pid).collect()
    };
    let pids = bystanders(&daemon);
    let mut ready = Vec::new();
    for _ in 0..2 * scale() {
        // Whether an operation is going on just now is left to chance.
        daemon.http("POST", "/v1/tasks", "", "{\"plan\": \"load\"}");
        daemon.kill_9();
        let begun = Instant::now();
        daemon.launch();
        ready.push(begun.elapsed());
    }
    assert_eq!(bystanders(&daemon), pids, "started again: {}", daemon.log());
    let (_, services) = daemon.call("GET", "/v1/services", "");
    for (index, pid) in pids.iter().enumerate() {
        let container = &services["services"][index]["containers"][0];
        assert_eq!(
            (&container["state"], container["pid"].as_i64()),
            (&"running".into(), Some((*pid).into()))
        );
    }
    ready.sort_unstable();
    eprintln!(
        "ready again after at most {:?}, in the middle {:?}",
        ready[ready.len() - 1],
        ready[ready.len() / 2]
    );
}
