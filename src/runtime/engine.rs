//! Containers that an engine runs from an image, with the release mounted read-only at `/app`.
//!
//! Each start makes a new container, each stop removes it: what an image's container has written beside its
//! shared paths and volumes does not outlive a release. Labels say which operation has started it, of which daemon.
//! A container is made and started by two calls, and is started by its id: a start that an earlier daemon
//! had asked for can't start anything else.

mod ending;
mod made;
mod owner;
mod starting;
mod volumes;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::unistd::{User, geteuid};

use super::{ContainerRef, Observation, Phase as Way, Runtime, RuntimeError, StartSpec, StopReport, log};
use crate::blocking;
use crate::catalog::Engine;
use crate::engine::{Connection, EngineError, Image, Inspected, Phase};
use crate::foreign;
use crate::identity::{Claim, Owner};
use crate::spawn::ExitStatus;
use crate::task::Timestamp;
use crate::task::operation::Incarnation;
use ending::Until;
use made::Given;
use owner::{CONTAINER, EPOCH, INSTANCE, OPERATION, RELEASE};

/// Says in a container's directory which engine has a container of it.
const NOTE: &str = "engine.run";
/// How long a look waits for what is under way: a start that an earlier daemon had asked for, a removal by hand.
const SETTLE: Duration = Duration::from_secs(5);
/// How often a container is looked at while it comes up or ends: how engines tell of an end differs too much.
const LOOK: Duration = Duration::from_millis(200);
/// How long an engine may be away, as while it is upgraded, before an operation gives up on it.
const AWAY: Duration = Duration::from_mins(1);
/// The same for an engine that has never answered.
const NEVER: Duration = Duration::from_secs(2);

/// By what a container is known as one of this daemon.
#[derive(Debug, Clone)]
pub struct Marks {
    /// Whose it is.
    pub owner: Arc<Owner>,
    /// The epoch in which it was made.
    pub epoch: u64,
}

/// Runs containers by an engine.
pub struct EngineRuntime {
    engine: Engine,
    services: PathBuf,
    connection: Connection,
    marks: Marks,
}

impl EngineRuntime {
    /// A runtime by the engine that listens at `socket`, for containers whose directories lie below `services`.
    ///
    /// # Errors
    /// When a client can't be set up. Whether the engine runs does not matter yet.
    pub fn new(engine: Engine, socket: &Path, services: PathBuf, marks: Marks) -> Result<Self, String> {
        let connection = Connection::new(engine, socket).map_err(|error| error.to_string())?;
        Ok(Self { engine, services, connection, marks })
    }

    /// The engine that has, or may have, a container for this one.
    pub fn noted(services: &Path, container: &ContainerRef) -> Option<Engine> {
        let note = directory(services, container).join(NOTE);
        Engine::from_name(String::from_utf8_lossy(&foreign::read_own(&note, 64).ok()?).trim())
    }

    fn directory(&self, container: &ContainerRef) -> PathBuf {
        directory(&self.services, container)
    }

    async fn find(&self, container: &ContainerRef) -> Result<Option<Inspected>, RuntimeError> {
        let name = container.generated_name();
        let found = self.connection.inspect(&name).await?;
        found.map(|found| self.admit(&name, found)).transpose()
    }

    /// What somebody else made by the name of a container is not touched.
    fn admit(&self, name: &str, found: Inspected) -> Result<Inspected, RuntimeError> {
        let label = |name| found.config.labels.get(name).map(String::as_str);
        let claim = Claim { owner: label(INSTANCE), directory: label(CONTAINER).map(Path::new) };
        let fix = "rename the service or the container, or remove what has its name";
        let name = format!("container {name} at {}", self.connection.engine());
        let owner = &self.marks.owner;
        let judged = owner.judge(claim);
        judged.map_err(|stranger| RuntimeError::foreign(name, stranger, owner, fix)).map(|()| found)
    }

    /// Repeats what may be repeated while the engine is away.
    async fn patiently<T, E, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T, RuntimeError>
    where
        E: Into<RuntimeError>,
        F: Future<Output = Result<T, E>> + Send,
    {
        let begun = Instant::now();
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error.into(),
            };
            let patience = if self.connection.has_answered() { AWAY } else { NEVER };
            let is_away = matches!(&error, RuntimeError::Engine(error) if error.is_away());
            if !is_away || begun.elapsed() >= patience {
                return Err(error);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// An image; pulled if the engine has none. A pull that is cut has failed.
    async fn image(&self, name: &str) -> Result<Image, RuntimeError> {
        match self.patiently(|| self.connection.image(name)).await? {
            Some(image) => Ok(image),
            None => Ok(self.connection.obtain(name).await?),
        }
    }

    async fn note(&self, container: &ContainerRef, made: bool) -> Result<(), RuntimeError> {
        let (directory, engine) = (self.directory(container), self.engine.name());
        let noted = blocking::run(move || -> io::Result<()> {
            let path = directory.join(NOTE);
            if made {
                fs::create_dir_all(&directory)?;
                let mut note = File::create(&path)?;
                note.write_all(engine.as_bytes())?;
                note.sync_all()?;
                return File::open(&directory)?.sync_all();
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        });
        noted.await.map_err(|source| RuntimeError::Io { what: "note which engine has the container", source })
    }

    fn shared(&self, container: &ContainerRef) -> Option<PathBuf> {
        Some(self.services.join(&container.service).join("shared")).filter(|shared| shared.is_dir())
    }

    fn observation(&self, container: &ContainerRef, found: &Inspected) -> Result<Observation, EngineError> {
        let label = |name| owner::said(&found.config.labels, name);
        let (operation, release) = (label(OPERATION).unwrap_or_default(), label(RELEASE));
        let since = since(&found.state.started_at);
        let (state, incarnation) = (&found.state, incarnation(found));
        let restarts = u32::try_from(found.restart_count).unwrap_or(0);
        let changing = |phase, incarnation| {
            let (operation, release, detail) = (operation.clone(), release.clone(), state.shown());
            Observation::Changing { phase, incarnation, operation, release, detail }
        };
        Ok(match state.phase() {
            Phase::New => Observation::Absent,
            Phase::Up => {
                Observation::Running { incarnation, pid: state.pid(), operation, release, since, restarts }
            }
            Phase::Paused => changing(Way::Paused, incarnation),
            Phase::Stopping | Phase::Removing => changing(Way::Stopping, incarnation),
            Phase::Restarting => {
                let status = Some(ExitStatus::Code(state.exit_code()));
                Observation::Restarting { incarnation, operation, release, status, restarts }
            }
            Phase::Down => {
                let rebooted = since.zip(boot()).is_some_and(|(since, boot)| since < boot);
                let status = Some(ExitStatus::Code(state.exit_code()));
                Observation::Exited { operation, release, status, rebooted, restarts }
            }
            Phase::Unknown => {
                let (engine, name) = (self.connection.engine(), container.generated_name());
                return Err(EngineError::Unsettled { engine, name, state: state.shown() });
            }
        })
    }
}

fn directory(services: &Path, container: &ContainerRef) -> PathBuf {
    services.join(&container.service).join("containers").join(&container.container)
}

#[async_trait]
impl Runtime for EngineRuntime {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        match self.find(container).await? {
            Some(found) => Ok(self.observation(container, &found)?),
            None => Ok(Observation::Absent),
        }
    }

    async fn observe_settled(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let begun = Instant::now();
        loop {
            let found = self.patiently(|| self.find(container)).await?;
            let Some(found) = found else { return Ok(Observation::Absent) };
            let is_under_way = matches!(found.state.phase(), Phase::New | Phase::Removing | Phase::Unknown);
            if !is_under_way || begun.elapsed() >= SETTLE {
                return Ok(self.observation(container, &found)?);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn clear(
        &self,
        container: &ContainerRef,
        _signal: &str,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        self.end(container, timeout, Until::GoneIfDown).await?;
        self.note(container, false).await
    }

    async fn ready(&self, spec: &StartSpec) -> Result<(), RuntimeError> {
        if let Some(image) = &spec.image {
            let image = self.image(image).await?;
            let shared = self.shared(&spec.container);
            self.volumes(&spec.container, &image, &made::covered(spec, shared.as_deref())).await?;
        }
        Ok(())
    }

    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError> {
        let (own, shared) = (self.directory(&spec.container), self.shared(&spec.container));
        let user = match self.engine {
            // Without root its own user is what the engine maps to root inside.
            Engine::Podman if !geteuid().is_root() => None,
            _ => Some(ids(spec.user.clone()).await?),
        };
        let mut volumes = volumes::Volumes::new();
        if let Some(image) = &spec.image {
            let image = self.image(image).await.map_err(RuntimeError::in_doubt)?;
            let covered = made::covered(&spec, shared.as_deref());
            volumes = self.volumes(&spec.container, &image, &covered).await?;
            self.make_volumes(&spec.container, &volumes).await?;
        }
        let mut body = made::made_of(&spec, &Given { own, shared, user }, &volumes);
        body["Labels"][INSTANCE] = self.marks.owner.id().into();
        body["Labels"][EPOCH] = self.marks.epoch.to_string().into();
        self.note(&spec.container, true).await?;
        Ok(incarnation(&self.bring_up(&spec, &body).await?))
    }

    async fn stop(
        &self,
        container: &ContainerRef,
        _signal: &str,
        timeout: Duration,
    ) -> Result<StopReport, RuntimeError> {
        let report = self.end(container, timeout, Until::Gone).await?;
        self.note(container, false).await?;
        Ok(report)
    }

    /// The engine starts again what has ended, until it is told to stop it.
    async fn give_up(
        &self,
        container: &ContainerRef,
        _signal: &str,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        self.end(container, timeout, Until::Down).await.map(|_| ())
    }

    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus> {
        loop {
            match self.find(container).await {
                Ok(Some(found)) => {
                    let is_same = self::incarnation(&found) == *incarnation;
                    match found.state.phase() {
                        Phase::Down | Phase::Restarting => {
                            return Some(ExitStatus::Code(found.state.exit_code()));
                        }
                        Phase::Up | Phase::Paused | Phase::Stopping | Phase::New if !is_same => return None,
                        // What may run has not ended.
                        _ => tokio::time::sleep(LOOK).await,
                    }
                }
                Ok(None) => return None,
                // What can't be seen has not ended.
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn last_lines(&self, container: &ContainerRef, lines: usize) -> Vec<String> {
        let said = async {
            let found = self.find(container).await.ok()??;
            self.connection.logs(&found.id, lines).await.ok()
        };
        said.await.map_or_else(Vec::new, |said| log::last_of(&said, lines))
    }

    async fn run_inside(
        &self,
        container: &ContainerRef,
        argv: &[String],
        time: Duration,
    ) -> Result<(i64, String), RuntimeError> {
        let name = container.generated_name();
        let (code, said) = self.connection.exec(&name, argv, time).await?;
        Ok((code, log::last_of(&said, 1).pop().unwrap_or_default()))
    }
}

/// The host's user, by numbers: an image has users of its own.
async fn ids(user: Option<String>) -> Result<String, RuntimeError> {
    let found = blocking::run(move || match &user {
        Some(name) => User::from_name(name),
        None => User::from_uid(geteuid()),
    });
    let found =
        found.await.map_err(io::Error::from).and_then(|user| user.ok_or(io::ErrorKind::NotFound.into()));
    let user = found.map_err(|source| RuntimeError::Io { what: "look up run.user", source })?;
    Ok(format!("{}:{}", user.uid, user.gid))
}

fn incarnation(found: &Inspected) -> Incarnation {
    Incarnation::Engine { id: found.id.clone(), started: found.state.started_at.clone() }
}

fn since(started: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = started.parse().ok()?;
    Some(Timestamp(at.as_microsecond())).filter(|at| at.0 > 0)
}

/// When the machine was started.
fn boot() -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Timestamp(seconds * 1_000_000))
}
