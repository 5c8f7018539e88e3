//! The actors over a runtime that does as a test says: panics, waits, fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Addr;
use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use super::batch::Means;
use super::plan_supervisor::{CommandTask, Drain, InterruptAll, PlanSupervisor};
use super::{Command, Execute, Refused, Started};
use crate::artifact::ArtifactStore;
use crate::artifact::build::Builder;
use crate::artifact::fetch::{Fetcher, Limits, Timeouts};
use crate::artifact::git::Git;
use crate::artifact::releases::Releases;
use crate::catalog::{Catalog, Container, Health, Hooks, Run, RuntimeKind, Service, ServiceId};
use crate::executor::{Deeds, Executor, TaskLogs};
use crate::plan::check::Policy;
use crate::runtime::{ContainerRef, Observation, Runtime, RuntimeError, StartSpec, StopReport};
use crate::spawn::{ExitStatus, Launch, SpawnError, Spawned, Spec};
use crate::store::{Change, Store};
use crate::task::event::Event;
use crate::task::operation::Incarnation;
use crate::task::state::TaskState;
use crate::task::{Caller, Reason, Task, TaskId, Timestamp};

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
struct Stage {
    running: Mutex<HashMap<String, (Incarnation, String)>>,
    /// How often each was started.
    starts: Mutex<Vec<String>>,
    panics: Mutex<HashSet<String>>,
    fails: Mutex<HashSet<String>>,
    /// Whose start waits until the test opens it.
    gates: HashMap<String, Arc<Semaphore>>,
    /// Tells that a start has come to its gate.
    arrived: HashMap<String, Arc<Semaphore>>,
}

#[async_trait]
impl Runtime for Stage {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        Ok(match self.running.lock().unwrap().get(&container.service) {
            None => Observation::Absent,
            Some((incarnation, operation)) => Observation::Running {
                incarnation: incarnation.clone(),
                operation: operation.clone(),
                release: None,
                since: None,
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
        let incarnation = Incarnation { boot_id: "boot".into(), pid, start_ticks: 1 };
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
        containers: vec![Container { name: "c".into(), labels: Vec::new(), environment: BTreeMap::new() }],
        run: Some(Run {
            command: vec!["run".into()],
            user: None,
            environment: BTreeMap::new(),
            environment_file: None,
            stop_signal: "SIGTERM".into(),
            stop_timeout: Duration::from_secs(1),
            limits: crate::catalog::Limits::default(),
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
struct House {
    supervisor: Addr<PlanSupervisor>,
    store: Store,
    stage: Arc<Stage>,
    _directory: tempfile::TempDir,
}

fn by() -> Caller {
    Caller { uid: 0, user: "tester".into(), pid: None, program: None }
}

impl House {
    /// Services `a` (1), `b` (2), `c` (3), `d` (4).
    fn new(stage: Stage) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let store = Store::open_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let stage = Arc::new(stage);
        let launcher: Arc<dyn Launch> = Arc::new(NoLaunch);
        let artifacts = Arc::new(ArtifactStore::open(at("artifacts")).unwrap());
        let git = Arc::new(Git::open(at("git"), at("git-cache")).unwrap());
        let policy = Policy::default();
        let executor = Executor {
            instance: store.instance().into(),
            runtime: stage.clone(),
            launcher: launcher.clone(),
            fetcher: Fetcher::new(artifacts.clone(), Limits::default(), policy.clone(), Timeouts::default())
                .unwrap(),
            builder: Arc::new(Builder::open(launcher, artifacts.clone(), git.clone(), at("builds")).unwrap()),
            artifacts,
            git,
            releases: Arc::new(Releases::open(at("services")).unwrap()),
            logs: TaskLogs::new(at("tasks")),
            limits: Limits::default(),
            policy,
            services_dir: at("services"),
            deeds: Deeds::default(),
            downloads: Arc::new(Semaphore::new(1)),
            builds: Arc::new(Semaphore::new(1)),
        };
        let catalog = Catalog::new([service(1, "a"), service(2, "b"), service(3, "c"), service(4, "d")]);
        let means = Means {
            executor: Arc::new(executor),
            host: tokio::runtime::Handle::current(),
            places: Arc::new(Semaphore::new(8)),
        };
        let (catalog, _) = watch::channel(Arc::new(catalog));
        let (held, _) = watch::channel(super::commander::Held::default());
        let supervisor = PlanSupervisor::new(store.clone(), means, catalog, [], held);
        let supervisor = actix::Actor::start(supervisor);
        Self { supervisor, store, stage, _directory: directory }
    }

    /// Stores and executes a plan of (service, priority, way).
    async fn execute(&self, name: &str, items: &[(u64, i64, &str)]) -> Result<Started, Refused> {
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

    async fn command(&self, task: TaskId, command: Command) -> Result<super::Commanded, Refused> {
        self.supervisor.send(CommandTask { task, command, by: by() }).await.unwrap()
    }

    fn task(&self, id: TaskId) -> Task {
        self.store.snapshot().unwrap().task(id).unwrap().unwrap()
    }

    /// Waits until a task is in a state, which the store tells.
    async fn reaches(&self, id: TaskId, state: TaskState) -> Task {
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

    fn starts(&self) -> Vec<String> {
        self.stage.starts.lock().unwrap().clone()
    }
}

fn gated(services: &[&str]) -> Stage {
    let closed = || services.iter().map(|name| ((*name).to_string(), Arc::new(Semaphore::new(0)))).collect();
    Stage { gates: closed(), arrived: closed(), ..Stage::default() }
}

async fn arrived(house: &House, service: &str) {
    house.stage.arrived[service].acquire().await.unwrap().forget();
}

fn open(house: &House, service: &str) {
    house.stage.gates[service].add_permits(1);
}

#[actix::test]
async fn a_panic_interrupts_its_task_and_no_other() {
    let house = House::new(gated(&["b"]));
    house.stage.panics.lock().unwrap().insert("a".into());
    let other = house.execute("other", &[(2, 0, "START")]).await.unwrap().task;
    arrived(&house, "b").await;
    let crashed = house.execute("crashed", &[(1, 1, "START"), (3, 0, "START")]).await.unwrap().task;
    let task = house.reaches(crashed, TaskState::Interrupted).await;
    assert_eq!(task.reason, Some(Reason::ActorCrashed));
    assert_eq!(house.task(other).state, TaskState::Running);
    open(&house, "b");
    house.reaches(other, TaskState::Succeeded).await;

    house.stage.panics.lock().unwrap().clear();
    house.command(crashed, Command::Resume { force: false }).await.unwrap();
    house.reaches(crashed, TaskState::Succeeded).await;
    assert_eq!(house.starts(), ["b", "a", "c"]);
}

#[actix::test]
async fn one_failure_holds_back_the_rest_but_lets_end_what_goes_on() {
    let house = House::new(gated(&["a", "b"]));
    house.stage.fails.lock().unwrap().insert("a".into());
    let plan = [(1, 2, "START"), (2, 2, "START"), (3, 1, "START")];
    let id = house.execute("plan", &plan).await.unwrap().task;
    arrived(&house, "a").await;
    arrived(&house, "b").await;
    open(&house, "a");
    let mut grown = house.store.watch();
    while house.task(id).reason != Some(Reason::Failing) {
        grown.changed().await.unwrap();
    }
    assert_eq!(house.task(id).state, TaskState::Running);
    open(&house, "b");
    let task = house.reaches(id, TaskState::Failed).await;
    let states: Vec<_> = task.deployments.iter().map(|deployment| deployment.state.name()).collect();
    assert_eq!(states, ["FAILED", "SUCCEEDED", "SKIPPED"]);
    assert_eq!(house.starts(), ["b"]);
}

#[actix::test]
async fn pausing_stopping_and_a_failure_while_draining() {
    let house = House::new(gated(&["a"]));
    let plan = [(1, 1, "START"), (2, 0, "START")];
    let id = house.execute("plan", &plan).await.unwrap().task;
    arrived(&house, "a").await;
    house.command(id, Command::Pause).await.unwrap();
    assert_eq!(house.task(id).state, TaskState::Pausing);
    house.command(id, Command::Pause).await.unwrap();
    house.command(id, Command::Stop).await.unwrap();
    assert_eq!(house.task(id).state, TaskState::Stopping);
    let refused = house.command(id, Command::Pause).await.unwrap_err();
    assert!(matches!(refused, Refused::NotPossible(_)), "{refused}");
    house.stage.fails.lock().unwrap().insert("a".into());
    open(&house, "a");
    let task = house.reaches(id, TaskState::Failed).await;
    assert_eq!(task.reason, Some(Reason::DeploymentFailed));
    assert!(house.starts().is_empty());
}

#[actix::test]
async fn a_service_belongs_to_one_active_task() {
    let house = House::new(gated(&["a"]));
    let first = house.execute("first", &[(1, 1, "START"), (2, 0, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    let refused = house.execute("second", &[(2, 0, "STOP")]).await.unwrap_err();
    let Refused::Conflict(holders) = &refused else { panic!("{refused}") };
    assert_eq!((holders[0].task, holders[0].service.get()), (first, 2));
    house.command(first, Command::Pause).await.unwrap();
    open(&house, "a");
    house.reaches(first, TaskState::Paused).await;
    // A paused task reserves nothing, but whoever comes is warned.
    let second = house.execute("second", &[(2, 0, "RESTART")]).await.unwrap();
    assert_eq!(second.warnings.len(), 1, "{:?}", second.warnings);
    house.reaches(second.task, TaskState::Succeeded).await;
}

#[actix::test]
async fn a_shutdown_lets_end_what_goes_on_and_interrupts_the_rest() {
    let house = House::new(gated(&["a", "b"]));
    let plan = [(1, 1, "START"), (2, 1, "START"), (3, 0, "START")];
    let id = house.execute("plan", &plan).await.unwrap().task;
    arrived(&house, "a").await;
    arrived(&house, "b").await;
    house.supervisor.send(Drain).await.unwrap();
    let refused = house.execute("late", &[(4, 0, "START")]).await.unwrap_err();
    assert!(matches!(refused, Refused::Draining), "{refused}");
    open(&house, "a");
    let mut grown = house.store.watch();
    while house.task(id).progress().succeeded == 0 {
        grown.changed().await.unwrap();
    }
    house.supervisor.send(InterruptAll).await.unwrap();
    let task = house.task(id);
    assert_eq!((task.state, task.reason), (TaskState::Interrupted, Some(Reason::DaemonShutDown)));
    let states: Vec<_> = task.deployments.iter().map(|deployment| deployment.state.name()).collect();
    assert_eq!(states, ["SUCCEEDED", "INTERRUPTED", "PENDING"]);
}

#[actix::test]
async fn deleting_and_what_is_gone() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 0, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    let refused = house.command(id, Command::Delete).await.unwrap_err();
    assert!(matches!(refused, Refused::CannotDelete(TaskState::Running)), "{refused}");
    open(&house, "a");
    house.reaches(id, TaskState::Succeeded).await;
    house.command(id, Command::Delete).await.unwrap();
    let refused = house.command(id, Command::Delete).await.unwrap_err();
    assert!(matches!(refused, Refused::NoSuchTask(gone) if gone == id), "{refused}");
    assert!(house.store.snapshot().unwrap().task(id).unwrap().is_none());
}

#[actix::test]
async fn the_journal_of_a_task_is_what_happened_in_this_order() {
    let house = House::new(Stage::default());
    let id = house.execute("plan", &[(1, 1, "START"), (2, 0, "STOP")]).await.unwrap().task;
    house.reaches(id, TaskState::Succeeded).await;
    let (_, events) = house.store.snapshot().unwrap().task_with_events(id).unwrap().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|stored| match &stored.event {
            crate::store::JournalEvent::Task(event) => Event::name(event),
            crate::store::JournalEvent::Host(_) => "host",
        })
        .collect();
    let deployment = ["deployment.begun", "operation.begun", "operation.ended", "deployment.ended"];
    let expected: Vec<_> =
        ["task.started"].into_iter().chain(deployment).chain(deployment).chain(["task.succeeded"]).collect();
    assert_eq!(names, expected);
}

#[actix::test]
async fn resuming_in_the_very_moment_of_coming_to_rest() {
    let house = House::new(gated(&["a"]));
    let id = house.execute("plan", &[(1, 9, "START"), (2, 8, "START"), (3, 7, "START")]).await.unwrap().task;
    arrived(&house, "a").await;
    house.command(id, Command::Pause).await.unwrap();
    open(&house, "a");
    // Refused for as long as it is PAUSING, and never lost once it is PAUSED.
    while house.command(id, Command::Resume { force: false }).await.is_err() {}
    house.reaches(id, TaskState::Succeeded).await;
    assert_eq!(house.starts(), ["a", "b", "c"]);
}

#[actix::test]
async fn what_a_crash_had_begun_is_not_begun_again() {
    let house = House::new(gated(&["a"]));
    house.stage.panics.lock().unwrap().insert("b".into());
    let id = house.execute("plan", &[(1, 0, "START"), (2, 0, "START")]).await.unwrap().task;
    house.reaches(id, TaskState::Interrupted).await;
    arrived(&house, "a").await;
    house.stage.panics.lock().unwrap().clear();
    // The start of `a` is still going on: what resumes waits for it, and finds it done.
    house.command(id, Command::Resume { force: false }).await.unwrap();
    open(&house, "a");
    let task = house.reaches(id, TaskState::Succeeded).await;
    let mut starts = house.starts();
    starts.sort();
    assert_eq!(starts, ["a", "b"]);
    assert_eq!(task.deployments[0].operations[0].settled, Some(crate::task::operation::Settled::FoundDone));
}
