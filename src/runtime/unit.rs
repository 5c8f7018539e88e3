//! Containers as systemd units: generated ones, and ones that exist already and are driven as they are.
//!
//! A container's unit survives the daemon and, while it is not stopped, the machine's reboot. Which
//! operation has started a run is told by the `mark`; which run it is, by the unit's InvocationID.

mod durable;
mod file;
mod mark;
mod sweep;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use super::{ContainerRef, Form, Observation, Runtime, RuntimeError, StartSpec, StopReport, log};
use crate::blocking;
use crate::spawn::{ExitStatus, tree};
use crate::systemd::transient::environment_file;
use crate::systemd::unit::END;
use crate::systemd::{Scope, Systemd, SystemdError, UnitState};
use crate::task::Timestamp;
use crate::task::operation::Incarnation;
use durable::Durable;
use mark::{Mark, RunOf};

/// How long a look waits for what is going on in a unit.
const SETTLE: Duration = Duration::from_mins(2);
/// No more of what the journal says of a unit is read: an entry may have any size.
const JOURNAL: u64 = 1 << 20;
/// The journal has this time to answer.
const JOURNAL_TIME: Duration = Duration::from_secs(5);

/// Runs containers as units.
pub struct UnitRuntime {
    services: PathBuf,
    systemd: Arc<Systemd>,
    /// As systemd writes it: 32 hex digits.
    boot_id: String,
    durable: Arc<Durable>,
}

/// A container's unit.
struct Unit {
    name: String,
    /// Its file is ours.
    is_generated: bool,
    directory: PathBuf,
}

impl UnitRuntime {
    /// A runtime whose containers' directories lie below `services`.
    pub fn new(services: PathBuf, systemd: Arc<Systemd>) -> io::Result<Self> {
        let boot_id = tree::boot_id()?.replace('-', "");
        Ok(Self { services, systemd, boot_id, durable: Arc::default() })
    }

    fn unit(&self, container: &ContainerRef) -> Unit {
        let directory = self.services.join(&container.service).join("containers").join(&container.container);
        let (name, is_generated) = match &container.form {
            Form::Unit(name) => (name.clone(), false),
            Form::GeneratedUnit | Form::Process | Form::Engine(_) => (container.generated_unit(), true),
        };
        Unit { name, is_generated, directory }
    }

    /// Whether there is a unit that was generated for this container: one may be left of earlier days.
    pub fn has_generated(&self, container: &ContainerRef) -> bool {
        self.systemd.scope().unit_directory().join(container.generated_unit()).exists()
    }

    /// What a container is, by what systemd says of its unit.
    async fn observation(&self, unit: &Unit, mut state: UnitState) -> Result<Observation, RuntimeError> {
        // A unit without a run is not loaded: each call would let systemd read it from the disk.
        if !state.invocation.is_empty() {
            let more = if state.is_up() { &["MainPID", "NRestarts"][..] } else { &END };
            self.systemd.look_closer(&unit.name, more, &mut state).await?;
        }
        let mark = Mark::read(&unit.directory).map_err(|source| io_error("read its unit's mark", source))?;
        // A unit that is not ours may have run since, without us.
        let of_this_run = mark.filter(|mark| {
            let ended_with_the_machine = mark.boot_id != self.boot_id && state.invocation.is_empty();
            mark.is_of(&state.invocation) && (unit.is_generated || mark.boot_id == self.boot_id)
                || (!state.is_up() && (unit.is_generated || ended_with_the_machine))
        });
        if state.is_up() {
            let (operation, release) =
                of_this_run.map_or_else(Default::default, |mark| (mark.operation, mark.release));
            let since = i64::try_from(state.active_since).ok().filter(|since| *since > 0).map(Timestamp);
            let pid = i32::try_from(state.main_pid).ok().filter(|pid| *pid > 0);
            let incarnation = self.incarnation(state.invocation);
            let restarts = state.restarts;
            return Ok(Observation::Running { incarnation, pid, operation, release, since, restarts });
        }
        let failed = state.active != "inactive";
        Ok(match of_this_run {
            Some(mark) => Observation::Exited {
                status: state.exit.filter(|_| mark.is_of(&state.invocation)),
                rebooted: mark.boot_id != self.boot_id,
                operation: mark.operation,
                release: mark.release,
            },
            None if failed => Observation::Exited {
                operation: String::new(),
                release: None,
                status: state.exit,
                rebooted: false,
            },
            None => Observation::Absent,
        })
    }

    fn incarnation(&self, invocation: String) -> Incarnation {
        Incarnation::Unit { boot_id: self.boot_id.clone(), invocation }
    }

    async fn write_files(&self, unit: &Unit, spec: &StartSpec) -> Result<(), RuntimeError> {
        let scope = self.systemd.scope().clone();
        let path = scope.unit_directory().join(&unit.name);
        let place = file::Place {
            scope: &scope,
            directory: &unit.directory,
            shared: self.services.join(&spec.container.service).join("shared"),
        };
        let (text, environment) = (file::unit(spec, &place), environment_file(&spec.environment));
        let (name, directory, durable) = (unit.name.clone(), unit.directory.clone(), self.durable.clone());
        blocking::run(move || -> io::Result<()> {
            drop(log::open(&directory)?);
            owned_by(&path, &directory)?;
            fs::create_dir_all(scope.unit_directory())?;
            file::write(&directory.join("unit.env"), &environment, 0o600)?;
            file::write(&path, &text, 0o644)?;
            file::enable(&scope, &name)?;
            // With the names that lead to the container's own files.
            let places = [scope.unit_directory(), file::wants(&scope)];
            durable.settle(directory.ancestors().take(4).chain(places.iter().map(PathBuf::as_path)))
        })
        .await
        .map_err(|source| RuntimeError::Io { what: "write its unit", source })
    }

    async fn mark(&self, unit: &Unit, spec: &StartSpec, run: RunOf) -> Result<(), RuntimeError> {
        let mark = Mark {
            operation: spec.operation.clone(),
            boot_id: self.boot_id.clone(),
            run,
            release: spec.release.clone(),
        };
        let directory = unit.directory.clone();
        blocking::run(move || {
            fs::create_dir_all(&directory)?;
            mark.write(&directory)
        })
        .await
        .map_err(|source| RuntimeError::Io { what: "note its start", source })
    }

    async fn journal(&self, unit: &Unit, lines: usize) -> Vec<String> {
        // What a program has said last may still be on its way; only root may wait for it.
        journalctl(&["--sync"]).await.ok();
        let name = match self.systemd.scope() {
            Scope::System => format!("--unit={}", unit.name),
            Scope::User(_) => format!("--user-unit={}", unit.name),
        };
        let newest = format!("--lines={lines}");
        let arguments = ["--output=cat", "--no-pager", "--quiet", "--boot", &newest, &name];
        journalctl(&arguments).await.map_or_else(|_| Vec::new(), |text| log::last_of(&text, lines))
    }
}

#[async_trait]
impl Runtime for UnitRuntime {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let unit = self.unit(container);
        let state = self.systemd.state(&unit.name, &[]).await?;
        self.observation(&unit, state).await
    }

    /// What an earlier daemon has asked for counts, too.
    async fn observe_settled(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let unit = self.unit(container);
        let over = self.systemd.until(&unit.name, &[], |state| !state.is_under_way());
        match tokio::time::timeout(SETTLE, over).await {
            Ok(state) => self.observation(&unit, state?).await,
            // What takes longer is shown as it is.
            Err(_) => self.observe(container).await,
        }
    }

    /// What was in its cgroup has ended with it.
    async fn clear(&self, _: &ContainerRef, _: &str, _: Duration) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError> {
        let unit = self.unit(&spec.container);
        if unit.is_generated {
            self.write_files(&unit, &spec).await?;
        }
        let mut state = self.systemd.state(&unit.name, &[]).await?;
        if state.needs_reload || (unit.is_generated && state.load != "loaded") {
            self.systemd.reload().await?;
            state = self.systemd.state(&unit.name, &[]).await?;
        }
        if state.load != "loaded" {
            return Err(RuntimeError::NoUnit { unit: unit.name, load: state.load });
        }
        // How often it was started before is no reason not to start it. One without a run never was.
        if !state.invocation.is_empty() {
            self.systemd.reset_failed(&unit.name).await?;
        }
        if !unit.is_generated {
            self.mark(&unit, &spec, RunOf::AnyBut(state.invocation)).await?;
        }
        self.systemd.start(&unit.name).await?;
        let invocation = self.systemd.invocation(&unit.name).await?;
        if !unit.is_generated {
            self.mark(&unit, &spec, RunOf::This(invocation.clone())).await?;
        }
        Ok(self.incarnation(invocation))
    }

    async fn stop(
        &self,
        container: &ContainerRef,
        _signal: &str,
        _timeout: Duration,
    ) -> Result<StopReport, RuntimeError> {
        let unit = self.unit(container);
        let begun = Instant::now();
        if unit.is_generated {
            let (scope, name, durable) =
                (self.systemd.scope().clone(), unit.name.clone(), self.durable.clone());
            let disable = move || {
                file::disable(&scope, &name)?;
                durable.settle([file::wants(&scope).as_path()])
            };
            blocking::run(disable).await.map_err(|source| io_error("disable its unit", source))?;
        }
        let state = self.systemd.state(&unit.name, &[]).await?;
        let mut killed = false;
        if !state.is_down() {
            self.systemd.stop(&unit.name).await?;
            let after = self.systemd.state(&unit.name, &["Result"]).await?;
            if !after.is_down() {
                return Err(RuntimeError::StillUp { unit: unit.name, state: after.active });
            }
            killed = after.result == "timeout";
        }
        self.systemd.reset_failed(&unit.name).await?;
        Mark::remove(&unit.directory).map_err(|source| io_error("remove its unit's mark", source))?;
        Ok(StopReport { killed, took: begun.elapsed() })
    }

    async fn sweep(&self, keep: &HashSet<ContainerRef>) -> Result<(), RuntimeError> {
        self.remove_unused(keep).await
    }

    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus> {
        let Incarnation::Unit { invocation, .. } = incarnation else { return None };
        let unit = self.unit(container);
        loop {
            let ended = |state: &UnitState| {
                let done_for_good = state.kind == "oneshot" && state.result == "success";
                (state.invocation != *invocation || !state.is_up()) && !done_for_good
            };
            match self.systemd.until(&unit.name, &END, ended).await {
                Ok(state) => return state.exit,
                // It is looked at again when systemd answers.
                Err(error) => {
                    tracing::warn!(unit = %unit.name, %error, "cannot watch a unit");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn last_lines(&self, container: &ContainerRef, lines: usize) -> Vec<String> {
        let unit = self.unit(container);
        if !unit.is_generated {
            return self.journal(&unit, lines).await;
        }
        let path = unit.directory.join("output.log");
        blocking::run(move || log::last_lines(&path, lines)).await
    }
}

async fn journalctl(arguments: &[&str]) -> io::Result<Vec<u8>> {
    use std::process::Stdio;
    let mut command = tokio::process::Command::new("journalctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn()?;
    let mut text = Vec::new();
    let answer = async {
        if let Some(output) = child.stdout.take() {
            output.take(JOURNAL).read_to_end(&mut text).await?;
        }
        child.wait().await
    };
    tokio::time::timeout(JOURNAL_TIME, answer).await??;
    Ok(text)
}

/// A unit of that name may be somebody else's, or another daemon's.
fn owned_by(path: &Path, directory: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    match file::owner(&text) {
        Some(owner) if Path::new(&owner) == directory => Ok(()),
        Some(owner) => Err(io::Error::other(format!(
            "{} belongs to the container in {owner}, of another deployd; remove it, or rename one of the two",
            path.display()
        ))),
        None => Err(io::Error::other(format!("{} was not written by deployd; remove it", path.display()))),
    }
}

fn io_error(what: &'static str, source: io::Error) -> RuntimeError {
    RuntimeError::Io { what, source }
}

impl From<SystemdError> for RuntimeError {
    fn from(error: SystemdError) -> Self {
        Self::Systemd(error)
    }
}
