//! Looking at a container, before anything is done to it and for whoever asks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::board::Doing;
use super::{Executor, Halt, Subject, Target, failure};
use crate::catalog::{Container, RuntimeKind, Service};
use crate::clock;
use crate::plan::Way;
use crate::runtime::{ContainerRef, Form, Observation, Phase, RuntimeError};
use crate::spawn::ExitStatus;
use crate::task::drift::Seen;
use crate::task::evidence::{Deeds, Observed, deeds};
use crate::task::operation::Evidence;
use crate::task::{Failure, Timestamp};

/// What a look at a container showed.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What was there.
    pub seen: Seen,
    /// What remains to be done.
    pub deeds: Deeds,
}

impl Looked {
    /// The same, for an operation of this id.
    pub fn of(seen: Seen, way: &Way, id: &str) -> Self {
        let deeds = deeds(way, id, &seen.observed);
        Self { seen, deeds }
    }

    /// What was there before an operation of this way, for the journal.
    pub fn evidence(&self, way: &Way) -> Evidence {
        self.seen.evidence(way)
    }
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// `running`, `restarting`, `starting`, `reloading`, `stopping`, `paused`, `stopped`, `exited`, `foreign`,
    /// `unknown`.
    pub state: &'static str,
    /// The process id of what runs.
    pub pid: Option<i32>,
    /// Since when it runs.
    pub since: Option<Timestamp>,
    /// The release it points to.
    pub release: Option<String>,
    /// The release that what runs was started from.
    pub running_release: Option<String>,
    /// For people.
    pub detail: String,
}

impl ContainerView {
    fn show(&mut self, observation: Observation, service: &Service) {
        match observation {
            Observation::Absent => self.state = "stopped",
            Observation::Exited { status, rebooted, release, restarts, .. } => {
                self.state = "exited";
                self.running_release = release;
                let end = how_it_ended(status);
                self.detail = match restarts {
                    _ if rebooted => "ended with the machine; start it again with a plan".into(),
                    0 => end,
                    _ => format!("{end}; its runtime gave up after {}", restarted(restarts)),
                };
            }
            Observation::Running { pid, release, since, restarts, .. } => {
                self.state = "running";
                if restarts > 0 {
                    self.detail =
                        format!("its runtime restarted it after it ended ({})", restarted(restarts));
                }
                if is_in_a_loop(restarts, since, service) {
                    self.state = "restarting";
                }
                if self.detail.is_empty() && release.is_some() && release != self.release {
                    let runs = release.as_deref().unwrap_or_default();
                    self.detail = format!("runs release {runs}: its files were restored, or changed by hand");
                }
                self.pid = pid;
                self.since = since;
                self.running_release = release;
            }
            Observation::Restarting { release, status, restarts, .. } => {
                self.state = "restarting";
                self.running_release = release;
                self.detail = format!("{}; its runtime starts it again", how_it_ended(status));
                if restarts > 0 {
                    self.detail = format!("{} ({} so far)", self.detail, restarted(restarts));
                }
            }
            Observation::Changing { phase, release, detail, .. } => {
                self.state = phase.name();
                self.running_release = release;
                self.detail = detail;
            }
        }
    }
}

fn how_it_ended(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "ended; its status is unknown".into(), |status| status.to_string())
}

fn restarted(times: u32) -> String {
    format!("{times} restart{}", if times == 1 { "" } else { "s" })
}

/// A run that its runtime has begun by itself counts as up once it has lived as long as a start must: in a loop
/// of restarts there is always a moment in which something runs.
fn is_in_a_loop(restarts: u32, since: Option<Timestamp>, service: &Service) -> bool {
    let age = since.map(|since| Duration::from_micros(u64::try_from(clock::now().0 - since.0).unwrap_or(0)));
    restarts > 0 && age.is_some_and(|age| age < service.health.settle)
}

impl Executor {
    /// Looks at the container of `target`: what is there, and the deeds that remain.
    ///
    /// # Errors
    /// When it can't be seen, or its task is cut.
    pub async fn look(&self, target: &Target) -> Result<Looked, Halt> {
        let look = async {
            let _nothing_else = self.only(target).await?;
            self.observe(target).await.map_err(Halt::from)
        };
        let seen = self.attention(target, Doing::Look, look).await??;
        Ok(Looked::of(seen, &target.subject.way, &target.id))
    }

    /// What is there, for the drift guard.
    ///
    /// # Errors
    /// When it can't be seen.
    pub async fn see(&self, service: &Service, container: &str) -> Result<Seen, Failure> {
        let observed = self.runtime.observe(&reference(service, container)).await;
        self.seen(service, container, observed.map_err(|error| not_seen(container, &error))?)
    }

    /// As [`Self::see`], when nothing that was begun on it, by whomever, is under way any more.
    ///
    /// # Errors
    /// When it can't be seen.
    pub async fn see_settled(&self, service: &Service, container: &str) -> Result<Seen, Failure> {
        let observed = self.runtime.observe_settled(&reference(service, container)).await;
        self.seen(service, container, observed.map_err(|error| not_seen(container, &error))?)
    }

    async fn observe(&self, target: &Target) -> Result<Seen, Failure> {
        let Subject { service, way, .. } = &target.subject;
        let container = reference(service, &target.container.name);
        let observed = match way {
            // Whatever is going on there, it ends by this.
            Way::Stop if target.in_doubt.is_none() => self.runtime.observe(&container).await,
            _ => self.runtime.observe_settled(&container).await,
        };
        let observed = observed.map_err(|error| not_begun(way, &container.container, &error))?;
        self.seen(service, &container.container, observed)
    }

    fn seen(&self, service: &Service, container: &str, observed: Observation) -> Result<Seen, Failure> {
        let seen = Seen { release: self.current(&service.name, container)?, ..Seen::default() };
        Ok(match observed {
            Observation::Absent => seen,
            Observation::Exited { operation, rebooted, .. } => seen.ended(operation, rebooted),
            Observation::Running { incarnation, operation, since, restarts, .. } => {
                let seen = Seen { restarted: restarts > 0, ..seen };
                if is_in_a_loop(restarts, since, service) {
                    let observed = Observed::Restarting { incarnation: incarnation.clone(), operation };
                    return Ok(Seen { incarnation: Some(incarnation), observed, ..seen });
                }
                seen.running(incarnation, operation)
            }
            // Its program runs all the while.
            Observation::Changing { phase: Phase::Reloading, incarnation, operation, .. } => {
                seen.running(incarnation, operation)
            }
            // What is on its way up or down is not up.
            Observation::Changing { incarnation, operation, .. } => {
                Seen { observed: Observed::Changing { incarnation, operation }, ..seen }
            }
            Observation::Restarting { incarnation, operation, .. } => {
                Seen { observed: Observed::Restarting { incarnation, operation }, restarted: true, ..seen }
            }
        })
    }

    /// The release to which a container points.
    ///
    /// Read at once, as the run file is: handing such a small thing to another thread costs more.
    pub fn current(&self, service: &str, container: &str) -> Result<Option<String>, Failure> {
        self.releases
            .current(service, container)
            .map_err(|error| failure("observe", format!("cannot read the current release: {error}; see the directory of its service below the state directory")))
    }

    /// Each container of a service as it is now.
    pub async fn view(&self, service: &Service) -> Vec<ContainerView> {
        let mut views = Vec::with_capacity(service.containers.len());
        for container in &service.containers {
            views.push(self.view_container(service, container).await);
        }
        views
    }

    /// One container as it is now. What can't be seen is shown as such, never as an error of the whole.
    pub async fn view_container(&self, service: &Service, container: &Container) -> ContainerView {
        let mut view = ContainerView {
            name: container.name.clone(),
            labels: container.labels.iter().map(|label| label.0.clone()).collect(),
            state: "unknown",
            pid: None,
            since: None,
            release: None,
            running_release: None,
            detail: String::new(),
        };
        match self.current(&service.name, &container.name) {
            Ok(release) => view.release = release,
            Err(error) => view.detail = error.message,
        }
        match self.runtime.observe(&reference(service, &container.name)).await {
            Ok(observation) => view.show(observation, service),
            Err(error) => {
                view.state = if error.is_foreign() { "foreign" } else { "unknown" };
                view.detail = error.to_string();
            }
        }
        view
    }

    /// Removes what is left of containers that none of these services has, if nothing of them runs.
    pub async fn sweep_containers(&self, services: &[Arc<Service>]) {
        let containers = |service: &Arc<Service>| -> Vec<ContainerRef> {
            service.containers.iter().map(|container| reference(service, &container.name)).collect()
        };
        let keep: HashSet<ContainerRef> = services.iter().flat_map(containers).collect();
        if let Err(error) = self.runtime.sweep(&keep).await {
            tracing::warn!(%error, "cannot remove what is left of containers that are in the catalog no more");
        }
    }

    /// The last lines of output of each container of a service.
    pub async fn container_logs(&self, service: &Service, lines: usize) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for container in &service.containers {
            let last = self.runtime.last_lines(&reference(service, &container.name), lines).await;
            all.extend(last.into_iter().map(|line| (container.name.clone(), line)));
        }
        all
    }
}

/// How the runtime knows a container.
pub fn reference(service: &Service, container: &str) -> ContainerRef {
    let unit = service.container(container).and_then(|container| container.unit.clone());
    let form = match (service.runtime, unit) {
        (RuntimeKind::Process, _) => Form::Process,
        (RuntimeKind::Systemd, None) => Form::GeneratedUnit,
        (RuntimeKind::Systemd, Some(unit)) => Form::Unit(unit),
        (RuntimeKind::Engine(engine), _) => Form::Engine(engine),
    };
    ContainerRef { service: service.name.clone(), container: container.to_string(), form }
}

/// Nothing was done yet: what is somebody else's is left alone.
fn not_begun(way: &Way, container: &str, error: &RuntimeError) -> Failure {
    if error.is_foreign() {
        return failure("foreign", format!("cannot {} container {container}: {error}", way.name()));
    }
    not_seen(container, error)
}

pub(super) fn not_seen(container: &str, error: &RuntimeError) -> Failure {
    failure("observe", format!("cannot look at container {container}: {error}"))
}
