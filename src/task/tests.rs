//! A task against a world that may be cut off at any moment: whatever users and crashes do, nothing
//! is done twice, nothing is lost, the order holds, and every task comes to rest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::decide::{Decision, decide};
use super::deployment::{DeploymentSpec, DeploymentState, DeploymentStep};
use super::event::{Definition, Event};
use super::evidence::{Deeds, Observed, deeds};
use super::operation::{Done, Evidence, Incarnation, OperationEnd, OperationState};
use super::state::TaskState;
use super::{Caller, Failure, Reason, Task, TaskId, Timestamp};
use crate::catalog::{Container, Health, Hooks, RuntimeKind, Service, ServiceId};
use crate::plan::{ContainerOrder, Way};

/// One deployment of a generated plan: priority, containers, PARALLEL, which way.
type Shape = (i64, usize, bool, u8);

fn spec(index: usize, shape: Shape) -> DeploymentSpec {
    let (priority, containers, parallel, way) = shape;
    let containers: Vec<String> = (0..containers).map(|number| format!("c{number}")).collect();
    let container = |name: &String| Container {
        name: name.clone(),
        labels: Vec::new(),
        environment: BTreeMap::new(),
        unit: None,
    };
    let service = Service {
        id: ServiceId::new(index as u64 + 1).unwrap(),
        name: format!("s{index}"),
        description: None,
        runtime: RuntimeKind::Process,
        containers: containers.iter().map(container).collect(),
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
    DeploymentSpec {
        service: Arc::new(service),
        priority,
        way: [Way::Start, Way::Stop, Way::Restart][usize::from(way % 3)].clone(),
        order: if parallel { ContainerOrder::Parallel } else { ContainerOrder::Sequential },
        labels: Vec::new(),
        containers,
    }
}

fn by() -> Caller {
    Caller { uid: 0, user: "u".into(), pid: None, program: None }
}

/// An operation that is going on: its place, what remains of it, and whether that is done.
struct GoingOn {
    place: (usize, usize),
    deeds: Deeds,
    done: bool,
}

/// The task, its journal, and the world.
struct Model {
    task: Task,
    journal: Vec<Event>,
    going_on: Vec<GoingOn>,
    /// The operation by which each container runs.
    running: HashMap<(usize, usize), String>,
    /// How often each operation has started or stopped its container.
    carried_out: HashMap<(usize, usize), usize>,
}

impl Model {
    fn new(shapes: &[Shape]) -> Self {
        let mut deployments: Vec<_> =
            shapes.iter().enumerate().map(|(index, shape)| spec(index, *shape)).collect();
        deployments.sort_by_key(|spec| std::cmp::Reverse(spec.priority));
        let mut running = HashMap::new();
        for (d, spec) in deployments.iter().enumerate() {
            for o in 0..spec.containers.len() {
                if spec.way != Way::Start {
                    running.insert((d, o), "before".to_string());
                }
            }
        }
        let definition = Definition { plan: "p".into(), revision: 1, comment: None, deployments };
        let started = Event::Started { by: by(), definition };
        let task = Task::begin(TaskId(1), &started, Timestamp(0)).unwrap();
        let (going_on, carried_out) = (Vec::new(), HashMap::new());
        Self { task, journal: vec![started], going_on, running, carried_out }
    }

    /// Records what the daemon does: it is always legal.
    fn record(&mut self, event: Event) {
        self.task.apply(&event, Timestamp(0)).unwrap_or_else(|error| panic!("{event:?}: {error}"));
        self.journal.push(event);
    }

    /// Records what a user asks for: it may be refused, and then changes nothing.
    fn ask(&mut self, event: Event) {
        let before = self.task.clone();
        match self.task.apply(&event, Timestamp(0)) {
            Ok(()) => self.journal.push(event),
            Err(_) => assert_eq!(self.task, before),
        }
    }

    fn crash(&mut self) {
        if self.task.state.is_active() {
            self.record(Event::Interrupted { reason: Reason::DaemonDied });
        }
        self.going_on.clear();
    }

    fn id(place: (usize, usize)) -> String {
        Task::operation_id("i", TaskId(1), place.0, place.1)
    }

    /// One step of the daemon; `choice` decides what comes first and what fails.
    fn step(&mut self, choice: u8) {
        let choice = usize::from(choice);
        if !self.going_on.is_empty() && choice.is_multiple_of(2) {
            return self.advance(choice);
        }
        if let Decision::Begin(due) = decide(&self.task) {
            let deployment = due[choice % due.len()];
            return self.record(Event::DeploymentBegun { deployment });
        }
        let running: Vec<usize> = (0..self.task.deployments.len())
            .filter(|&d| self.task.deployments[d].state == DeploymentState::Running)
            .filter(|&d| !self.going_on.iter().any(|going_on| going_on.place.0 == d))
            .collect();
        if let Some(&deployment) = running.get(choice % running.len().max(1)) {
            return self.deployment(deployment);
        }
        match decide(&self.task) {
            Decision::Rest(event) => self.record(event),
            _ if !self.going_on.is_empty() => self.advance(choice),
            _ => {}
        }
    }

    fn deployment(&mut self, deployment: usize) {
        match self.task.deployments[deployment].next_step() {
            DeploymentStep::Operate(due) => due.into_iter().for_each(|o| self.begin((deployment, o))),
            DeploymentStep::Succeed => self.record(Event::DeploymentEnded { deployment, result: Ok(()) }),
            DeploymentStep::Fail(failure) => {
                self.record(Event::DeploymentEnded { deployment, result: Err(failure) });
            }
            other => panic!("{other:?} in a plan without artifacts and hooks"),
        }
    }

    fn begin(&mut self, place: (usize, usize)) {
        let incarnation = Incarnation::Process { boot_id: "b".into(), pid: 1, start_ticks: 1 };
        let observed = match self.running.get(&place) {
            Some(operation) => Observed::Up { incarnation, operation: operation.clone() },
            None => Observed::Down { ended: None },
        };
        let way = &self.task.deployments[place.0].spec.way;
        let deeds = deeds(way, &Self::id(place), &observed);
        let (deployment, operation) = place;
        let evidence = Evidence::default();
        self.record(Event::OperationBegun { deployment, operation, evidence, to_release: None });
        self.going_on.push(GoingOn { place, deeds, done: false });
    }

    /// First the deed, then, at another step, its record: a crash may come between.
    fn advance(&mut self, choice: usize) {
        let index = choice / 2 % self.going_on.len();
        let GoingOn { place, deeds, done } = self.going_on[index];
        let fails = choice % 16 == 14;
        if !done && !fails {
            self.going_on[index].done = true;
            let changed = match deeds {
                Deeds::Stop { running } => running && self.running.remove(&place).is_some(),
                Deeds::Start { .. } => {
                    self.running.insert(place, Self::id(place));
                    true
                }
                Deeds::Leave | Deeds::AwaitHealth | Deeds::Died => false,
            };
            *self.carried_out.entry(place).or_default() += usize::from(changed);
            return;
        }
        self.going_on.remove(index);
        let failure = Failure { code: "f".into(), message: "f".into(), log: Vec::new() };
        let result = if done { Ok(Done::Unchanged) } else { Err(failure) };
        let end = OperationEnd { result, detail: String::new(), settled: None };
        self.record(Event::OperationEnded { deployment: place.0, operation: place.1, end });
    }

    fn check(&self) {
        for (place, count) in &self.carried_out {
            assert!(*count <= 1, "operation {place:?} was carried out {count} times");
        }
        let states = |batch: &super::Batch| -> Vec<DeploymentState> {
            self.task.deployments[batch.deployments.clone()]
                .iter()
                .map(|deployment| deployment.state)
                .collect()
        };
        let mut earlier_over = true;
        for batch in &self.task.batches {
            let begun = states(batch)
                .iter()
                .any(|state| !matches!(state, DeploymentState::Pending | DeploymentState::Skipped));
            assert!(earlier_over || !begun, "a batch began before the one before it had succeeded");
            earlier_over &= states(batch).iter().all(|state| *state == DeploymentState::Succeeded);
        }
        assert!(self.task.state.is_active() || self.going_on.is_empty());
    }

    /// The journal, folded anew, is the task.
    fn check_journal(&self) {
        let mut folded = Task::begin(TaskId(1), &self.journal[0], Timestamp(0)).unwrap();
        for event in &self.journal[1..] {
            folded.apply(event, Timestamp(0)).unwrap();
        }
        assert_eq!(folded, self.task);
    }

    /// Without further disturbance, and resumed where that is needed, it comes to an end.
    fn finish(&mut self) {
        for step in 0..10_000 {
            match self.task.state {
                state if state.is_final() => return,
                TaskState::Paused | TaskState::Interrupted => {
                    self.record(Event::Resumed { by: by(), force: false });
                }
                _ => self.step([0, 1][step % 2]),
            }
            self.check();
        }
        panic!("it never comes to rest: {:?}", self.task.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_twice_and_nothing_is_lost(
        shapes in prop::collection::vec((0i64..3, 1usize..3, any::<bool>(), any::<u8>()), 1..5),
        script in prop::collection::vec((0u8..40, any::<u8>()), 0..120),
    ) {
        let mut model = Model::new(&shapes);
        for (what, choice) in script {
            match what {
                0 => model.ask(Event::StopRequested { by: by() }),
                1 | 2 => model.ask(Event::PauseRequested { by: by() }),
                3..=6 => model.ask(Event::Resumed { by: by(), force: false }),
                7 | 8 => model.crash(),
                _ => model.step(choice),
            }
            model.check();
        }
        model.finish();
        model.check_journal();
        let all = || model.task.deployments.iter().flat_map(|deployment| &deployment.operations);
        if model.task.state == TaskState::Succeeded {
            let total: usize = model.carried_out.values().sum();
            prop_assert_eq!(total, all().count());
        }
        prop_assert!(all().all(|operation| !matches!(operation.state, OperationState::Running | OperationState::Pending)));
    }
}

#[test]
fn what_remains_to_be_done_is_told_by_what_is_there() {
    let up = |operation: &str| Observed::Up {
        incarnation: Incarnation::Process { boot_id: "b".into(), pid: 1, start_ticks: 1 },
        operation: operation.into(),
    };
    let down = |ended: Option<&str>| Observed::Down { ended: ended.map(str::to_string) };
    let package = Way::HttpUpload { uri: "http://x".into(), sha256: None };
    let cases = [
        (Way::Start, up("other"), Deeds::Leave),
        (Way::Start, up("me"), Deeds::AwaitHealth),
        (Way::Start, down(None), Deeds::Start { stop_first: false }),
        (Way::Start, down(Some("other")), Deeds::Start { stop_first: false }),
        (Way::Start, down(Some("me")), Deeds::Died),
        (Way::Stop, up("other"), Deeds::Stop { running: true }),
        (Way::Stop, down(Some("other")), Deeds::Stop { running: false }),
        (Way::Restart, up("other"), Deeds::Start { stop_first: true }),
        (Way::Restart, up("me"), Deeds::AwaitHealth),
        (Way::Restart, down(None), Deeds::Start { stop_first: false }),
        (package.clone(), up("other"), Deeds::Start { stop_first: true }),
        (package.clone(), up("me"), Deeds::AwaitHealth),
        (package, down(Some("me")), Deeds::Died),
    ];
    for (way, observed, expected) in cases {
        assert_eq!(deeds(&way, "me", &observed), expected, "{way:?} {observed:?}");
    }
}

#[test]
fn events_that_come_too_late_change_nothing() {
    let mut model = Model::new(&[(0, 1, false, 0)]);
    let late = [
        Event::DeploymentEnded { deployment: 0, result: Ok(()) },
        Event::DeploymentBegun { deployment: 7 },
        Event::OperationEnded {
            deployment: 0,
            operation: 0,
            end: OperationEnd { result: Ok(Done::Unchanged), detail: String::new(), settled: None },
        },
        Event::Drained,
        model.journal[0].clone(),
    ];
    for event in late {
        let before = model.task.clone();
        model.task.apply(&event, Timestamp(1)).unwrap_err();
        assert_eq!(model.task, before);
    }
    assert!(Task::begin(TaskId(1), &Event::Completed, Timestamp(0)).is_err());
}
