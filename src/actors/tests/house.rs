//! A supervisor over a runtime that does as a test says: panics, waits, fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Addr;
use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use crate::actors::batch::Means;
use crate::actors::commander::Handle;
use crate::actors::plan_supervisor::{CommandTask, Held, PlanSupervisor};
use crate::actors::{Command, Execute, Refused, Started};
use crate::artifact::ArtifactStore;
use crate::artifact::build::Builder;
use crate::artifact::fetch::{Fetcher, Limits, Timeouts};
use crate::artifact::git::Git;
use crate::artifact::releases::Releases;
use crate::catalog::{Catalog, Container, Health, Hooks, Run, RuntimeKind, Service, ServiceId};
use crate::executor::{Board, Deeds, Executor, TaskLogs};
use crate::plan::check::Policy;
use crate::runtime::{ContainerRef, Observation, Runtime, RuntimeError, StartSpec, StopReport};
use crate::spawn::command::{Commands, Processes};
use crate::spawn::{ExitStatus, Launch, SpawnError, Spawned, Spec};
use crate::store::{Change, Store};
use crate::task::operation::Incarnation;
use crate::task::state::TaskState;
use crate::task::{Caller, Task, TaskId, Timestamp};

/// Starts nothing: these tests have neither hooks nor builds.
struct NoLaunch;

#[async_trait]
impl Launch for NoLaunch {
    async fn launch(&self, _: Spec) -> Result<Spawned, SpawnError> {
        Err(SpawnError::Spawner(std::io::Error::other("not in this test")))
    }
}

/// Containers that exist in memory only.
#[derive(Default)]
pub struct Stage {
    pub running: Mutex<HashMap<String, (Incarnation, String)>>,
    /// How often each was started.
    pub starts: Mutex<Vec<String>>,
    pub panics: Mutex<HashSet<String>>,
    pub fails: Mutex<HashSet<String>>,
    /// Whose start waits until the test opens it.
    pub gates: HashMap<String, Arc<Semaphore>>,
    /// Tells that a start has come to its gate.
    pub arrived: HashMap<String, Arc<Semaphore>>,
}

#[async_trait]
impl Runtime for Stage {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        Ok(match self.running.lock().unwrap().get(&container.service) {
            None => Observation::Absent,
            Some((incarnation, operation)) => Observation::Running {
                pid: None,
                incarnation: incarnation.clone(),
                operation: operation.clone(),
                release: None,
                since: None,
                restarts: 0,
            },
        })
    }

    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError> {
        let service = spec.container.service;
        if let Some(arrived) = self.arrived.get(&service) {
            arrived.add_permits(1);
        }
        if let Some(gate) = self.gates.get(&service) {
            gate.acquire().await.expect("the gate stays").forget();
        }
        assert!(!self.panics.lock().unwrap().contains(&service), "the start of {service} panics");
        if self.fails.lock().unwrap().contains(&service) {
            return Err(RuntimeError::Signal("none".into()));
        }
        let mut starts = self.starts.lock().unwrap();
        starts.push(service.clone());
        let pid = i32::try_from(starts.len()).unwrap();
        let incarnation = Incarnation::Process { boot_id: "boot".into(), pid, start_ticks: 1 };
        self.running.lock().unwrap().insert(service, (incarnation.clone(), spec.operation));
        Ok(incarnation)
    }

    async fn stop(&self, container: &ContainerRef, _: &str, _: Duration) -> Result<StopReport, RuntimeError> {
        self.running.lock().unwrap().remove(&container.service);
        Ok(StopReport { killed: false, took: Duration::ZERO })
    }

    async fn exited(&self, _: &ContainerRef, _: &Incarnation) -> Option<ExitStatus> {
        std::future::pending().await
    }

    async fn last_lines(&self, _: &ContainerRef, _: usize) -> Vec<String> {
        Vec::new()
    }
}

fn service(id: u64, name: &str) -> Service {
    Service {
        id: ServiceId::new(id).unwrap(),
        name: name.into(),
        description: None,
        runtime: RuntimeKind::Process,
        containers: vec![Container {
            name: "c".into(),
            labels: Vec::new(),
            environment: BTreeMap::new(),
            unit: None,
        }],
        run: Some(Run {
            command: vec!["run".into()],
            user: None,
            environment: BTreeMap::new(),
            environment_file: None,
            stop_signal: "SIGTERM".into(),
            stop_timeout: Duration::from_secs(1),
            limits: crate::catalog::Limits::default(),
            image: None,
        }),
        health: Health {
            probe: None,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(5),
            settle: Duration::ZERO,
        },
        build: None,
        hooks: Hooks::default(),
        shared_paths: Vec::new(),
        keep_releases: 5,
        strip_components: 0,
    }
}

/// A supervisor with all that it needs.
pub struct House {
    pub supervisor: Addr<PlanSupervisor>,
    pub store: Store,
    pub stage: Arc<Stage>,
    executor: Arc<Executor>,
    catalog: watch::Receiver<Arc<Catalog>>,
    _directory: tempfile::TempDir,
}

fn by() -> Caller {
    Caller { uid: 0, user: "tester".into(), pid: None, program: None }
}

impl House {
    /// Services `a` (1), `b` (2), `c` (3), `d` (4).
    pub fn new(stage: Stage) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let store = Store::open_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let stage = Arc::new(stage);
        let commands: Arc<dyn Commands> = Arc::new(Processes(Arc::new(NoLaunch)));
        let artifacts = Arc::new(ArtifactStore::open(at("artifacts")).unwrap());
        let git = Arc::new(Git::open(at("git"), at("git-cache"), crate::artifact::git::TIMEOUT).unwrap());
        let policy = Policy::default();
        let executor = Executor {
            instance: store.instance().into(),
            runtime: stage.clone(),
            commands: commands.clone(),
            processes: commands.clone(),
            fetcher: Fetcher::new(artifacts.clone(), Limits::default(), policy.clone(), Timeouts::default())
                .unwrap(),
            builder: Arc::new(Builder::open(commands, artifacts.clone(), git.clone(), at("builds")).unwrap()),
            artifacts,
            git,
            releases: Arc::new(Releases::open(at("services")).unwrap()),
            logs: TaskLogs::new(at("tasks")),
            limits: Limits::default(),
            policy,
            services_dir: at("services"),
            board: Board::default(),
            deeds: Deeds::default(),
            downloads: Arc::new(Semaphore::new(1)),
            builds: Arc::new(Semaphore::new(1)),
        };
        let catalog = Catalog::new([service(1, "a"), service(2, "b"), service(3, "c"), service(4, "d")]);
        let executor = Arc::new(executor);
        let means = Means {
            executor: executor.clone(),
            host: tokio::runtime::Handle::current(),
            places: Arc::new(Semaphore::new(8)),
            prefetch: None,
        };
        let (sender, catalog) = watch::channel(Arc::new(catalog));
        let (held, _) = watch::channel(Held::default());
        let supervisor = PlanSupervisor::new(store.clone(), means, sender, [], held);
        let supervisor = actix::Actor::start(supervisor);
        Self { supervisor, store, stage, executor, catalog, _directory: directory }
    }

    /// What the socket asks, while the supervisor has told last that `held` is held.
    pub fn handle(&self, held: impl IntoIterator<Item = (u64, TaskId)>) -> Handle {
        let held = held.into_iter().map(|(service, task)| (ServiceId::new(service).unwrap(), task));
        Handle {
            supervisor: self.supervisor.clone(),
            store: self.store.clone(),
            executor: self.executor.clone(),
            host: tokio::runtime::Handle::current(),
            catalog: self.catalog.clone(),
            held: watch::channel(Arc::new(held.collect())).1,
            read_catalog: Box::new(|| Err(Refused::Host("there is no file".into()))),
            draining: Arc::default(),
        }
    }

    /// Stores and executes a plan of (service, priority, way).
    pub async fn execute(&self, name: &str, items: &[(u64, i64, &str)]) -> Result<Started, Refused> {
        let items: Vec<_> = items
            .iter()
            .map(|(id, priority, way)| {
                format!(" - {{serviceId: {id}, priority: {priority}, deployment: {way}}}\n")
            })
            .collect();
        let change = Change::PutPlan {
            name: name.into(),
            at: Timestamp(0),
            by: by(),
            comment: None,
            items: 0,
            batches: 0,
            text: format!("deployPlanItems:\n{}", items.concat()).into_bytes(),
        };
        self.store.commit(vec![change]).await.unwrap();
        let (plan, revision) = (name.to_string(), None);
        self.supervisor.send(Execute { plan, revision, idempotency_key: None, by: by() }).await.unwrap()
    }

    pub async fn command(&self, task: TaskId, command: Command) -> Result<crate::actors::Commanded, Refused> {
        self.supervisor.send(CommandTask { task, command, by: by() }).await.unwrap()
    }

    pub fn task(&self, id: TaskId) -> Task {
        self.store.snapshot().unwrap().task(id).unwrap().unwrap()
    }

    /// Waits until a task is in a state, which the store tells.
    pub async fn reaches(&self, id: TaskId, state: TaskState) -> Task {
        let mut grown = self.store.watch();
        loop {
            grown.borrow_and_update();
            let task = self.task(id);
            if task.state == state {
                return task;
            }
            let more = tokio::time::timeout(Duration::from_mins(1), grown.changed()).await;
            more.unwrap_or_else(|_| panic!("task {id} stays {} and never is {state}", task.state)).unwrap();
        }
    }

    pub fn starts(&self) -> Vec<String> {
        self.stage.starts.lock().unwrap().clone()
    }
}

pub fn gated(services: &[&str]) -> Stage {
    let closed = || services.iter().map(|name| ((*name).to_string(), Arc::new(Semaphore::new(0)))).collect();
    Stage { gates: closed(), arrived: closed(), ..Stage::default() }
}

pub async fn arrived(house: &House, service: &str) {
    house.stage.arrived[service].acquire().await.unwrap().forget();
}

pub fn open(house: &House, service: &str) {
    house.stage.gates[service].add_permits(1);
}
