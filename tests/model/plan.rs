//! What is explored: plans, and how much may go wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deployd::catalog::{Container, Health, Hooks, RuntimeKind, Service, ServiceId};
use deployd::plan::{ContainerOrder, Way};
use deployd::task::Caller;
use deployd::task::deployment::DeploymentSpec;
use deployd::task::event::{Definition, Event};

/// One item of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub service: u64,
    pub priority: i64,
    pub containers: usize,
    pub parallel: bool,
    pub way: Way,
    pub hooks: bool,
}

impl Item {
    pub fn new(service: u64, priority: i64, containers: usize, way: Way) -> Self {
        Self { service, priority, containers, parallel: false, way, hooks: false }
    }

    pub fn parallel(self) -> Self {
        Self { parallel: true, ..self }
    }
}

/// What is explored.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    /// A task is executed of each of them, the first at once.
    pub plans: Vec<Vec<Item>>,
    /// How many events wait for the disk at most.
    pub unsynced: usize,
    /// How often the daemon is killed, or an actor panics.
    pub crashes: u8,
    /// Whether a crash may be that of an actor: what it had begun goes on without it.
    pub panics: bool,
    /// How many operations or preparations fail.
    pub failures: u8,
    /// How many containers end by themselves.
    pub deaths: u8,
    /// Whether what later batches need is prepared in advance.
    pub prefetch: bool,
    /// Whether users stop, pause and delete.
    pub commands: bool,
}

impl Scenario {
    /// Whether each service stands in one item only: then equal items of a batch are interchangeable.
    pub fn is_symmetric(&self) -> bool {
        let mut services: Vec<u64> = self.plans.iter().flatten().map(|item| item.service).collect();
        services.sort_unstable();
        services.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// The first event of the task of a plan.
    pub fn started(&self, plan: usize) -> Event {
        let mut deployments: Vec<_> = self.plans[plan].iter().map(spec).collect();
        deployments.sort_by_key(|spec| std::cmp::Reverse(spec.priority));
        let definition = Definition { plan: "p".into(), revision: 1, comment: None, deployments };
        Event::Started { by: by(), definition }
    }
}

pub fn by() -> Caller {
    Caller { uid: 0, user: "u".into(), pid: None, program: None }
}

fn spec(item: &Item) -> DeploymentSpec {
    let containers: Vec<String> = (0..item.containers).map(|number| format!("c{number}")).collect();
    let container = |name: &String| Container {
        name: name.clone(),
        labels: Vec::new(),
        environment: BTreeMap::new(),
        unit: None,
    };
    let hook = item.hooks.then(|| vec!["/bin/true".to_string()]);
    let service = Service {
        id: ServiceId::new(item.service).unwrap(),
        name: format!("s{}", item.service),
        description: None,
        runtime: RuntimeKind::Process,
        containers: containers.iter().map(container).collect(),
        run: None,
        health: Health {
            probe: None,
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            settle: Duration::ZERO,
        },
        build: None,
        hooks: Hooks { pre_deploy: hook.clone(), post_deploy: hook },
        shared_paths: Vec::new(),
        keep_releases: 1,
        strip_components: 0,
    };
    DeploymentSpec {
        service: Arc::new(service),
        priority: item.priority,
        way: item.way.clone(),
        order: if item.parallel { ContainerOrder::Parallel } else { ContainerOrder::Sequential },
        labels: Vec::new(),
        containers,
    }
}
