//! Containers as plain processes: sessions of their own that outlive the daemon.
//!
//! Below `<services>/<service>/containers/<container>/` stand, beside `current`:
//! `run`, written by the process itself before its program's first instruction (see
//! [`crate::spawn`]), and `output.log`. A container is what `run` says, if a process with that pid,
//! start time and boot still lives; a pid that is used again can't be taken for it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::{Notify, watch};

use super::{ContainerRef, Observation, Runtime, RuntimeError, StartSpec, StopReport, log};
use crate::clock;
use crate::crashpoint::point;
use crate::spawn::proc;
use crate::spawn::tree::{self, Run};
use crate::spawn::{ExitStatus, Launch, Marker, Spec, is_confined};
use crate::task::Timestamp;
use crate::task::operation::Incarnation;

/// So many statuses are kept before it is looked which of them are of no use any more.
const EXITS: usize = 1024;

/// By pid and start time: how it ended, once it has.
struct Exits {
    all: HashMap<(i32, u64), watch::Receiver<Option<ExitStatus>>>,
    /// When it is looked again.
    limit: usize,
}

impl Exits {
    fn add(&mut self, key: (i32, u64), told: watch::Receiver<Option<ExitStatus>>) {
        // Whatever has ended and is no container's last run any more is not asked for again. Each look costs as much
        // as there is, so the next one comes when there is twice as much.
        if self.all.len() >= self.limit {
            self.all.retain(|&(pid, ticks), _| proc::is_alive(pid, ticks).unwrap_or(true));
            self.limit = (2 * self.all.len()).max(EXITS);
        }
        self.all.insert(key, told);
    }
}

/// Runs containers as processes.
pub struct ProcessRuntime {
    services: PathBuf,
    launcher: Arc<dyn Launch>,
    boot_id: String,
    is_confined: bool,
    /// Exit statuses of what this daemon has started.
    exits: Mutex<Exits>,
    /// How many logs there were at the last look, and how long they were together.
    logs: Mutex<Option<(usize, u64)>>,
    /// Notified when a container was started, and so has a log.
    pub has_started: Notify,
}

impl ProcessRuntime {
    /// A runtime whose containers live below `services`.
    pub fn new(services: PathBuf, launcher: Arc<dyn Launch>) -> io::Result<Self> {
        let (boot_id, is_confined) = (tree::boot_id()?, is_confined()?);
        Ok(Self {
            services,
            launcher,
            boot_id,
            is_confined,
            exits: Mutex::new(Exits { all: HashMap::new(), limit: EXITS }),
            logs: Mutex::default(),
            has_started: Notify::new(),
        })
    }

    fn directory(&self, container: &ContainerRef) -> PathBuf {
        self.services.join(&container.service).join("containers").join(&container.container)
    }

    /// What the marker says; `None` when there is none, or none that is complete.
    fn last_run(&self, container: &ContainerRef) -> io::Result<Option<Run>> {
        match fs::read_to_string(self.directory(container).join("run")) {
            Ok(text) => Ok(Run::from_text(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_up(&self, run: &Run) -> Result<bool, RuntimeError> {
        let is_alive = || proc::is_alive(run.pid, run.start_ticks);
        let is_up = if run.boot_id == self.boot_id { is_alive() } else { Ok(false) };
        is_up.map_err(|source| io_error("look at its process", source))
    }

    fn exits(&self) -> std::sync::MutexGuard<'_, Exits> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shortens the logs that have grown too long. Called now and then by the daemon.
    ///
    /// All of them, if nothing was written to any since the last call.
    pub fn rotate_logs(&self) -> Option<Vec<PathBuf>> {
        let (mut logs, mut bytes) = (Vec::new(), 0);
        for service in subdirectories(&self.services) {
            for container in subdirectories(&service.join("containers")) {
                let path = container.join("output.log");
                match log::rotate(&path, &log::Limits::default()) {
                    Ok(length) => bytes += length,
                    Err(error) => tracing::warn!(path = %path.display(), %error, "cannot rotate a log"),
                }
                logs.push(path);
            }
        }
        let now = Some((logs.len(), bytes));
        let before = std::mem::replace(&mut *self.logs.lock().unwrap_or_else(PoisonError::into_inner), now);
        (before == now).then_some(logs)
    }

    async fn end(&self, run: &Run, signal: Signal, timeout: Duration) -> io::Result<StopReport> {
        // A run of an earlier boot has left nothing, whatever its pid means today.
        let (pid, ticks) = if run.boot_id == self.boot_id { (run.pid, run.start_ticks) } else { (0, 0) };
        let ending = tree::end(pid, ticks, &run.operation, signal, timeout).await?;
        Ok(StopReport { killed: ending.killed, took: ending.took })
    }

    const fn may_change(&self) -> Result<(), RuntimeError> {
        if self.is_confined { Err(RuntimeError::Confined) } else { Ok(()) }
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let run = self.last_run(container).map_err(|source| io_error("read its run file", source))?;
        let Some(run) = run else { return Ok(Observation::Absent) };
        if !self.is_up(&run)? {
            let status = self.exits().all.get(&(run.pid, run.start_ticks)).and_then(|exit| *exit.borrow());
            let rebooted = run.boot_id != self.boot_id;
            return Ok(Observation::Exited {
                operation: run.operation,
                release: run.release,
                status,
                rebooted,
            });
        }
        let since = started_at(run.start_ticks);
        let pid = Some(run.pid);
        let incarnation =
            Incarnation::Process { boot_id: run.boot_id, pid: run.pid, start_ticks: run.start_ticks };
        let (operation, release) = (run.operation, run.release);
        Ok(Observation::Running { incarnation, pid, operation, release, since, restarts: 0 })
    }

    async fn ready(&self, _: &StartSpec) -> Result<(), RuntimeError> {
        self.may_change()
    }

    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError> {
        self.may_change()?;
        let directory = self.directory(&spec.container);
        let path = directory.join("run");
        // At once, as the link `current` is read: handing such a small thing to another thread costs more.
        let output = log::open(&directory).map_err(|source| io_error("open its log", source))?;
        let path = path.to_str().map(str::to_string);
        let path =
            path.ok_or_else(|| io_error("name its run file", io::ErrorKind::InvalidFilename.into()))?;
        let marker = Marker { path, operation: spec.operation, release: spec.release };
        let spawned = self
            .launcher
            .launch(Spec {
                argv: spec.argv,
                environment: spec.environment,
                directory: spec.directory,
                user: spec.user,
                output: output.into(),
                open_files: spec.limits.open_files,
                marker: Some(marker),
            })
            .await?;
        self.has_started.notify_one();
        let (tell, told) = watch::channel(None);
        let key = (spawned.pid, spawned.start_ticks);
        self.exits().add(key, told);
        tokio::spawn(async move {
            if let Ok(status) = spawned.exit.await {
                tell.send(Some(status)).ok();
            }
        });
        Ok(Incarnation::Process { boot_id: self.boot_id.clone(), pid: key.0, start_ticks: key.1 })
    }

    async fn stop(
        &self,
        container: &ContainerRef,
        signal: &str,
        timeout: Duration,
    ) -> Result<StopReport, RuntimeError> {
        let signal: Signal = signal.parse().map_err(|_| RuntimeError::Signal(signal.to_string()))?;
        let run = self.last_run(container).map_err(|source| io_error("read its run file", source))?;
        let Some(run) = run else { return Ok(StopReport { killed: false, took: Duration::ZERO }) };
        // What has ended is cleared away even out of a box from which nothing can be ended.
        if self.is_confined && self.is_up(&run)? {
            self.may_change()?;
        }
        let report = self.end(&run, signal, timeout).await;
        let report = report.map_err(|source| io_error("end its processes", source))?;
        // Only now: while anything is left, the marker must say what it belongs to.
        point("before a run file is removed");
        match fs::remove_file(self.directory(container).join("run")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove its run file", error));
            }
            _ => {}
        }
        point("after a run file was removed");
        self.exits().all.remove(&(run.pid, run.start_ticks));
        Ok(report)
    }

    async fn exited(&self, _: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus> {
        let Incarnation::Process { boot_id, pid, start_ticks } = incarnation else { return None };
        let told = self.exits().all.get(&(*pid, *start_ticks)).cloned();
        if let Some(mut told) = told
            && let Ok(status) = told.wait_for(Option::is_some).await
        {
            return *status;
        }
        // Started by an earlier daemon, or the spawner is gone: the process itself is watched.
        if *boot_id == self.boot_id
            && let Err(error) = tree::gone(*pid, *start_ticks).await
        {
            tracing::warn!(pid, %error, "cannot watch a container");
            return std::future::pending().await;
        }
        None
    }

    async fn last_lines(&self, container: &ContainerRef, lines: usize) -> Vec<String> {
        let path = self.directory(container).join("output.log");
        tokio::task::spawn_blocking(move || log::last_lines(&path, lines)).await.unwrap_or_default()
    }
}

fn io_error(what: &'static str, source: io::Error) -> RuntimeError {
    RuntimeError::Io { what, source }
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The wall-clock time of a moment in ticks since boot.
fn started_at(start_ticks: u64) -> Option<Timestamp> {
    let begun = Duration::from_micros(start_ticks.checked_mul(1_000_000 / proc::ticks_per_second().ok()?)?);
    let age = proc::since_boot().ok()?.saturating_sub(begun);
    Some(Timestamp(clock::now().0 - i64::try_from(age.as_micros()).ok()?))
}
