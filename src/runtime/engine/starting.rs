//! Making and starting a container: two calls, of which each may be cut.
//!
//! A container is started by its id, and carries the operation that made it. So whatever became of a call whose
//! answer did not come is seen by looking, and is done once.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{AWAY, EngineRuntime, LOOK, OPERATION, owner};
use crate::blocking;
use crate::engine::{EngineError, Inspected, Phase};
use crate::runtime::{ContainerRef, RuntimeError, StartSpec};

/// How often making a container is tried.
const TRIES: usize = 10;

impl EngineRuntime {
    /// Makes the container and starts it.
    pub(super) async fn bring_up(&self, spec: &StartSpec, body: &Value) -> Result<Inspected, RuntimeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let id = self.make(spec, body).await?;
            match self.begin(&id).await {
                Err(RuntimeError::Engine(error)) if is_lost(&error) && tries < TRIES => {
                    self.discard(spec, &id).await?;
                }
                begun => return begun,
            }
        }
    }

    /// An engine that was killed in the middle of a start may know nothing of it, and never start that container
    /// again. It is replaced by another one, unless its program runs all the same.
    async fn discard(&self, spec: &StartSpec, id: &str) -> Result<(), RuntimeError> {
        self.no_process(&spec.container, id).await?;
        Ok(self.connection.remove(id).await?)
    }

    /// Makes sure that no program runs in a container that its engine calls new: to remove it would leave the
    /// program alone.
    pub(super) async fn no_process(&self, container: &ContainerRef, id: &str) -> Result<(), RuntimeError> {
        let sought = id.to_string();
        let found = blocking::run(move || process_of(Path::new("/proc"), &sought)).await;
        let Some(pid) = found else { return Ok(()) };
        let (engine, name) = (self.connection.engine(), container.generated_name());
        let state = format!("created, and process {pid} of it runs");
        Err(EngineError::Unsettled { engine, name, state }.into())
    }

    /// Makes the container; its id. One that this operation has made already is taken.
    async fn make(&self, spec: &StartSpec, body: &Value) -> Result<String, RuntimeError> {
        let name = spec.container.generated_name();
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.connection.create(&name, body.clone()).await {
                Ok(id) => return Ok(id),
                Err(error) => error,
            };
            let is_refused = matches!(error, EngineError::Refused { .. });
            if tries == TRIES || !(is_refused || error.is_away()) {
                return Err(error.into());
            }
            let found = self.patiently(|| self.find(&spec.container)).await;
            match found.map_err(RuntimeError::in_doubt)? {
                // This call has made it although its answer did not come, or the one of a daemon that has died.
                Some(found)
                    if owner::said(&found.config.labels, OPERATION).as_ref() == Some(&spec.operation) =>
                {
                    return Ok(found.id);
                }
                // An earlier operation's call came late.
                Some(found) if matches!(found.state.phase(), Phase::New | Phase::Down) => {
                    self.note_volumes(&spec.container, &found).await?;
                    self.connection.remove(&found.id).await?;
                }
                Some(found) if found.state.phase() == Phase::Removing => tokio::time::sleep(LOOK).await,
                Some(_) => return Err(error.into()),
                // Somebody has removed the image since it was looked at.
                None if error.status() == Some(404) && tries == 1 => {
                    if let Some(image) = &spec.image {
                        self.image(image).await?;
                    }
                }
                // The name of one that is being removed is free only when that is over.
                None if error.is_away() || error.to_string().contains("already in use") => {
                    tokio::time::sleep(LOOK).await;
                }
                None => return Err(error.into()),
            }
        }
    }

    /// Starts the container of this id, once.
    async fn begin(&self, id: &str) -> Result<Inspected, RuntimeError> {
        const WHAT: &str = "start the container";
        let engine = self.connection.engine();
        let begun = Instant::now();
        loop {
            let cut = match self.connection.start(id).await {
                Ok(()) => None,
                Err(error) if error.is_away() => Some(error),
                Err(error) => return Err(error.into()),
            };
            let found = self.patiently(|| self.connection.inspect(id)).await;
            let Some(found) = found.map_err(RuntimeError::in_doubt)? else {
                let message = "somebody removed it meanwhile".to_string();
                return Err(EngineError::Refused { engine, what: WHAT, status: 404, message }.into());
            };
            match cut {
                Some(error) if found.state.phase() == Phase::New && !found.state.was_started() => {
                    if begun.elapsed() >= AWAY {
                        return Err(RuntimeError::from(error).in_doubt());
                    }
                    tokio::time::sleep(LOOK).await;
                }
                _ => return Ok(found),
            }
        }
    }
}

/// Whether the engine has lost track of a container that it was starting.
fn is_lost(error: &EngineError) -> bool {
    let EngineError::Refused { message, .. } = error else { return false };
    message.contains("already exists") || message.contains("id already in use")
}

/// A process of the container of this id, by its control group, unless it still waits to become the program.
fn process_of(proc: &Path, id: &str) -> Option<i32> {
    let processes = fs::read_dir(proc).ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let read = |name: &str| fs::read(proc.join(pid.to_string()).join(name)).unwrap_or_default();
        let waits = |line: &[u8]| line.ends_with(b"runc\0init\0") || line.is_empty();
        String::from_utf8_lossy(&read("cgroup")).contains(id) && !waits(&read("cmdline"))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_program_that_its_engine_knows_nothing_of_is_found() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: i32, group: &str, line: &[u8]| {
            let directory = proc.path().join(pid.to_string());
            fs::create_dir(&directory).unwrap();
            fs::File::create(directory.join("cgroup")).unwrap().write_all(group.as_bytes()).unwrap();
            fs::File::create(directory.join("cmdline")).unwrap().write_all(line).unwrap();
        };
        process(1, "0::/init.scope\n", b"init\0");
        process(2, "8:pids:/docker/abc\n0::/docker/abc\n", b"runc\0init\0");
        process(3, "0::/docker/abc\n", b"");
        fs::create_dir(proc.path().join("self")).unwrap();
        assert_eq!(process_of(proc.path(), "abc"), None, "what waits to become the program does not run it");
        process(4, "0::/system.slice/docker-abc.scope\n", b"/bin/sh\0/app/run.sh\0");
        assert_eq!(process_of(proc.path(), "abc"), Some(4));
        assert_eq!(process_of(proc.path(), "def"), None);
    }
}
