//! One operation: stop, switch, start, await health; as much of it as remains.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::container::reference;
use super::{Executor, Halt, Looked, Target, environment, failure};
use crate::blocking;
use crate::catalog::{Probe, Run, expand};
use crate::probe::{self, Inside, ProbeFailure, ResolvedProbe};
use crate::runtime::{ContainerRef, Form, Observation, RuntimeError, StartSpec};
use crate::systemd::SystemdError;
use crate::task::Failure;
use crate::task::evidence::Deeds;
use crate::task::operation::{Done, Incarnation, OperationEnd, Settled};

/// How many lines of output a failure shows.
const LOG_LINES: usize = 20;

impl Executor {
    /// Carries an operation out, as far as `looked` says that it remains to be done.
    ///
    /// # Errors
    /// [`Halt::Cut`] when the cancellation token came before its deeds, or cut its waiting for health;
    /// a failure is part of the [`OperationEnd`].
    pub async fn operate(&self, target: &Target, looked: &Looked) -> Result<OperationEnd, Halt> {
        let container = reference(&target.subject.service, &target.container.name);
        let _nothing_else = self.deeds.only(&container).await;
        // Whoever resumes a task that was cut off looks after the cut: nothing may be begun after it.
        if target.subject.cancel.is_cancelled() {
            return Err(Halt::Cut);
        }
        let end = match self.carry_out(target, looked).await {
            Ok(done) => Ok(done),
            Err(Halt::Failed(failure)) => Err(failure),
            Err(halt) => return Err(halt),
        };
        let log = self.logs.open(target.subject.task, target.subject.service.id);
        let (result, detail) = match end {
            Ok((done, detail)) => (Ok(done), detail),
            Err(failure) => {
                let detail = failure.message.clone();
                (Err(failure), detail)
            }
        };
        log.line(&target.container.name, &detail);
        Ok(OperationEnd { result, detail, settled: settled(target, looked) })
    }

    async fn carry_out(&self, target: &Target, looked: &Looked) -> Result<(Done, String), Halt> {
        match looked.deeds {
            Deeds::Leave => Ok((Done::Unchanged, "already running".into())),
            Deeds::Stop { running: true } => {
                let detail = self.stop(target).await?;
                Ok((Done::Changed(None), detail))
            }
            Deeds::Stop { running: false } => {
                // Its leader is gone; what that had started may not be.
                self.stop(target).await?;
                Ok(if was_running(target) {
                    (Done::Changed(None), "stopped before the daemon was interrupted".into())
                } else {
                    (Done::Unchanged, "already stopped".into())
                })
            }
            Deeds::Start { stop_first } => self.start(target, stop_first).await,
            Deeds::AwaitHealth => self.await_found(target).await,
            Deeds::Died => Err(self.with_output(target, died_unseen(target)).await.into()),
        }
    }

    async fn stop(&self, target: &Target) -> Result<String, Halt> {
        let (signal, timeout) = how_to_stop(target)?;
        let container = reference(&target.subject.service, &target.container.name);
        let report = self.runtime.stop(&container, signal, timeout).await;
        let report = report.map_err(|error| not_stopped(target, &error))?;
        let took = seconds(report.took);
        Ok(if report.killed {
            format!("killed after {took}: it did not end by {signal} in time")
        } else {
            format!("stopped after {took}")
        })
    }

    async fn clear(&self, target: &Target, container: &ContainerRef) -> Result<(), Halt> {
        let (signal, timeout) = how_to_stop(target)?;
        let cleared = self.runtime.clear(container, signal, timeout).await;
        cleared.map_err(|error| not_stopped(target, &error))
    }

    async fn start(&self, target: &Target, stop_first: bool) -> Result<(Done, String), Halt> {
        let run = run_of(target)?;
        let service = &target.subject.service;
        // All that can be known to fail is found out before what runs is stopped.
        let release = match &target.release {
            Some(release) => Some(release.clone()),
            None => self.current(&service.name, &target.container.name)?,
        };
        if let Some(run) = run
            && release.is_none()
            && run.needs_release()
        {
            return Err(no_release(target, run).into());
        }
        let environment = environment_of(target, run, release.as_deref())?;
        let resolved = self.resolve_probe(target, run, &environment, release.as_deref())?;
        let spec = self.spec(target, run, environment, release)?;

        self.ready(target, &spec).await?;
        let stopped = if stop_first {
            Some(self.stop(target).await?)
        } else {
            self.clear(target, &reference(service, &target.container.name)).await?;
            None
        };
        if let Some(release) = &target.release {
            self.switch(target, release).await?;
        }
        let started = Instant::now();
        let incarnation = match self.runtime.start(spec).await {
            Ok(incarnation) => incarnation,
            Err(error) => return Err(self.not_started(target, &error).await),
        };
        let up = self.await_up(target, resolved, &incarnation, started).await?;
        let detail = stopped.map_or_else(|| up.clone(), |stopped| format!("{stopped}, {up}"));
        Ok((Done::Changed(Some(incarnation)), detail))
    }

    fn spec(
        &self,
        target: &Target,
        run: Option<&Run>,
        environment: BTreeMap<String, String>,
        release: Option<String>,
    ) -> Result<StartSpec, Failure> {
        let argv = run.map(|run| environment::argv(&run.command, &environment)).transpose()?;
        Ok(StartSpec {
            container: reference(&target.subject.service, &target.container.name),
            argv: argv.unwrap_or_default(),
            environment,
            directory: self.directory_of(target, release.as_deref()),
            user: run.and_then(|run| run.user.clone()),
            limits: run.map(|run| run.limits.clone()).unwrap_or_default(),
            stop_signal: run.map_or_else(|| "SIGTERM".into(), |run| run.stop_signal.clone()),
            stop_timeout: run.map_or(Duration::from_secs(90), |run| run.stop_timeout),
            operation: target.id.clone(),
            release,
            image: run.and_then(|run| run.image.clone()),
        })
    }

    async fn ready(&self, target: &Target, spec: &StartSpec) -> Result<(), Halt> {
        let ready = tokio::select! {
            ready = self.runtime.ready(spec) => ready,
            () = target.subject.cancel.cancelled() => return Err(Halt::Cut),
        };
        ready.map_err(|error| {
            let code = if matches!(error, RuntimeError::Engine(_)) { "imageFailed" } else { "startFailed" };
            failure(code, format!("cannot start container {}: {error}", target.container.name)).into()
        })
    }

    async fn not_started(&self, target: &Target, error: &RuntimeError) -> Halt {
        let text = format!("cannot start container {}: {error}", target.container.name);
        if error.is_in_doubt() {
            return Halt::Lost(text);
        }
        let failure = failure("startFailed", text);
        // What has run says why; what was never executed has said nothing.
        match error {
            RuntimeError::Systemd(SystemdError::Job { .. }) => self.with_output(target, failure).await.into(),
            _ => failure.into(),
        }
    }

    /// This operation had started the container before a crash: only its health is still open.
    async fn await_found(&self, target: &Target) -> Result<(Done, String), Halt> {
        let run = run_of(target)?;
        let release = self.current(&target.subject.service.name, &target.container.name)?;
        let environment = environment_of(target, run, release.as_deref())?;
        let resolved = self.resolve_probe(target, run, &environment, release.as_deref())?;
        let container = reference(&target.subject.service, &target.container.name);
        let Ok(Observation::Running { incarnation, .. }) = self.runtime.observe(&container).await else {
            return Err(self.with_output(target, died_unseen(target)).await.into());
        };
        let up = self.await_up(target, resolved, &incarnation, Instant::now()).await?;
        Ok((Done::Changed(Some(incarnation)), format!("found started by this operation, {up}")))
    }

    async fn await_up(
        &self,
        target: &Target,
        probe: ResolvedProbe,
        incarnation: &Incarnation,
        started: Instant,
    ) -> Result<String, Halt> {
        let container = reference(&target.subject.service, &target.container.name);
        let exited = self.runtime.exited(&container, incarnation);
        let health = &target.subject.service.health;
        let commands = if container.form == Form::Process { &self.processes } else { &self.commands };
        let up = tokio::select! {
            up = probe::up(health, &probe, &**commands, exited) => up,
            () = target.subject.cancel.cancelled() => return Err(Halt::Cut),
        };
        match up {
            Ok(_) if health.probe.is_none() => Ok(format!("alive after {}", seconds(started.elapsed()))),
            Ok(_) => Ok(format!("healthy after {}", seconds(started.elapsed()))),
            Err(error) => Err(self.with_output(target, not_up(target, &error)).await.into()),
        }
    }

    async fn switch(&self, target: &Target, release: &str) -> Result<(), Failure> {
        let (releases, service, container, release) = (
            self.releases.clone(),
            target.subject.service.name.clone(),
            target.container.name.clone(),
            release.to_string(),
        );
        blocking::run(move || releases.switch(&service, &container, &release)).await.map_err(|error| {
            failure(
                "switchFailed",
                format!(
                    "cannot switch {} to its release: {error}; see the disk of the state directory",
                    target.container.name
                ),
            )
        })
    }

    fn resolve_probe(
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
            Some(Probe::Http(url)) => ResolvedProbe::Http(expand(url, environment).map_err(health)?),
            Some(Probe::Tcp(address)) => ResolvedProbe::Tcp(expand(address, environment).map_err(health)?),
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

    /// A container works in its release; without one, in a directory of its own.
    fn directory_of(&self, target: &Target, release: Option<&str>) -> PathBuf {
        let service = &target.subject.service.name;
        match release {
            Some(release) => self.releases.release_dir(service, release),
            None => self.services_dir.join(service).join("containers").join(&target.container.name),
        }
    }

    async fn with_output(&self, target: &Target, mut failure: Failure) -> Failure {
        let container = reference(&target.subject.service, &target.container.name);
        failure.log = self.runtime.last_lines(&container, LOG_LINES).await;
        failure
    }
}

fn environment_of(
    target: &Target,
    run: Option<&Run>,
    release: Option<&str>,
) -> Result<BTreeMap<String, String>, Failure> {
    let ours = environment::deployd(&target.subject, Some(&target.container.name), release, &target.id);
    environment::whole(run, Some(&target.container), ours)
}

/// How the container is run; `None` for a unit that exists already.
fn run_of(target: &Target) -> Result<Option<&Run>, Failure> {
    let service = &target.subject.service;
    match &service.run {
        None if target.container.unit.is_none() => Err(failure(
            "catalog",
            format!(
                "service {} says nothing about how it runs; give it a `run` in the catalog",
                service.name
            ),
        )),
        run => Ok(run.as_ref()),
    }
}

/// A unit that is not ours says itself how it is stopped.
fn how_to_stop(target: &Target) -> Result<(&str, Duration), Failure> {
    Ok(match run_of(target)? {
        Some(run) => (&run.stop_signal, run.stop_timeout),
        None => ("SIGTERM", Duration::from_secs(90)),
    })
}

fn not_stopped(target: &Target, error: &RuntimeError) -> Halt {
    let text = format!("cannot stop container {}: {error}", target.container.name);
    if error.is_in_doubt() { Halt::Lost(text) } else { failure("stopFailed", text).into() }
}

fn was_running(target: &Target) -> bool {
    target.in_doubt.as_ref().is_some_and(|evidence| evidence.incarnation.is_some())
}

fn settled(target: &Target, looked: &Looked) -> Option<Settled> {
    target.in_doubt.as_ref()?;
    Some(match looked.deeds {
        Deeds::AwaitHealth | Deeds::Died | Deeds::Stop { running: false } | Deeds::Leave => {
            Settled::FoundDone
        }
        Deeds::Start { .. } | Deeds::Stop { running: true } => Settled::Completed,
    })
}

fn not_up(target: &Target, error: &ProbeFailure) -> Failure {
    let name = &target.container.name;
    let code = match error {
        ProbeFailure::Exited { .. } => "exited",
        ProbeFailure::TimedOut { .. } => "healthTimedOut",
    };
    failure(
        code,
        format!("container {name} did not come up: {error}; `deployctl service logs` has what it said"),
    )
}

fn died_unseen(target: &Target) -> Failure {
    let name = &target.container.name;
    failure(
        "exited",
        format!(
            "container {name} was started by this operation, and has ended since; its last lines are in the report"
        ),
    )
}

fn no_release(target: &Target, run: &Run) -> Failure {
    let (name, program) = (&target.container.name, &run.command[0]);
    failure(
        "noRelease",
        format!(
            "container {name} has no release yet, and its command {program} lies in one; \
             deploy it first with HTTP_UPLOAD_DEPLOY or COMPILE_DEPLOY"
        ),
    )
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_millis(100) {
        return format!("{} ms", duration.as_millis());
    }
    format!("{:.1} s", duration.as_secs_f64())
}
