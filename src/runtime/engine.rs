//! Containers that an engine runs from an image, with the release mounted read-only at `/app`.
//!
//! Each start makes a new container, each stop removes it: what an image's container has written beside its
//! shared paths does not outlive a release. Labels say which operation has started it, of which daemon.
//! A container is made and started by two calls, and is started by its id: a start that an earlier daemon
//! had asked for can't start anything else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::unistd::{User, geteuid};
use serde_json::{Value, json};

use super::{ContainerRef, Observation, Runtime, RuntimeError, StartSpec, StopReport, log};
use crate::blocking;
use crate::catalog::Engine;
use crate::engine::{Connection, EngineError, Inspected};
use crate::spawn::ExitStatus;
use crate::task::Timestamp;
use crate::task::operation::Incarnation;

/// Where a container sees its release.
const APP: &str = "/app";
/// Whose container it is: the container's directory, which no other daemon has.
const OWNER: &str = "io.deployd.container";
const OPERATION: &str = "io.deployd.operation";
const RELEASE: &str = "io.deployd.release";
/// Says in a container's directory which engine has a container of it.
const NOTE: &str = "engine.run";
/// A start that an earlier daemon had asked for comes within this time.
const SETTLE: Duration = Duration::from_secs(5);
/// How often a container is looked at while it comes up: how engines tell of an end differs too much.
const LOOK: Duration = Duration::from_millis(200);
/// SIGKILL, as an exit code.
const KILLED: i32 = 128 + 9;

/// Runs containers by an engine.
pub struct EngineRuntime {
    engine: Engine,
    services: PathBuf,
    connection: Connection,
}

impl EngineRuntime {
    /// A runtime by the engine that listens at `socket`, for containers whose directories lie below `services`.
    ///
    /// # Errors
    /// When a client can't be set up. Whether the engine runs does not matter yet.
    pub fn new(engine: Engine, socket: &Path, services: PathBuf) -> Result<Self, String> {
        let connection = Connection::new(engine, socket).map_err(|error| error.to_string())?;
        Ok(Self { engine, services, connection })
    }

    /// The engine that has, or may have, a container for this one.
    pub fn noted(services: &Path, container: &ContainerRef) -> Option<Engine> {
        let note = directory(services, container).join(NOTE);
        Engine::from_name(fs::read_to_string(note).ok()?.trim())
    }

    fn directory(&self, container: &ContainerRef) -> PathBuf {
        directory(&self.services, container)
    }

    async fn find(&self, container: &ContainerRef) -> Result<Option<Inspected>, RuntimeError> {
        let name = container.generated_name();
        let found = self.connection.inspect(&name).await?;
        let own = self.directory(container).to_string_lossy().into_owned();
        match found {
            Some(found) if found.config.labels.get(OWNER) != Some(&own) => {
                Err(EngineError::Foreign { engine: self.connection.engine(), name }.into())
            }
            found => Ok(found),
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
}

fn directory(services: &Path, container: &ContainerRef) -> PathBuf {
    services.join(&container.service).join("containers").join(&container.container)
}

#[async_trait]
impl Runtime for EngineRuntime {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let Some(found) = self.find(container).await? else { return Ok(Observation::Absent) };
        let label = |name| found.config.labels.get(name).filter(|text: &&String| !text.is_empty()).cloned();
        let (operation, release) = (label(OPERATION).unwrap_or_default(), label(RELEASE));
        let since = since(&found.state.started_at);
        let state = &found.state;
        Ok(if state.is_up() {
            let pid = Some(state.pid).filter(|pid| *pid > 0);
            Observation::Running {
                incarnation: incarnation(&found),
                pid,
                operation,
                release,
                since,
                restarts: found.restart_count,
            }
        } else if is_new(&found) {
            Observation::Absent
        } else {
            let rebooted = since.zip(boot()).is_some_and(|(since, boot)| since < boot);
            Observation::Exited {
                operation,
                release,
                status: Some(ExitStatus::Code(state.exit_code)),
                rebooted,
            }
        })
    }

    async fn observe_settled(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let begun = Instant::now();
        while let Some(found) = self.find(container).await?
            && is_new(&found)
            && begun.elapsed() < SETTLE
        {
            tokio::time::sleep(LOOK).await;
        }
        self.observe(container).await
    }

    async fn ready(&self, spec: &StartSpec) -> Result<(), RuntimeError> {
        if let Some(image) = &spec.image {
            self.connection.pull(image).await?;
        }
        Ok(())
    }

    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError> {
        let own = self.directory(&spec.container);
        let shared = self.services.join(&spec.container.service).join("shared");
        let user = match self.engine {
            // Without root its own user is what the engine maps to root inside.
            Engine::Podman if !geteuid().is_root() => None,
            _ => Some(ids(spec.user.clone()).await?),
        };
        let body = made_of(&spec, &own, Some(shared).filter(|shared| shared.is_dir()).as_deref(), user);
        self.note(&spec.container, true).await?;
        let id = self.connection.create(&spec.container.generated_name(), body).await?;
        self.connection.start(&id).await?;
        match self.connection.inspect(&id).await? {
            Some(found) => Ok(incarnation(&found)),
            None => Ok(Incarnation::Engine { id, started: String::new() }),
        }
    }

    async fn stop(
        &self,
        container: &ContainerRef,
        _signal: &str,
        timeout: Duration,
    ) -> Result<StopReport, RuntimeError> {
        let begun = Instant::now();
        let mut killed = false;
        if let Some(found) = self.find(container).await? {
            if found.state.running {
                self.connection.stop(&found.id, timeout).await?;
                let after = self.connection.inspect(&found.id).await?;
                killed = begun.elapsed() >= timeout && after.is_some_and(|it| it.state.exit_code == KILLED);
            }
            self.connection.remove(&found.id).await?;
        }
        self.note(container, false).await?;
        Ok(StopReport { killed, took: begun.elapsed() })
    }

    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus> {
        loop {
            match self.find(container).await {
                Ok(Some(found)) if !found.state.is_up() => {
                    return Some(ExitStatus::Code(found.state.exit_code));
                }
                Ok(Some(found)) if self::incarnation(&found) != *incarnation => return None,
                Ok(None) => return None,
                // What can't be seen has not ended.
                Ok(Some(_)) | Err(_) => tokio::time::sleep(LOOK).await,
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

/// What a container is made of. Its network is the host's, so that a service is reached, and asked for its
/// health, in the same way whatever runs it.
fn made_of(spec: &StartSpec, own: &Path, shared: Option<&Path>, user: Option<String>) -> Value {
    let bind = |source: &Path, target: &str, read_only: bool| json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only });
    let mut mounts = Vec::new();
    if spec.release.is_some() {
        mounts.push(bind(&spec.directory, APP, true));
    }
    // The release's links to what outlives it say where that is on the host.
    if let Some(shared) = shared {
        mounts.push(bind(shared, &shared.to_string_lossy(), false));
    }
    let mut argv = spec.argv.clone();
    if let Some(program) = argv.first_mut()
        && program.contains('/')
        && !program.starts_with('/')
    {
        *program = format!("{APP}/{}", program.trim_start_matches("./"));
    }
    let is_root = user.as_deref().is_some_and(|user| user.starts_with("0:"));
    let limits = &spec.limits;
    let files = limits.open_files.map(|files| json!([{ "Name": "nofile", "Soft": files, "Hard": files }]));
    let environment: Vec<_> =
        spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "Image": spec.image,
        "Entrypoint": argv,
        "Cmd": [],
        "Env": environment,
        "WorkingDir": if spec.release.is_some() { APP } else { "" },
        "User": user.unwrap_or_default(),
        "StopSignal": spec.stop_signal,
        "Labels": {
            OWNER: own,
            OPERATION: spec.operation,
            RELEASE: spec.release.as_deref().unwrap_or_default(),
        },
        "HostConfig": {
            "NetworkMode": "host",
            "Mounts": mounts,
            // Also with the machine; what was stopped is removed, and so does not come back.
            "RestartPolicy": { "Name": "always" },
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": if is_root { json!([]) } else { json!(["ALL"]) },
            "Memory": limits.memory_max.unwrap_or(0),
            "NanoCpus": limits.cpu_quota.map_or(0, |percent| u64::from(percent) * 10_000_000),
            "PidsLimit": limits.tasks_max,
            "Ulimits": files.unwrap_or_else(|| json!([])),
        },
    })
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

/// It was made, and not started yet: each engine has words of its own for that.
fn is_new(found: &Inspected) -> bool {
    matches!(&*found.state.status, "created" | "configured" | "initialized")
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::Limits;
    use crate::runtime::Form;

    fn spec(program: &str, release: Option<&str>) -> StartSpec {
        let container = ContainerRef {
            service: "web".into(),
            container: "web-1".into(),
            form: Form::Engine(Engine::Podman),
        };
        StartSpec {
            container,
            argv: vec![program.into(), "--port".into()],
            environment: BTreeMap::from([("A".into(), "1".into())]),
            directory: "/srv/releases/r1".into(),
            user: Some("web".into()),
            limits: Limits { memory_max: Some(1 << 20), cpu_quota: Some(50), ..Limits::default() },
            stop_signal: "SIGINT".into(),
            stop_timeout: Duration::from_secs(1),
            operation: "i.7.0.0".into(),
            release: release.map(Into::into),
            image: Some("lab:1".into()),
        }
    }

    #[test]
    fn a_container_has_its_release_and_little_else() {
        let made = made_of(&spec("./bin/x", Some("r1")), Path::new("/own"), None, Some("7:8".into()));
        assert_eq!(made["Entrypoint"], json!(["/app/bin/x", "--port"]));
        assert_eq!(made["User"], "7:8");
        assert_eq!(made["Labels"][OPERATION], "i.7.0.0");
        let host = &made["HostConfig"];
        let release =
            json!([{ "Type": "bind", "Source": "/srv/releases/r1", "Target": "/app", "ReadOnly": true }]);
        assert_eq!(host["Mounts"], release);
        assert_eq!((&host["Memory"], &host["NanoCpus"]), (&json!(1 << 20), &json!(500_000_000)));
        assert_eq!(host["CapDrop"], json!(["ALL"]));
    }

    #[test]
    fn one_without_a_release_works_where_its_image_says() {
        let made =
            made_of(&spec("sleep", None), Path::new("/own"), Some(Path::new("/shared")), Some("0:0".into()));
        assert_eq!(made["Entrypoint"][0], "sleep");
        assert_eq!(made["WorkingDir"], "");
        assert_eq!(made["HostConfig"]["Mounts"][0]["Target"], "/shared");
        assert_eq!(made["HostConfig"]["CapDrop"], json!([]));
    }
}
