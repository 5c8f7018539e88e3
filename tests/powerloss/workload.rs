//! Real events of real tasks, committed by the real store, and a model of what is in it by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use deployd::catalog::{Container, Health, Hooks, RuntimeKind, Service, ServiceId};
use deployd::plan::{ContainerOrder, Way};
use deployd::store::{Change, JournalEvent, PlanInfo, Snapshot, Store, StoreError, StoredEvent};
use deployd::task::deployment::DeploymentSpec;
use deployd::task::event::{Definition, Event};
use deployd::task::host_event::HostEvent;
use deployd::task::operation::{Done, Evidence, Incarnation, OperationEnd};
use deployd::task::summary::TaskSummary;
use deployd::task::{Caller, Reason, Task, TaskId, Timestamp};
use tokio::runtime::Runtime;

use crate::disk::{Disk, Op, Random};

/// Tasks beyond these are deleted, so that pages are used again.
const KEPT: usize = 4;

/// Everything that can be read from a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    entries: Vec<Arc<StoredEvent>>,
    tasks: BTreeMap<u64, TaskSummary>,
    open: BTreeSet<u64>,
    plan: Option<PlanInfo>,
}

impl Content {
    pub fn of(snapshot: &Snapshot) -> Result<Self, StoreError> {
        let tasks = snapshot.task_summaries(&[], None, usize::MAX)?;
        Ok(Self {
            entries: snapshot.feed(0, None, usize::MAX)?.into_iter().map(Arc::new).collect(),
            tasks: tasks.into_iter().map(|task| (task.id.0, task)).collect(),
            open: snapshot.open_tasks()?.into_iter().map(|id| id.0).collect(),
            plan: snapshot.plan("shop", None)?,
        })
    }

    pub fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    fn add(&mut self, seq: u64, at: Timestamp, place: Option<(TaskId, u64)>, event: JournalEvent) {
        let (task, n) = place.map_or((None, 0), |(task, n)| (Some(task), n));
        self.entries.push(Arc::new(StoredEvent { seq, n, task, at, event }));
    }

    fn put(&mut self, summary: TaskSummary) {
        let id = summary.id.0;
        if summary.state.is_final() {
            self.open.remove(&id);
        } else {
            self.open.insert(id);
        }
        self.tasks.insert(id, summary);
    }
}

fn by() -> Caller {
    Caller { uid: 7, user: "somebody".into(), pid: Some(3), program: Some("deployctl".into()) }
}

fn definition(containers: u64) -> Definition {
    let names: Vec<String> = (0..containers).map(|number| format!("web-{number}")).collect();
    let container = |name: &String| Container {
        name: name.clone(),
        labels: Vec::new(),
        environment: BTreeMap::new(),
        unit: None,
    };
    let service = Service {
        id: ServiceId::new(1).unwrap(),
        name: "web".into(),
        description: Some("Storefront".into()),
        runtime: RuntimeKind::Process,
        containers: names.iter().map(container).collect(),
        run: None,
        health: Health {
            probe: None,
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            settle: Duration::from_secs(1),
        },
        build: None,
        hooks: Hooks::default(),
        shared_paths: Vec::new(),
        keep_releases: 5,
        strip_components: 0,
    };
    let deployment = DeploymentSpec {
        service: Arc::new(service),
        priority: 0,
        way: Way::Restart,
        order: ContainerOrder::Parallel,
        labels: Vec::new(),
        containers: names,
    };
    Definition { plan: "shop".into(), revision: 1, comment: None, deployments: vec![deployment] }
}

/// What happens to a task, one group after another; the events of a group come together.
fn story(containers: u64, interrupted: bool) -> Vec<Vec<Event>> {
    let (deployment, count) = (0, usize::try_from(containers).unwrap());
    let incarnation = |pid| Incarnation::Process { boot_id: "boot".into(), pid, start_ticks: 5 };
    let begun = |operation| {
        let evidence = Evidence { incarnation: Some(incarnation(4)), release: Some("r1".into()) };
        Event::OperationBegun { deployment, operation, evidence, to_release: None }
    };
    let ended = |operation| {
        let result = Ok(Done::Changed(Some(incarnation(6))));
        let end = OperationEnd { result, detail: "healthy after 0.4 s".into(), settled: None };
        Event::OperationEnded { deployment, operation, end }
    };
    let mut story = vec![vec![Event::DeploymentBegun { deployment }]];
    if interrupted {
        story.push(vec![Event::Interrupted { reason: Reason::DaemonDied }]);
        story.push(vec![Event::Resumed { by: by(), force: false }]);
        story.push(vec![Event::DeploymentBegun { deployment }]);
    }
    story.push((0..count).map(begun).collect());
    story.push((0..count).map(ended).collect());
    story.push(vec![Event::DeploymentEnded { deployment, result: Ok(()) }]);
    story.push(vec![Event::Completed]);
    story
}

/// The store on a disk, and what is in it after each request.
pub struct Workload {
    runtime: Runtime,
    store: Store,
    disk: Disk,
    /// After the n-th request.
    pub contents: Vec<Content>,
    clock: i64,
    /// Acknowledges a request before it was handed over: a mistake that has to be noticed.
    pub hasty: bool,
}

impl Workload {
    pub fn new(disk: Disk) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Store::open_with_backend(disk.clone()).unwrap();
        disk.note(Op::Acknowledged(0));
        Self { runtime, store, disk, contents: vec![Content::default()], clock: 0, hasty: false }
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp(self.clock)
    }

    /// Hands requests over at once, and waits for all of them.
    fn commit(&mut self, requests: Vec<(Vec<Change>, Content)>) {
        let mut answers = Vec::new();
        for (changes, content) in requests {
            self.contents.push(content);
            let count = self.contents.len() - 1;
            self.disk.note(Op::Asked(count));
            if self.hasty {
                self.disk.note(Op::Acknowledged(count));
            }
            answers.push((self.store.commit(changes), count));
        }
        for (answer, count) in answers {
            self.runtime.block_on(answer).unwrap();
            self.disk.note(Op::Acknowledged(count));
        }
    }

    fn content(&self) -> Content {
        self.contents.last().unwrap().clone()
    }

    /// One task from its start to its end.
    pub fn task(&mut self, random: &mut Random) {
        let containers = 1 + random.below(4);
        let started = Event::Started { by: by(), definition: definition(containers) };
        let (at, mut content) = (self.now(), self.content());
        let id = TaskId(content.tasks.keys().last().map_or(0, |last| *last) + 1);
        let mut task = Task::begin(id, &started, at).unwrap();
        content.add(content.last() + 1, at, Some((id, 1)), JournalEvent::Task(started.clone()));
        content.put(TaskSummary::of(&task, 1));
        self.commit(vec![(vec![Change::CreateTask { at, event: started, key: None }], content)]);
        let mut n = 1;
        for group in story(containers, random.below(2) == 0) {
            let mut requests = Vec::new();
            let mut content = self.content();
            for event in group {
                let at = self.now();
                task.apply(&event, at).unwrap();
                n += 1;
                let summary = TaskSummary::of(&task, n);
                content.add(content.last() + 1, at, Some((id, n)), JournalEvent::Task(event.clone()));
                content.put(summary.clone());
                requests.push((
                    vec![Change::Append { task: id, n, at, event, summary, records: Vec::new() }],
                    content.clone(),
                ));
            }
            self.commit(requests);
        }
    }

    /// The next revision of a plan of so many bytes.
    pub fn plan(&mut self, bytes: usize) {
        let (at, mut content) = (self.now(), self.content());
        let revision = content.plan.as_ref().map_or(0, |plan| plan.revision) + 1;
        let info = PlanInfo {
            name: "shop".into(),
            revision,
            at,
            by: by(),
            comment: None,
            items: 1,
            batches: 1,
            text: vec![b'#'; bytes],
        };
        let created = HostEvent::PlanCreated { name: "shop".into(), revision, by: by() };
        content.add(content.last() + 1, at, None, JournalEvent::Host(created));
        content.plan = Some(info.clone());
        let PlanInfo { name, by, comment, items, batches, text, .. } = info;
        self.commit(vec![(vec![Change::PutPlan { name, at, by, comment, items, batches, text }], content)]);
    }

    /// Deletes the oldest tasks but [`KEPT`].
    pub fn prune(&mut self) {
        let excess = self.contents.last().unwrap().tasks.len().saturating_sub(KEPT);
        for _ in 0..excess {
            let (at, mut content) = (self.now(), self.content());
            let last = content.last();
            let id = TaskId(content.tasks.pop_first().unwrap().0);
            content.entries.retain(|entry| entry.task != Some(id));
            content.add(
                last + 1,
                at,
                None,
                JournalEvent::Host(HostEvent::TaskDeleted { task: id, by: None }),
            );
            self.commit(vec![(vec![Change::DeleteTask { task: id, at, by: None }], content)]);
        }
    }

    /// Closes the store, as a daemon does that is told to end.
    pub fn close(self) -> Vec<Content> {
        self.store.close();
        self.contents
    }
}
