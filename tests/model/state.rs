//! A daemon and its world at one moment: what is on disk, what is in memory, what is being done.
//!
//! The tasks are the project's own; what is modelled is only what surrounds them: a journal whose
//! newest entries a crash may lose, actors that do one thing after another, and containers.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use deployd::catalog::ServiceId;
use deployd::plan::Way;
use deployd::task::event::Event;
use deployd::task::evidence::{Deeds, Observed};
use deployd::task::operation::Incarnation;
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

/// A container: whether it runs, and by which operation it does (or did last). `None`: from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container {
    pub up: bool,
    pub by: Option<Place>,
    /// It ended by itself.
    pub died: bool,
}

/// An operation that an actor, or what is left of it, carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Going {
    pub place: Place,
    /// What the look showed; `None`: it has not looked yet.
    pub deeds: Option<Deeds>,
    /// Deeds that are still to be done.
    pub stop: bool,
    pub start: bool,
    /// Its actor is gone: what was begun goes on, and nobody records how it ends.
    pub orphan: bool,
}

/// How often an operation has started and stopped its container, since no other task touched it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub starts: u8,
    pub stops: u8,
}

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
    pub crashes: u8,
    pub failures: u8,
    pub deaths: u8,
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
            vec![Container { up, by: None, died: false }; count.unwrap_or(0)]
        };
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
            world: Rc::new((1..=last).map(container).collect()),
            going: Vec::new(),
            services: Rc::new(services),
            carried: Rc::new(tasks.iter().map(carried).collect()),
            cutting: BTreeSet::new(),
            cut: BTreeSet::new(),
            crashes: scenario.crashes,
            failures: scenario.failures,
            deaths: scenario.deaths,
        }
    }

    /// Which container an operation is about.
    pub fn container_of(&self, place: Place) -> (usize, usize) {
        (self.services[place.0][place.1], place.2)
    }

    /// What a runtime would see.
    pub fn observe(&self, (service, container): (usize, usize)) -> Observed {
        let Container { up, by, .. } = self.world[service][container];
        let operation = by.map_or_else(|| "before".to_string(), operation_id);
        if up {
            let incarnation = Incarnation::Process { boot_id: "b".into(), pid: 1, start_ticks: 1 };
            Observed::Up { incarnation, operation }
        } else {
            Observed::Down { ended: by.is_some().then_some(operation) }
        }
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

pub fn operation_id(place: Place) -> String {
    Task::operation_id("m", id(place.0), place.1, place.2)
}

/// The deployment that an event is about.
pub fn deployment_of(event: &Event) -> Option<usize> {
    event.place().map(|(deployment, _)| deployment)
}
