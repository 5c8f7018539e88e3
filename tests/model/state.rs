//! A daemon and its world at one moment: what is on disk, what is in memory, what is being done.
//!
//! The tasks are the project's own; what is modelled is only what surrounds them: a journal whose
//! newest entries a crash may lose, actors that do one thing after another, and containers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use deployd::catalog::ServiceId;
use deployd::plan::Way;
use deployd::task::drift::{Drift, Past, Seen, drift};
use deployd::task::event::Event;
use deployd::task::evidence::Deeds;
use deployd::task::nonce::Nonce;
use deployd::task::operation::Incarnation;
use deployd::task::record::Touch;
use deployd::task::{Task, TaskId, Timestamp};

use crate::plan::Scenario;

/// An operation: of which plan's task, which deployment, which of its containers.
pub type Place = (usize, usize, usize);

/// The task of a plan.
#[derive(Debug, Clone)]
pub enum Slot {
    /// Not executed yet.
    Absent,
    Task {
        durable: Rc<Task>,
        memory: Rc<Task>,
    },
    Deleted,
}

impl Slot {
    pub fn memory(&self) -> Option<&Task> {
        match self {
            Self::Task { memory, .. } => Some(memory),
            _ => None,
        }
    }

    pub fn durable(&self) -> Option<&Task> {
        match self {
            Self::Task { durable, .. } => Some(durable),
            _ => None,
        }
    }
}

/// Under which id an operation goes on: how often it was begun anew.
pub type Id = (Place, u8);

/// Who started a container. No two starts are by the same: that makes a run what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// It runs from before; or it was stopped, and nobody knows any more.
    Before,
    Operation(Id),
    Hand(u8),
}

/// A container: whether it runs, and by whom it does (or did last).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container {
    pub up: bool,
    pub by: By,
    /// It ended by itself.
    pub died: bool,
}

/// What happened to a container of a task while that rested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Meanwhile {
    /// Another task did something to it, and nobody has said that this one may go on all the same.
    pub overtaken: bool,
    /// There was a reason to find it different from how the task left it.
    pub provoked: bool,
}

/// An operation that an actor, or what is left of it, carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Going {
    pub place: Place,
    /// How often it was begun anew.
    pub anew: u8,
    /// What the look showed; `None`: it has not looked yet.
    pub deeds: Option<Deeds>,
    /// Deeds that are still to be done.
    pub stop: bool,
    pub start: bool,
    /// Its actor is gone: what was begun goes on, and nobody records how it ends.
    pub orphan: bool,
}

/// How often an operation has started and stopped its container under its current id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub starts: u8,
    pub stops: u8,
}

/// Whose operation touched a container, and as which of all commits.
pub type Touched = (usize, u64);

/// Clones are cheap: what an act does not change is shared.
#[derive(Debug, Clone)]
pub struct State {
    pub slots: Vec<Slot>,
    /// What was recorded and is not yet on disk.
    pub queue: VecDeque<(usize, Rc<Event>)>,
    /// Which service a deployment of a plan is about.
    services: Rc<Vec<Vec<usize>>>,
    /// By service, then by container.
    pub world: Rc<Vec<Vec<Container>>>,
    pub going: Vec<Going>,
    /// As the items: by plan, deployment, container.
    pub carried: Rc<Vec<Vec<Vec<Carried>>>>,
    /// Whose downloads and waiting a user has cut: the tasks, and the deployments in which it came to that.
    pub cutting: BTreeSet<usize>,
    pub cut: BTreeSet<(usize, usize)>,
    /// By service, then by container: whose operation touched it last, and as which of all commits.
    pub touches: Rc<Vec<Vec<Option<Touched>>>>,
    /// How many commits there were, and which was the last of each task.
    pub commits: u64,
    pub last: Vec<u64>,
    /// By plan, service, container.
    pub meanwhile: Rc<Vec<Vec<Vec<Meanwhile>>>>,
    pub crashes: u8,
    pub failures: u8,
    pub deaths: u8,
    pub hands: u8,
}

impl State {
    /// The first task is begun, nothing is done yet. What is to be started is down, everything else up.
    pub fn new(scenario: &Scenario) -> Self {
        let items = || scenario.plans.iter().flatten();
        let last = items().map(|item| item.service).max().unwrap();
        let container = |service: u64| {
            let item = items().find(|item| item.service == service);
            let up = item.is_some_and(|item| item.way != Way::Start);
            let count = items().filter(|item| item.service == service).map(|item| item.containers).max();
            vec![Container { up, by: By::Before, died: false }; count.unwrap_or(0)]
        };
        let world: Vec<_> = (1..=last).map(container).collect();
        let mut slots = vec![Slot::Absent; scenario.plans.len()];
        slots[0] = created(scenario, 0);
        let tasks: Vec<Task> = (0..scenario.plans.len()).map(|plan| begun(scenario, plan)).collect();
        let carried = |task: &Task| {
            task.deployments.iter().map(|d| vec![Carried::default(); d.operations.len()]).collect()
        };
        let service = |id: ServiceId| usize::try_from(id.get()).unwrap() - 1;
        let services: Vec<_> = tasks.iter().map(|task| task.services().map(service).collect()).collect();
        Self {
            slots,
            queue: VecDeque::new(),
            touches: Rc::new(world.iter().map(|all| vec![None; all.len()]).collect()),
            commits: 0,
            last: vec![0; scenario.plans.len()],
            meanwhile: Rc::new(vec![
                world.iter().map(|all| vec![Meanwhile::default(); all.len()]).collect();
                scenario.plans.len()
            ]),
            world: Rc::new(world),
            going: Vec::new(),
            services: Rc::new(services),
            carried: Rc::new(tasks.iter().map(carried).collect()),
            cutting: BTreeSet::new(),
            cut: BTreeSet::new(),
            crashes: scenario.crashes,
            failures: scenario.failures,
            deaths: scenario.deaths,
            hands: scenario.hands,
        }
    }

    /// An event of a task got to the disk.
    pub fn journalled(&mut self, slot: usize) {
        self.commits += 1;
        self.last[slot] = self.commits;
    }

    /// Which container an operation is about.
    pub fn container_of(&self, place: Place) -> (usize, usize) {
        (self.services[place.0][place.1], place.2)
    }

    /// What a look would show.
    pub fn seen(&self, (service, container): (usize, usize)) -> Seen {
        let Container { up, by, .. } = self.world[service][container];
        match by {
            By::Operation(id) if up => Seen::default().running(run(by), operation_id(id)),
            By::Operation(id) => Seen::default().ended(operation_id(id), false),
            By::Before | By::Hand(_) if up => Seen::default().running(run(by), String::new()),
            By::Before | By::Hand(_) => Seen::default(),
        }
    }

    /// What the drift guard says of a task that is to be resumed.
    pub fn drift(&self, slot: usize) -> Vec<Drift> {
        let Some(task) = self.slots[slot].memory() else { return Vec::new() };
        let (mut seen, mut touches) = (BTreeMap::new(), BTreeMap::new());
        for (d, deployment) in task.deployments.iter().enumerate() {
            for (o, operation) in deployment.operations.iter().enumerate() {
                let (service, container) = self.container_of((slot, d, o));
                let place = (deployment.spec.service.id, operation.container.clone());
                seen.insert(place.clone(), self.seen((service, container)));
                if let Some((by, seq)) = self.touches[service][container] {
                    touches.insert(place.clone(), (seq, touch(place, by)));
                }
            }
        }
        let ids = |d, o: usize| operation_id(((slot, d, o), anew(task, d, o)));
        drift(task, ids, Past { last: self.last[slot], changes: &[], touches: &touches }, &seen)
    }

    /// The other task that touched a container after the task of `slot` did.
    pub fn touched_since(&self, slot: usize, (service, container): (usize, usize)) -> Option<TaskId> {
        self.touches[service][container].map(|(by, _)| by).filter(|by| *by != slot).map(id)
    }

    /// Whether something of a deployment is not on disk yet.
    pub fn awaits_disk(&self, slot: usize, deployment: usize) -> bool {
        self.queue.iter().any(|(of, event)| *of == slot && deployment_of(event) == Some(deployment))
    }

    /// Whether an operation's beginning is not on disk yet.
    pub fn intent_awaits_disk(&self, place: Place) -> bool {
        self.queue.iter().any(|(slot, event)| {
            matches!(&**event, Event::OperationBegun { deployment, operation, .. }
                if (*slot, *deployment, *operation) == place)
        })
    }
}

/// The task of a plan, as its execution makes it.
pub fn created(scenario: &Scenario, plan: usize) -> Slot {
    let task = Rc::new(begun(scenario, plan));
    Slot::Task { durable: task.clone(), memory: task }
}

fn begun(scenario: &Scenario, plan: usize) -> Task {
    Task::begin(id(plan), &scenario.started(plan), Timestamp(0)).unwrap()
}

pub fn id(slot: usize) -> TaskId {
    TaskId(slot as u64 + 1)
}

pub fn operation_id((place, anew): Id) -> String {
    let nonce = (anew > 0).then(|| Nonce(anew.into()));
    Task::operation_id("m", id(place.0), nonce, place.1, place.2)
}

/// How often an operation was begun anew.
pub fn anew(task: &Task, deployment: usize, operation: usize) -> u8 {
    u8::try_from(task.deployments[deployment].operations[operation].renewals.len()).unwrap()
}

/// A run is known by who started it.
pub fn run(by: By) -> Incarnation {
    let pid = match by {
        By::Before => 1,
        By::Hand(hand) => 2 + i32::from(hand),
        By::Operation(((slot, d, o), anew)) => {
            1000 + i32::try_from((slot * 16 + d) * 16 + o).unwrap() * 256 + i32::from(anew)
        }
    };
    Incarnation::Process { boot_id: "b".into(), pid, start_ticks: 1 }
}

fn touch((service, container): (ServiceId, String), by: usize) -> Touch {
    Touch { service, container, task: id(by), user: "u".into(), way: "START".into() }
}

/// The deployment that an event is about.
pub fn deployment_of(event: &Event) -> Option<usize> {
    event.place().map(|(deployment, _)| deployment)
}
