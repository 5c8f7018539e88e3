//! One operation: stop, switch, start, await health; as much of it as remains.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::board::Doing;
use super::container::reference;
use super::patience::Only;
use super::{Executor, Halt, Looked, Target, environment, failure};
use crate::blocking;
use crate::catalog::Run;
use crate::runtime::{ContainerRef, RuntimeError, StartSpec};
use crate::systemd::SystemdError;
use crate::task::Failure;
use crate::task::evidence::Deeds;
use crate::task::operation::{Done, OperationEnd, Settled};

/// How many lines of output a failure shows.
const LOG_LINES: usize = 20;

impl Executor {
    /// Carries an operation out, as far as `looked` says that it remains to be done.
    ///
    /// # Errors
    /// [`Halt::Cut`] when the cancellation token came before its deeds, or cut its waiting for health,
    /// [`Halt::Left`] when it came in the middle of a deed; a failure is part of the [`OperationEnd`].
    pub async fn operate(&self, target: &Target, looked: &Looked) -> Result<OperationEnd, Halt> {
        let only = self.attention(target, Doing::Look, self.only(target)).await??;
        // Whoever resumes a task that was cut off looks after the cut: nothing may be begun after it.
        if target.subject.cancel.is_cancelled() {
            return Err(Halt::Cut);
        }
        let end = match self.carry_out(target, looked, &only).await {
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

    async fn carry_out(&self, target: &Target, looked: &Looked, only: &Only) -> Result<(Done, String), Halt> {
        match looked.deeds {
            Deeds::Leave => match self.leave(target).await? {
                Some(detail) => Ok((Done::Unchanged, detail)),
                // It ended while it was looked at: what START is for.
                None => self.start(target, true, only).await,
            },
            Deeds::Stop { running: true } => {
                let detail = self.stop(target, only).await?;
                Ok((Done::Changed(None), detail))
            }
            Deeds::Stop { running: false } => {
                // Its leader is gone; what that had started may not be.
                self.stop(target, only).await?;
                Ok(if was_running(target) {
                    (Done::Changed(None), "stopped before the daemon was interrupted".into())
                } else {
                    (Done::Unchanged, "already stopped".into())
                })
            }
            Deeds::Start { stop_first } => self.start(target, stop_first, only).await,
            Deeds::AwaitHealth => self.await_found(target, only).await,
            Deeds::Died => Err(self.given_up(target, died_unseen(target), only).await.into()),
        }
    }

    async fn stop(&self, target: &Target, only: &Only) -> Result<String, Halt> {
        let (signal, timeout) = how_to_stop(target)?;
        let (runtime, container) = (self.runtime.clone(), whose(target));
        let by = signal.clone();
        let stop = async move { runtime.stop(&container, &by, timeout).await };
        let report = self.deed(target, Doing::Stop, only, stop).await?;
        let report = report.map_err(|error| not_stopped(target, &error))?;
        let took = seconds(report.took);
        Ok(if report.killed {
            format!("killed after {took}: it did not end by {signal} in time")
        } else {
            format!("stopped after {took}")
        })
    }

    async fn clear(&self, target: &Target, only: &Only) -> Result<(), Halt> {
        let (signal, timeout) = how_to_stop(target)?;
        let (runtime, container) = (self.runtime.clone(), whose(target));
        let clear = async move { runtime.clear(&container, &signal, timeout).await };
        let cleared = self.deed(target, Doing::Stop, only, clear).await?;
        cleared.map_err(|error| not_stopped(target, &error))
    }

    /// A start that failed leaves nothing that runs on, or that its runtime starts again and again.
    pub(super) async fn given_up(&self, target: &Target, failure: Failure, only: &Only) -> Failure {
        let mut failure = self.with_output(target, failure).await;
        let Ok((signal, timeout)) = how_to_stop(target) else { return failure };
        let (runtime, container) = (self.runtime.clone(), whose(target));
        let give_up = async move { runtime.give_up(&container, &signal, timeout).await };
        match self.deed(target, Doing::Stop, only, give_up).await {
            Ok(Ok(())) | Err(Halt::Cut) => {}
            Ok(Err(error)) => {
                write!(failure.message, "; cannot end what is left of it: {error}").ok();
            }
            Err(Halt::Left(text) | Halt::Lost(text)) => drop(write!(failure.message, "; {text}")),
            Err(Halt::Failed(other)) => drop(write!(failure.message, "; {}", other.message)),
        }
        failure
    }

    async fn start(&self, target: &Target, stop_first: bool, only: &Only) -> Result<(Done, String), Halt> {
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
        let environment = self.environment_of(target, run, release.as_deref()).await?;
        let resolved = self.resolve_probe(target, run, &environment, release.as_deref())?;
        let spec = self.spec(target, run, environment, release)?;

        self.ready(target, &spec).await?;
        let stopped = if stop_first {
            Some(self.stop(target, only).await?)
        } else {
            self.clear(target, only).await?;
            None
        };
        if let Some(release) = &target.release {
            self.switch(target, release).await?;
        }
        let started = Instant::now();
        let runtime = self.runtime.clone();
        let start = async move { runtime.start(spec).await };
        let incarnation = match self.deed(target, Doing::Start, only, start).await? {
            Ok(incarnation) => incarnation,
            Err(error) => return Err(self.not_started(target, &error, only).await),
        };
        let up = self.await_up(target, resolved, &incarnation, started, only).await?;
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
        let argv = argv.unwrap_or_default();
        environment::check_size(&argv, &environment)?;
        Ok(StartSpec {
            container: reference(&target.subject.service, &target.container.name),
            argv,
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
        let ready = self.attention(target, Doing::Start, self.runtime.ready(spec)).await?;
        ready.map_err(|error| {
            let text = format!("cannot start container {}: {error}", target.container.name);
            failure(error.code_before_start(), text).into()
        })
    }

    async fn not_started(&self, target: &Target, error: &RuntimeError, only: &Only) -> Halt {
        let text = format!("cannot start container {}: {error}", target.container.name);
        if error.is_in_doubt() {
            return Halt::Lost(text);
        }
        let failure = failure("startFailed", text);
        // What has run says why; what was never executed has said nothing.
        match error {
            RuntimeError::Systemd(SystemdError::Job { .. }) => {
                self.given_up(target, failure, only).await.into()
            }
            // One that is not ours may have good reasons to take so long: its start goes on.
            RuntimeError::Systemd(SystemdError::JobHangs { .. }) if target.container.unit.is_none() => {
                self.given_up(target, failure, only).await.into()
            }
            _ => failure.into(),
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

    /// A container works in its release; without one, in a directory of its own.
    pub(super) fn directory_of(&self, target: &Target, release: Option<&str>) -> PathBuf {
        let service = &target.subject.service.name;
        match release {
            Some(release) => self.releases.release_dir(service, release),
            None => self.services_dir.join(service).join("containers").join(&target.container.name),
        }
    }

    pub(super) async fn environment_of(
        &self,
        target: &Target,
        run: Option<&Run>,
        release: Option<&str>,
    ) -> Result<BTreeMap<String, String>, Halt> {
        let ours = environment::deployd(&target.subject, Some(&target.container.name), release, &target.id);
        self.whole_environment(&target.subject, run, Some(&target.container), ours).await
    }

    pub(super) async fn with_output(&self, target: &Target, mut failure: Failure) -> Failure {
        let container = reference(&target.subject.service, &target.container.name);
        failure.log = self.runtime.last_lines(&container, LOG_LINES).await;
        failure
    }
}

fn whose(target: &Target) -> ContainerRef {
    reference(&target.subject.service, &target.container.name)
}

/// How the container is run; `None` for a unit that exists already.
pub(super) fn run_of(target: &Target) -> Result<Option<&Run>, Failure> {
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
fn how_to_stop(target: &Target) -> Result<(String, Duration), Failure> {
    Ok(match run_of(target)? {
        Some(run) => (run.stop_signal.clone(), run.stop_timeout),
        None => ("SIGTERM".into(), Duration::from_secs(90)),
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

pub(super) fn died_unseen(target: &Target) -> Failure {
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

pub(super) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_millis(100) {
        return format!("{} ms", duration.as_millis());
    }
    format!("{:.1} s", duration.as_secs_f64())
}
