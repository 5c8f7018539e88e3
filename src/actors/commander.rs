//! What the rest of the program asks of the supervisor, and what it can find out by itself.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Addr, MailboxError};
use async_trait::async_trait;
use tokio::sync::watch;

use super::plan_supervisor::{CommandTask, Held, PlanSupervisor, ReplaceCatalog};
use super::preview::preview;
use super::stored_plan::{policy, stored_plan, unavailable};
use super::{
    Command, Commanded, Commander, ContainerView, Execute, PlanSize, Preparation, Preview, Refused, Reloaded,
    Repository, Started, StoredPlan,
};
use crate::catalog::{Catalog, Service, ServiceId};
use crate::clock;
use crate::compile::compile;
use crate::executor::Executor;
use crate::mistake::Mistake;
use crate::plan::check::is_repository_name;
use crate::plan::{Plan, check};
use crate::store::{Change, Store, StoreError};
use crate::task::forecast::Forecast;
use crate::task::host_event::HostEvent;
use crate::task::{Caller, TaskId};

/// How the catalog is read: the daemon knows.
pub type ReadCatalog = Box<dyn Fn() -> Result<Catalog, Refused> + Send + Sync>;

/// The way to the supervisor.
pub struct Handle {
    /// The supervisor.
    pub supervisor: Addr<PlanSupervisor>,
    /// Reads, and writes that concern no task.
    pub store: Store,
    /// Looks at containers and repositories.
    pub executor: Arc<Executor>,
    /// The threads on which it looks.
    pub host: tokio::runtime::Handle,
    /// The catalog as it is.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// Which active task holds which service.
    pub held: watch::Receiver<Held>,
    /// Reads it anew.
    pub read_catalog: ReadCatalog,
    /// Set when the daemon shuts down.
    pub draining: Arc<AtomicBool>,
}

fn size(plan: &Plan) -> PlanSize {
    let mut priorities: Vec<i64> = plan.items.iter().map(|item| item.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    PlanSize { items: count(plan.items.len()), batches: count(priorities.len()) }
}

/// A plan's name: what can be a file's stem and stands in a URL as it is.
fn is_plan_name(name: &str) -> bool {
    let valid = |c: char| c.is_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(valid) && !name.starts_with(['.', '-'])
}

impl Handle {
    fn mailbox<T>(answer: Result<Result<T, Refused>, MailboxError>) -> Result<T, Refused> {
        answer.unwrap_or_else(|_| {
            Err(Refused::Unavailable("deployd is ending; try again when it is back".into()))
        })
    }

    /// Parses and checks off the threads that must not wait.
    async fn check(&self, text: Vec<u8>) -> Result<(Plan, Vec<u8>), Vec<Mistake>> {
        let (catalog, executor) = (self.catalog.borrow().clone(), self.executor.clone());
        let work = move || check::read(&text, &catalog, &policy(&executor)).map(|plan| (plan, text));
        crate::blocking::run(work).await
    }

    /// The active tasks that hold any of these services, in words.
    fn conflicts(&self, services: &HashSet<ServiceId>) -> Result<Vec<String>, Refused> {
        let held = self.held.borrow().clone();
        let mut tasks: Vec<TaskId> = services.iter().filter_map(|id| held.get(id).copied()).collect();
        tasks.sort_unstable();
        tasks.dedup();
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        let mut found = Vec::new();
        for id in tasks {
            let task = snapshot.task_summary(id).map_err(|error| unavailable(&error))?;
            // Whoever was told that a task is at rest must not be told that it is not, while its actor ends.
            let Some(task) = task.filter(|task| task.state.is_active()) else { continue };
            let mut theirs: Vec<_> =
                services.iter().filter(|service| held.get(service) == Some(&id)).collect();
            theirs.sort_unstable();
            let first = theirs.first().map(ToString::to_string).unwrap_or_default();
            found.push(format!(
                "service {first} is being released by task {id} of {} ({})",
                task.created_by.user, task.state
            ));
        }
        Ok(found)
    }

    /// Removes what is left of containers that neither the catalog nor a task that may go on has any more.
    pub fn sweep_containers(&self) {
        let (store, executor, catalog) = (self.store.clone(), self.executor.clone(), self.catalog());
        let services = move || -> Result<Vec<Arc<Service>>, StoreError> {
            let snapshot = store.snapshot()?;
            let mut services: Vec<_> = catalog.services().cloned().collect();
            for task in snapshot.open_tasks()? {
                let task = snapshot.task(task)?;
                services.extend(task.into_iter().flat_map(|task| task.deployments).map(|it| it.spec.service));
            }
            Ok(services)
        };
        self.host.spawn(async move {
            match crate::blocking::run(services).await {
                Ok(services) => executor.sweep_containers(&services).await,
                Err(error) => tracing::warn!(%error, "cannot tell which containers are still needed"),
            }
        });
    }

    /// Runs what looks at the host on the host's threads.
    async fn on_host<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refused> {
        self.host.spawn(work).await.map_err(|error| Refused::Host(error.to_string()))
    }
}

#[async_trait]
impl Commander for Handle {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    async fn check_plan(&self, text: Vec<u8>) -> Result<PlanSize, Refused> {
        self.check(text).await.map(|(plan, _)| size(&plan)).map_err(Refused::PlanInvalid)
    }

    async fn put_plan(&self, name: String, text: Vec<u8>, by: Caller) -> Result<StoredPlan, Refused> {
        if self.is_draining() {
            return Err(Refused::Draining);
        }
        if !is_plan_name(&name) {
            let text = format!("`{}` is no name for a plan: letters, digits, . _ and -", name.escape_debug());
            return Err(Refused::BadName(text));
        }
        let (plan, text) = self.check(text).await.map_err(Refused::PlanInvalid)?;
        let size = size(&plan);
        let change = Change::PutPlan {
            name,
            at: clock::now(),
            by,
            comment: plan.comment,
            items: size.items,
            batches: size.batches,
            text,
        };
        let committed = self.store.commit(vec![change]).await.map_err(|error| unavailable(&error))?;
        Ok(StoredPlan { revision: committed.revision.unwrap_or_default(), size })
    }

    async fn delete_plan(&self, name: String, by: Caller) -> Result<(), Refused> {
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        if snapshot.plan(&name, None).map_err(|error| unavailable(&error))?.is_none() {
            return Err(Refused::NoSuchPlan(name));
        }
        let change = Change::DeletePlan { name, at: clock::now(), by };
        self.store.commit(vec![change]).await.map(|_| ()).map_err(|error| unavailable(&error))
    }

    async fn execute(&self, execute: Execute) -> Result<Started, Refused> {
        Self::mailbox(self.supervisor.send(execute).await)
    }

    async fn dry_run(&self, plan: String, revision: Option<u32>) -> Result<Preview, Refused> {
        let snapshot = self.store.snapshot().map_err(|error| unavailable(&error))?;
        let catalog = self.catalog();
        let (info, plan) = stored_plan(&snapshot, &plan, revision, &catalog, &self.executor)?;
        let deployments = compile(&plan, &catalog).map_err(Refused::PlanInvalid)?;
        let services = deployments.iter().map(|spec| spec.service.id).collect();
        // What is in the way now: of a task that is yet to be.
        let mut problems = self.conflicts(&services)?;
        let mut known = Vec::with_capacity(deployments.len());
        for spec in deployments {
            let seen = snapshot
                .durations(spec.service.id, &spec.way, u64::MAX)
                .map_err(|error| unavailable(&error))?;
            known.push((spec, Forecast::of(seen)));
        }
        let executor = self.executor.clone();
        let look = async move {
            let found = preview(&executor, known).await;
            problems.extend(found.problems);
            Preview { revision: info.revision, problems, ..found }
        };
        self.on_host(look).await
    }

    async fn command(&self, task: TaskId, command: Command, by: Caller) -> Result<Commanded, Refused> {
        Self::mailbox(self.supervisor.send(CommandTask { task, command, by }).await)
    }

    async fn reload(&self, by: Option<Caller>) -> Result<Reloaded, Refused> {
        let catalog = Arc::new((self.read_catalog)()?);
        let reloaded = Self::mailbox(self.supervisor.send(ReplaceCatalog { catalog, by }).await)?;
        self.sweep_containers();
        Ok(reloaded)
    }

    async fn create_repository(&self, name: String, by: Caller) -> Result<Repository, Refused> {
        if !is_repository_name(&name) {
            let text =
                format!("`{}` is no name for a repository: use a-z, 0-9, . _ and -", name.escape_debug());
            return Err(Refused::BadName(text));
        }
        let (executor, store) = (self.executor.clone(), self.store.clone());
        // To its end, and into the journal, even if whoever asked has gone.
        let create = async move {
            let repositories = executor.git.repositories();
            let _change = repositories.change().await;
            if repositories.path(&name).exists() {
                return Err(Refused::Exists(format!("repository {name}")));
            }
            let created = repositories.create(&name).await;
            let created = created.map_err(|error| Refused::Host(error.to_string()))?;
            host_event(&store, HostEvent::RepositoryCreated { name, by }).await?;
            Ok(repository(created))
        };
        self.on_host(create).await?
    }

    async fn delete_repository(&self, name: String, by: Caller) -> Result<(), Refused> {
        let (executor, store) = (self.executor.clone(), self.store.clone());
        let delete = async move {
            let repositories = executor.git.repositories();
            let _change = repositories.change().await;
            if !is_repository_name(&name) || !repositories.path(&name).exists() {
                return Err(Refused::NoSuchRepository(name));
            }
            let (deleting, doomed) = (executor.clone(), name.clone());
            let deleted = crate::blocking::run(move || deleting.git.repositories().delete(&doomed)).await;
            deleted.map_err(|error| Refused::Host(error.to_string()))?;
            host_event(&store, HostEvent::RepositoryDeleted { name, by }).await
        };
        self.on_host(delete).await?
    }

    async fn repositories(&self) -> Result<Vec<Repository>, Refused> {
        let executor = self.executor.clone();
        let list = self.on_host(async move { executor.git.repositories().list().await }).await?;
        Ok(list.map_err(|error| Refused::Host(error.to_string()))?.into_iter().map(repository).collect())
    }

    async fn containers(&self, service: ServiceId) -> Result<Vec<ContainerView>, Refused> {
        let found = self.catalog().get(service).cloned();
        let found = found.ok_or_else(|| Refused::NoSuchService(service.to_string()))?;
        let executor = self.executor.clone();
        self.on_host(async move { executor.view(&found).await }).await
    }

    async fn service_logs(&self, service: ServiceId, lines: usize) -> Result<Vec<(String, String)>, Refused> {
        let found = self.catalog().get(service).cloned();
        let found = found.ok_or_else(|| Refused::NoSuchService(service.to_string()))?;
        let executor = self.executor.clone();
        self.on_host(async move { executor.container_logs(&found, lines).await }).await
    }

    async fn artifact_bytes(&self) -> Result<u64, Refused> {
        let executor = self.executor.clone();
        let bytes = crate::blocking::run(move || executor.artifacts.bytes()).await;
        bytes.map_err(|error| Refused::Host(format!("cannot read the artifacts: {error}")))
    }

    fn preparations(&self, task: TaskId) -> BTreeMap<usize, Preparation> {
        self.executor.board.of(task)
    }

    fn holder(&self, service: ServiceId) -> Option<TaskId> {
        let task = self.held.borrow().get(&service).copied()?;
        // As in `conflicts`: a task at rest holds nothing, even if its actor is still ending.
        let summary = self.store.snapshot().and_then(|snapshot| snapshot.task_summary(task));
        summary.map_or(true, |summary| summary.is_some_and(|it| it.state.is_active())).then_some(task)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

async fn host_event(store: &Store, event: HostEvent) -> Result<(), Refused> {
    let change = Change::Host { at: clock::now(), event };
    store.commit(vec![change]).await.map(|_| ()).map_err(|error| unavailable(&error))
}

fn repository(info: crate::artifact::git::repositories::RepositoryInfo) -> Repository {
    let path: PathBuf = info.path;
    Repository { name: info.name, path: path.to_string_lossy().into_owned(), branches: info.branches }
}
