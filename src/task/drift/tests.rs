//! What holds of every row of the table, and containers as the guard sees them.

mod table;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::catalog::{Container, Health, Hooks, RuntimeKind, Service};
use crate::plan::ContainerOrder;
use crate::task::deployment::DeploymentSpec;
use crate::task::event::{Definition, Event};
use crate::task::evidence::{Deeds, Observed, deeds};
use crate::task::operation::{Done, Evidence, OperationEnd, Renewal};
use crate::task::{Caller, Failure, Reason, Timestamp};

/// The task that is to be resumed; its last event is entry 100 of the journal.
const ME: TaskId = TaskId(5);
const LAST: u64 = 100;
/// The id of its operation.
const MINE: &str = "x.5.0.0";

fn upload() -> Way {
    Way::HttpUpload { uri: "http://localhost/p".into(), sha256: None }
}

/// A process of this boot.
fn run(pid: i32) -> Incarnation {
    Incarnation::Process { boot_id: "a".into(), pid, start_ticks: 1 }
}

fn unit(boot: &str, invocation: &str) -> Incarnation {
    Incarnation::Unit { boot_id: boot.into(), invocation: invocation.into() }
}

fn engine(id: &str, started: &str) -> Incarnation {
    Incarnation::Engine { id: id.into(), started: started.into() }
}

fn place() -> Place {
    (ServiceId::new(1).unwrap(), "c".into())
}

/// A task that does `way` to one container, after these events.
fn task(way: Way, events: &[Event]) -> Task {
    let container =
        Container { name: "c".into(), labels: Vec::new(), environment: BTreeMap::new(), unit: None };
    let service = Service {
        id: place().0,
        name: "s".into(),
        description: None,
        runtime: RuntimeKind::Process,
        containers: vec![container],
        run: None,
        health: Health {
            probe: None,
            interval: std::time::Duration::ZERO,
            timeout: std::time::Duration::ZERO,
            settle: std::time::Duration::ZERO,
        },
        build: None,
        hooks: Hooks::default(),
        shared_paths: Vec::new(),
        keep_releases: 1,
        strip_components: 0,
    };
    let spec = DeploymentSpec {
        service: Arc::new(service),
        priority: 0,
        way,
        order: ContainerOrder::Parallel,
        labels: Vec::new(),
        containers: vec!["c".into()],
    };
    let by = Caller { uid: 0, user: "u".into(), pid: None, program: None };
    let definition = Definition { plan: "p".into(), revision: 1, comment: None, deployments: vec![spec] };
    let mut task = Task::begin(ME, &Event::Started { by, nonce: None, definition }, Timestamp(0)).unwrap();
    for event in events {
        task.apply(event, Timestamp(0)).unwrap();
    }
    task
}

/// What the task has done so far.
#[derive(Debug, Clone)]
enum Begun {
    Nothing,
    Doubt(Evidence),
    Ended(Evidence, Done),
    Failed,
}

fn at_rest(way: &Way, begun: &Begun) -> Task {
    let to = way.needs_artifact().then(|| "v2".to_string());
    let begin = |evidence: &Evidence| Event::OperationBegun {
        deployment: 0,
        operation: 0,
        evidence: evidence.clone(),
        to_release: to.clone(),
    };
    let end = |result| Event::OperationEnded {
        deployment: 0,
        operation: 0,
        end: OperationEnd { result, detail: String::new(), settled: None },
    };
    let mut events = vec![Event::DeploymentBegun { deployment: 0 }];
    match begun {
        Begun::Nothing => {}
        Begun::Doubt(evidence) => events.push(begin(evidence)),
        Begun::Ended(evidence, done) => events.extend([begin(evidence), end(Ok(done.clone()))]),
        Begun::Failed => {
            let failure = Failure { code: "f".into(), message: "f".into(), log: Vec::new() };
            events.extend([begin(&Evidence::default()), end(Err(failure))]);
        }
    }
    events.push(Event::Interrupted { reason: Reason::DaemonDied });
    task(way.clone(), &events)
}

fn touch(task: u64, seq: u64) -> (u64, Touch) {
    let (service, container) = place();
    (seq, Touch { service, container, task: TaskId(task), user: "alice".into(), way: "RESTART".into() })
}

fn change(task: u64, seq: u64, release: &str, incarnation: Option<Incarnation>) -> (u64, ContainerChange) {
    let (service, container) = place();
    let change = ContainerChange {
        service,
        container,
        task: TaskId(task),
        at: Timestamp(0),
        user: "alice".into(),
        way: "START".into(),
        done: true,
        from_release: None,
        release: Some(release.into()),
        incarnation,
    };
    (seq, change)
}

/// A container and what the store knows of it.
#[derive(Debug, Clone, Default)]
struct Scene {
    seen: Seen,
    touch: Option<(u64, Touch)>,
    changes: Vec<(u64, ContainerChange)>,
}

impl Scene {
    fn of(seen: Seen) -> Self {
        Self { seen, ..Self::default() }
    }

    fn on(release: &str) -> Seen {
        Seen { release: Some(release.into()), ..Seen::default() }
    }

    fn up(incarnation: Incarnation, operation: &str, release: &str) -> Self {
        Self::of(Self::on(release).running(incarnation, operation.into()))
    }

    fn down(release: &str) -> Self {
        Self::of(Self::on(release))
    }

    /// It ended, and what says who started it is still there.
    fn ended(operation: &str, release: &str) -> Self {
        Self::of(Self::on(release).ended(operation.into(), false))
    }

    /// Its runtime starts it again and again.
    fn looping(operation: &str, release: &str) -> Self {
        let observed = Observed::Restarting { incarnation: unit("a", "i7"), operation: operation.into() };
        Self::of(Seen { observed, restarted: true, ..Self::on(release) })
    }

    /// It is on its way up or down.
    fn changing(incarnation: Incarnation, operation: &str, release: &str) -> Self {
        let observed = Observed::Changing { incarnation, operation: operation.into() };
        Self::of(Seen { observed, ..Self::on(release) })
    }

    fn rebooted(self) -> Self {
        let operation = self.seen.ended.clone().unwrap_or_else(|| "y".into());
        Self { seen: self.seen.ended(operation, true), ..self }
    }

    fn restarted(self) -> Self {
        Self { seen: Seen { restarted: true, ..self.seen }, ..self }
    }

    /// Another task came later, and touched it.
    fn touched(self) -> Self {
        Self { touch: Some(touch(6, LAST + 1)), ..self }
    }

    /// The same, in the store of a version that noted no touches.
    fn changed(mut self) -> Self {
        self.changes.insert(0, change(6, LAST + 1, "v3", None));
        self
    }

    /// What the task before left.
    fn before(mut self, incarnation: Option<Incarnation>) -> Self {
        self.changes.push(change(4, 50, "v1", incarnation));
        self.touch.get_or_insert_with(|| touch(4, 49));
        self
    }

    fn drift(&self, task: &Task) -> Vec<Drift> {
        let touches = self.touch.iter().map(|touch| (place(), touch.clone())).collect();
        let past = Past { last: LAST, changes: &self.changes, touches: &touches };
        drift(task, |_, _| MINE.into(), past, &BTreeMap::from([(place(), self.seen.clone())]))
    }
}

/// The container ran before, on v1.
fn was_up() -> Evidence {
    Evidence { incarnation: Some(run(1)), release: Some("v1".into()) }
}

fn was_down() -> Evidence {
    Evidence { incarnation: None, release: Some("v1".into()) }
}

fn restarted() -> Begun {
    Begun::Ended(was_up(), Done::Changed(Some(run(2))))
}

fn doubt_of_unit() -> Begun {
    Begun::Doubt(Evidence { incarnation: Some(unit("a", "i1")), release: Some("v1".into()) })
}

#[test]
fn what_happened_before_the_task_rested_is_no_later_touch() {
    // The task's own START left alone what another task had started before.
    let task = at_rest(&Way::Start, &Begun::Doubt(was_up()));
    let scene = Scene { touch: Some(touch(4, 50)), ..Scene::up(run(1), "y", "v1") };
    assert_eq!(scene.drift(&task), []);
    let scene = Scene { touch: Some(touch(4, 50)), ..Scene::down("v1").rebooted() };
    assert_eq!(scene.drift(&task), []);
    // What it has not touched yet was touched before it came to rest, and is as that left it.
    let task = at_rest(&Way::Restart, &Begun::Nothing);
    let scene = Scene { touch: Some(touch(4, LAST - 1)), ..Scene::down("v1").before(None) };
    assert_eq!(scene.drift(&task), []);
}

/// `resume --force` accepted the change of another task; then this one was interrupted before its turn.
#[test]
fn a_doubt_that_another_task_touched_stays_one_until_it_goes_on() {
    let scene = Scene { touch: Some(touch(6, LAST - 10)), ..Scene::down("v1") };
    let found = scene.drift(&at_rest(&Way::Restart, &Begun::Doubt(was_up())));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].by, Some((TaskId(6), "alice".into())));
}

#[test]
fn an_operation_that_was_begun_anew_is_compared_with_what_it_found_then() {
    let mut task = at_rest(&Way::Restart, &Begun::Doubt(was_up()));
    let scene = Scene { touch: Some(touch(6, LAST + 1)), ..Scene::up(run(3), "z", "v1") };
    assert_eq!(scene.drift(&task).len(), 1);
    let by = Caller { uid: 0, user: "u".into(), pid: None, program: None };
    let renewal = Renewal {
        earlier: MINE.into(),
        id: "x.5.0.0.9".into(),
        forced: true,
        why: "w".into(),
        evidence: scene.seen.evidence(&Way::Restart),
    };
    for event in [
        Event::Resumed { by, force: true },
        Event::DeploymentBegun { deployment: 0 },
        Event::OperationRenewed { deployment: 0, operation: 0, renewal },
        Event::Interrupted { reason: Reason::DaemonDied },
    ] {
        task.apply(&event, Timestamp(0)).unwrap();
    }
    assert_eq!(task.current_id("x", 0, 0), "x.5.0.0.9");
    let scene = Scene { touch: Some(touch(ME.0, LAST - 1)), ..scene };
    assert_eq!(scene.drift(&task), []);
    // What ran under the earlier id is somebody else's now.
    let scene = Scene { touch: Some(touch(ME.0, LAST - 1)), ..Scene::up(run(4), MINE, "v1") };
    let ids = |_, _| task.current_id("x", 0, 0);
    let touches = scene.touch.iter().map(|touch| (place(), touch.clone())).collect();
    let past = Past { last: LAST, changes: &[], touches: &touches };
    assert_eq!(drift(&task, ids, past, &BTreeMap::from([(place(), scene.seen)])).len(), 1);
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Start), Just(Way::Stop), Just(Way::Restart), Just(upload())]
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    prop_oneof![
        (1..4).prop_map(run),
        ("[ab]", "i[12]").prop_map(|(boot, invocation)| unit(&boot, &invocation)),
        ("[ef]", "[12]").prop_map(|(id, started)| engine(&id, &started)),
    ]
}

fn release() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.9, "v[123]")
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (prop::option::of(incarnation()), release())
        .prop_map(|(incarnation, release)| Evidence { incarnation, release })
}

fn seen() -> impl Strategy<Value = Seen> {
    let operation = || prop_oneof![Just(MINE.to_string()), Just(String::new()), Just("z".into())];
    let phase = prop_oneof![
        Just(Seen::default()),
        (operation(), any::<bool>()).prop_map(|(it, rebooted)| Seen::default().ended(it, rebooted)),
        (incarnation(), operation()).prop_map(|(run, it)| Seen::default().running(run, it)),
        (incarnation(), operation()).prop_map(|(incarnation, operation)| Seen {
            observed: Observed::Changing { incarnation, operation },
            ..Seen::default()
        }),
        (incarnation(), operation()).prop_map(|(incarnation, operation)| Seen {
            observed: Observed::Restarting { incarnation, operation },
            restarted: true,
            ..Seen::default()
        }),
    ];
    (phase, release(), any::<bool>()).prop_map(|(seen, release, restarted)| {
        let restarted = seen.restarted || (restarted && seen.incarnation.is_some());
        Seen { release, restarted, ..seen }
    })
}

proptest! {
    /// Whatever is there and whatever happened: an operation in doubt that may go on under its id either did
    /// nothing yet, or did what is there, or stopped what is not there any more. So it starts nothing twice.
    #[test]
    fn an_id_goes_on_only_where_nothing_can_have_been_started_by_it_and_be_gone(
        way in way(), evidence in evidence(), seen in seen(), touched in any::<bool>()
    ) {
        let task = at_rest(&way, &Begun::Doubt(evidence.clone()));
        let operation = &task.deployments[0].operations[0];
        let doubt = Doubt::of(&way, MINE, operation);
        let cause = doubt.renewal(&seen, touched.then_some(TaskId(6)));
        let differs = !doubt.differences(&seen, touched).is_empty();
        prop_assert_eq!(cause.as_ref().is_some_and(|cause| cause.forced), differs);
        let starts = matches!(deeds(&way, MINE, &seen.observed), Deeds::Start { .. });
        if starts && cause.is_none() {
            match seen.run() {
                Some(now) => prop_assert_eq!(Some(now), evidence.incarnation.as_ref()),
                None => prop_assert!(!touched && seen.operation() != Some(MINE)),
            }
        }
    }

    /// A later task that touched a container is drift, unless it changed nothing that anybody could see.
    #[test]
    fn a_later_touch_is_drift_unless_the_very_run_is_still_there(
        way in way(),
        before in evidence(),
        seen in seen(),
        begun in 0..3,
        noted in any::<bool>(),
    ) {
        let begun = match begun {
            0 => Begun::Nothing,
            1 => Begun::Doubt(before.clone()),
            _ => Begun::Ended(before.clone(), Done::Changed(before.incarnation.clone())),
        };
        let scene = Scene { seen: seen.clone(), ..Scene::default() };
        let scene = if noted { scene.touched() } else { scene.changed() };
        let found = scene.drift(&at_rest(&way, &begun));
        let is_run = |before: &Incarnation| seen.run().is_some_and(|now| is_very_run(before, now));
        let is_very = before.incarnation.as_ref().is_some_and(is_run) && !matches!(begun, Begun::Nothing);
        let is_mine = matches!(begun, Begun::Doubt(_)) && seen.operation() == Some(MINE);
        prop_assert!(!found.is_empty() || is_very || is_mine, "{:?} {:?}", begun, seen);
        prop_assert!(found.iter().all(|drift| drift.by == Some((TaskId(6), "alice".into()))));
    }

    /// What is as the task left it is never drift.
    #[test]
    fn nothing_that_is_as_it_was_is_drift(way in way(), evidence in evidence(), touched in any::<bool>()) {
        let (is_up, seen) = (evidence.incarnation.is_some(), Seen { release: evidence.release.clone(), ..Seen::default() });
        let seen = match evidence.incarnation.clone() {
            Some(run) => seen.running(run, "y".into()),
            None => seen,
        };
        let scene = Scene { seen, ..Scene::default() };
        let scene = if touched && is_up { scene.touched() } else { scene };
        prop_assert_eq!(scene.drift(&at_rest(&way, &Begun::Doubt(evidence))), vec![]);
    }
}
