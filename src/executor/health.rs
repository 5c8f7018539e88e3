//! Whether a container is up: after a start, and before a START leaves alone what runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::board::Doing;
use super::container::reference;
use super::operate::{died_unseen, run_of, seconds};
use super::patience::Only;
use super::{Executor, Halt, Target, environment, failure};
use crate::catalog::{Health, Probe, Run, expand};
use crate::clock;
use crate::probe::{self, Inside, ProbeFailure, ResolvedProbe};
use crate::runtime::{Form, Observation, Phase};
use crate::spawn::ExitStatus;
use crate::task::operation::{Done, Incarnation};
use crate::task::{Failure, Timestamp};

/// How a run has ended is known to its runtime within this time, or not at all.
const STATUS: Duration = Duration::from_secs(1);

impl Executor {
    /// START leaves alone what runs and shows that it is well: by one good answer of its health check, without a
    /// check by having lived as long as a start must. `None`: it ended meanwhile.
    ///
    /// # Errors
    /// When it is not well, or is on its way up or down and does not get there.
    pub(super) async fn leave(&self, target: &Target) -> Result<Option<String>, Halt> {
        let container = reference(&target.subject.service, &target.container.name);
        let observed = self.runtime.observe(&container).await;
        let observed = observed.map_err(|error| super::container::not_seen(&container.container, &error))?;
        let (incarnation, since, operation, release) = match observed {
            Observation::Running { incarnation, since, operation, release, .. } => {
                (incarnation, since, operation, release)
            }
            Observation::Changing { phase: Phase::Reloading, incarnation, operation, release, .. } => {
                (incarnation, None, operation, release)
            }
            Observation::Changing { phase, detail, .. } => return Err(held_up(target, phase, &detail).into()),
            Observation::Absent | Observation::Exited { .. } | Observation::Restarting { .. } => {
                return Ok(None);
            }
        };
        let resolved = if target.subject.service.health.probe.is_none() {
            ResolvedProbe::Alive
        } else {
            // As what runs would be asked by the operation that started it.
            let run = run_of(target)?;
            let current = self.current(&target.subject.service.name, &target.container.name)?;
            let (release, by) = (release.or(current), Some(operation).filter(|by| !by.is_empty()));
            let id = by.unwrap_or_else(|| target.id.clone());
            let asked = Target { id, ..target.clone() };
            let environment = self.environment_of(&asked, run, release.as_deref()).await?;
            self.resolve_probe(&asked, run, &environment, release.as_deref())?
        };
        let health = of_what_runs(&target.subject.service.health, since);
        match self.ask(target, &health, &resolved, &incarnation).await? {
            Ok(()) => Ok(Some("already running".into())),
            Err(ProbeFailure::Exited { .. }) => Ok(None),
            Err(ProbeFailure::TimedOut { timeout, last }) => {
                let failure = unhealthy(target, since, timeout, &last);
                Err(self.with_output(target, failure).await.into())
            }
        }
    }

    /// This operation had started the container before a crash: only its health is still open.
    pub(super) async fn await_found(&self, target: &Target, only: &Only) -> Result<(Done, String), Halt> {
        let run = run_of(target)?;
        let release = self.current(&target.subject.service.name, &target.container.name)?;
        let environment = self.environment_of(target, run, release.as_deref()).await?;
        let resolved = self.resolve_probe(target, run, &environment, release.as_deref())?;
        let container = reference(&target.subject.service, &target.container.name);
        let observed = self.runtime.observe(&container).await;
        let incarnation = match observed
            .map_err(|error| super::container::not_seen(&container.container, &error))?
        {
            Observation::Running { incarnation, .. }
            | Observation::Changing { phase: Phase::Reloading, incarnation, .. } => incarnation,
            Observation::Changing { phase, detail, .. } => return Err(held_up(target, phase, &detail).into()),
            Observation::Absent | Observation::Exited { .. } | Observation::Restarting { .. } => {
                return Err(self.given_up(target, died_unseen(target), only).await.into());
            }
        };
        let up = self.await_up(target, resolved, &incarnation, Instant::now(), only).await?;
        Ok((Done::Changed(Some(incarnation)), format!("found started by this operation, {up}")))
    }

    pub(super) async fn await_up(
        &self,
        target: &Target,
        probe: ResolvedProbe,
        incarnation: &Incarnation,
        started: Instant,
        only: &Only,
    ) -> Result<String, Halt> {
        let health = &target.subject.service.health;
        match self.ask(target, health, &probe, incarnation).await? {
            Ok(()) if health.probe.is_none() => Ok(format!("alive after {}", seconds(started.elapsed()))),
            Ok(()) => Ok(format!("healthy after {}", seconds(started.elapsed()))),
            Err(error) => {
                let failure = not_up(target, &error);
                // One that runs and does not answer is left for those who want to know why.
                let failure = match error {
                    ProbeFailure::Exited { .. } => self.given_up(target, failure, only).await,
                    ProbeFailure::TimedOut { .. } => self.with_output(target, failure).await,
                };
                Err(failure.into())
            }
        }
    }

    /// Asks a run for its health, and looks at it a last time: somebody else may have answered for it.
    async fn ask(
        &self,
        target: &Target,
        health: &Health,
        probe: &ResolvedProbe,
        incarnation: &Incarnation,
    ) -> Result<Result<(), ProbeFailure>, Halt> {
        let begun = Instant::now();
        let container = reference(&target.subject.service, &target.container.name);
        let exited = self.runtime.exited(&container, incarnation);
        let commands = if container.form == Form::Process { &self.processes } else { &self.commands };
        let up = async {
            probe::up(health, probe, &**commands, exited).await?;
            if !self.runtime.has_ended(&container, incarnation).await {
                return Ok(());
            }
            let exited = self.runtime.exited(&container, incarnation);
            let status = tokio::time::timeout(STATUS, exited).await.unwrap_or_default();
            Err(ProbeFailure::Exited { status, after: begun.elapsed() })
        };
        self.attention(target, Doing::Health, up).await
    }

    pub(super) fn resolve_probe(
        &self,
        target: &Target,
        run: Option<&Run>,
        environment: &BTreeMap<String, String>,
        release: Option<&str>,
    ) -> Result<ResolvedProbe, Failure> {
        let health = |error| {
            failure(
                "environment",
                format!(
                    "cannot expand the health check: {error}; see `health` and the environment in the catalog"
                ),
            )
        };
        Ok(match &target.subject.service.health.probe {
            None => ResolvedProbe::Alive,
            Some(Probe::Http(url)) => ResolvedProbe::Http {
                url: expand(url.reveal(), environment).map_err(health)?.into(),
                shown: url.shown(),
            },
            Some(Probe::Tcp(address)) => ResolvedProbe::Tcp {
                address: expand(address.reveal(), environment).map_err(health)?.into(),
                shown: address.shown(),
            },
            Some(Probe::Command(command)) if run.is_some_and(|run| run.image.is_some()) => {
                self.inside(target, environment::argv(command, environment)?)
            }
            Some(Probe::Command(command)) => ResolvedProbe::Command {
                argv: environment::argv(command, environment)?,
                environment: environment.clone(),
                directory: self.directory_of(target, release),
                user: run.and_then(|run| run.user.clone()),
            },
        })
    }

    /// A command that is run inside an engine's container.
    fn inside(&self, target: &Target, argv: Vec<String>) -> ResolvedProbe {
        let container = reference(&target.subject.service, &target.container.name);
        let runtime = self.runtime.clone();
        ResolvedProbe::Inside(Inside::new(move |time| {
            let (runtime, container, argv) = (runtime.clone(), container.clone(), argv.clone());
            Box::pin(async move {
                let (code, said) =
                    runtime.run_inside(&container, &argv, time).await.map_err(|error| error.to_string())?;
                if code == 0 {
                    Ok(())
                } else {
                    Err(format!("the command ended with exit code {code}: {said}"))
                }
            })
        }))
    }
}

/// How what runs already is asked: one good answer is enough, and the time that it has lived counts.
fn of_what_runs(health: &Health, since: Option<Timestamp>) -> Health {
    let age = since.map_or(Duration::ZERO, |since| {
        Duration::from_micros(u64::try_from(clock::now().0 - since.0).unwrap_or(0))
    });
    let settle = if health.probe.is_some() { Duration::ZERO } else { health.settle.saturating_sub(age) };
    Health { settle, ..health.clone() }
}

fn not_up(target: &Target, error: &ProbeFailure) -> Failure {
    let name = &target.container.name;
    let code = match error {
        ProbeFailure::Exited { .. } => "exited",
        ProbeFailure::TimedOut { .. } => "healthTimedOut",
    };
    let hint = match (error, &target.container.unit) {
        (ProbeFailure::Exited { status: Some(ExitStatus::Code(0)), .. }, None) => {
            ". Either it was done, or it put itself into the background: run it in the foreground"
        }
        (ProbeFailure::Exited { status: Some(ExitStatus::Code(0)), .. }, Some(_)) => {
            ". Either it was done, or it put itself into the background: run it in the foreground, or give its \
             unit Type=forking"
        }
        _ => "",
    };
    failure(
        code,
        format!("container {name} did not come up: {error}{hint}; `deployctl service logs` has what it said"),
    )
}

fn unhealthy(target: &Target, since: Option<Timestamp>, timeout: Duration, last: &str) -> Failure {
    let name = &target.container.name;
    let since = since.and_then(|since| jiff::Timestamp::from_microsecond(since.0).ok());
    let since = since.map_or_else(String::new, |since| format!(" since {since:.0}"));
    // As the catalog has it: what its variables hold may be secret.
    let asked = match &target.subject.service.health.probe {
        Some(Probe::Http(address) | Probe::Tcp(address)) => address.to_string(),
        Some(Probe::Command(_)) | None => "its health command".into(),
    };
    let timeout = timeout.as_secs_f64();
    failure(
        "unhealthy",
        format!(
            "container {name} runs{since}, does not answer {asked} within {timeout:.1} s (health.timeout; {last}): \
             RESTART it"
        ),
    )
}

fn held_up(target: &Target, phase: Phase, detail: &str) -> Failure {
    let (name, phase) = (&target.container.name, phase.name());
    failure(
        "unhealthy",
        format!(
            "container {name} is {phase} and did not finish in time: {detail}. Wait for it, or STOP it and START it"
        ),
    )
}
