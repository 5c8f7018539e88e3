//! Looking at a container, before anything is done to it and for whoever asks.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Executor, Subject, Target, failure};
use crate::catalog::{Container, RuntimeKind, Service};
use crate::runtime::{ContainerRef, Form, Observation, RuntimeError};
use crate::task::drift::Seen;
use crate::task::evidence::{Deeds, Observed, deeds};
use crate::task::operation::Evidence;
use crate::task::{Failure, Timestamp};

/// What a look at a container showed.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What was there, for the journal.
    pub evidence: Evidence,
    /// What remains to be done.
    pub deeds: Deeds,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// `running`, `stopped`, `exited`, `unknown`.
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

impl Executor {
    /// Looks at the container of `target`: the evidence, and the deeds that remain.
    pub async fn look(&self, target: &Target) -> Result<Looked, Failure> {
        let container = reference(&target.subject.service, &target.container.name);
        let _nothing_else = self.deeds.only(&container).await;
        let observed = self.observe(&target.subject, &target.container.name).await?;
        let evidence = Evidence {
            incarnation: match &observed {
                Observed::Up { incarnation, .. } => Some(incarnation.clone()),
                Observed::Down { .. } => None,
            },
            release: self.current(&target.subject.service.name, &target.container.name)?,
        };
        Ok(Looked { evidence, deeds: deeds(&target.subject.way, &target.id, &observed) })
    }

    /// What is there, for the drift guard.
    ///
    /// # Errors
    /// When it can't be seen.
    pub async fn see(&self, service: &Service, container: &str) -> Result<Seen, Failure> {
        let release = self.current(&service.name, container)?;
        let seen = Seen { release, ..Seen::default() };
        let observed = self.runtime.observe(&reference(service, container)).await;
        Ok(match observed.map_err(|error| not_seen(container, &error))? {
            Observation::Absent => seen,
            Observation::Exited { rebooted, .. } => Seen { rebooted, ..seen },
            Observation::Running { incarnation, restarts, .. } => {
                Seen { incarnation: Some(incarnation), restarted: restarts > 0, ..seen }
            }
        })
    }

    async fn observe(&self, subject: &Subject, container: &str) -> Result<Observed, Failure> {
        let container = reference(&subject.service, container);
        let seen = self.runtime.observe_settled(&container).await;
        let seen = seen.map_err(|error| not_seen(&container.container, &error))?;
        Ok(match seen {
            Observation::Absent => Observed::Down { ended: None },
            // What a reboot has ended did not end by itself: it may be started again.
            Observation::Exited { rebooted: true, .. } => Observed::Down { ended: None },
            Observation::Exited { operation, .. } => Observed::Down { ended: Some(operation) },
            Observation::Running { incarnation, operation, .. } => Observed::Up { incarnation, operation },
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
            Ok(Observation::Absent) => view.state = "stopped",
            Ok(Observation::Exited { status, rebooted, release, .. }) => {
                view.state = "exited";
                view.running_release = release;
                view.detail = match status {
                    _ if rebooted => "ended with the machine; start it again with a plan".into(),
                    Some(status) => status.to_string(),
                    None => "ended; its status is unknown".into(),
                };
            }
            Ok(Observation::Running { pid, release, since, restarts, .. }) => {
                if restarts > 0 {
                    view.detail =
                        format!("started again {restarts} times by its runtime, after it had ended");
                }
                view.state = "running";
                view.pid = pid;
                view.since = since;
                view.running_release = release;
            }
            Err(error) => view.detail = error.to_string(),
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

fn not_seen(container: &str, error: &RuntimeError) -> Failure {
    failure("observe", format!("cannot look at container {container}: {error}"))
}
