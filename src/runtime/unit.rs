//! Containers as systemd units: generated ones, and ones that exist already and are driven as they are.
//!
//! A container's unit survives the daemon and, while it is not stopped, the machine's reboot. Which
//! operation has started a run is told by the `mark`; which run it is, by the unit's InvocationID.

mod durable;
mod file;
mod mark;
mod observed;
mod owned;
mod sweep;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::AsyncReadExt;

use super::{
    ContainerRef, Form, Observation, Runtime, RuntimeError, Standing, StartSpec, StopReport, Tell, log,
};
use crate::blocking;
use crate::identity::Owner;
use crate::spawn::{ExitStatus, tree};
use crate::systemd::transient::environment_file;
use crate::systemd::unit::ENDED;
use crate::systemd::{Scope, Systemd, SystemdError, UnitState};
use crate::task::operation::Incarnation;
use durable::Durable;
use mark::{Mark, RunOf};
use observed::has_ended;

/// How long systemd may take beyond what it was told.
const MARGIN: Duration = Duration::from_secs(30);
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
    /// Units that systemd must not forget, so that it can say how a start has ended.
    held: Mutex<HashSet<String>>,
    owner: Arc<Owner>,
}

/// A container's unit.
struct Unit {
    name: String,
    /// Its file is ours.
    is_generated: bool,
    directory: PathBuf,
}

impl Unit {
    /// How long its stop may take: a unit that we have written is killed after `run.stopTimeout`, one that is not
    /// ours says itself how it is stopped.
    fn stop_limit(&self, timeout: Duration) -> Option<Duration> {
        // systemd waits so long after the signal, and once more after SIGKILL.
        self.is_generated.then(|| timeout.saturating_mul(2).saturating_add(MARGIN))
    }
}

impl UnitRuntime {
    /// A runtime of this owner, whose containers' directories lie below `services`.
    pub fn new(services: PathBuf, systemd: Arc<Systemd>, owner: Arc<Owner>) -> io::Result<Self> {
        let boot_id = tree::boot_id()?.replace('-', "");
        Ok(Self { services, systemd, boot_id, durable: Arc::default(), owner, held: Mutex::default() })
    }

    fn unit(&self, container: &ContainerRef) -> Unit {
        let directory = self.services.join(&container.service).join("containers").join(&container.container);
        let (name, is_generated) = match &container.form {
            Form::Unit(name) => (name.clone(), false),
            Form::GeneratedUnit | Form::Process | Form::Engine(_) => (container.generated_unit(), true),
        };
        Unit { name, is_generated, directory }
    }

    async fn write_files(&self, unit: &Unit, spec: &StartSpec) -> Result<(), RuntimeError> {
        let scope = self.systemd.scope().clone();
        let path = scope.unit_directory().join(&unit.name);
        let place = file::Place {
            scope: &scope,
            directory: &unit.directory,
            shared: self.services.join(&spec.container.service).join("shared"),
            owner: self.owner.id(),
        };
        let version = self.systemd.version().await?;
        let (text, environment) = (file::unit(spec, &place, version), environment_file(&spec.environment));
        let (name, directory, durable) = (unit.name.clone(), unit.directory.clone(), self.durable.clone());
        blocking::run(move || -> io::Result<()> {
            drop(log::open(&directory)?);
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

    /// Systemd forgets a unit that has ended well at once, and with it how it ended.
    async fn hold(&self, unit: &str) -> Result<(), RuntimeError> {
        if self.held().insert(unit.to_string()) {
            self.systemd.hold(unit).await?;
        }
        Ok(())
    }

    /// What became of its start is known.
    async fn let_go(&self, unit: &str) {
        if self.held().remove(unit)
            && let Err(error) = self.systemd.let_go(unit).await
        {
            // With the connection that held it, it is let go anyway.
            tracing::debug!(unit, %error, "cannot let go of a unit");
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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
        match tokio::time::timeout(self.systemd.patience(), over).await {
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
        let mut state = self.systemd.state(&unit.name, &[]).await?;
        self.admit(&unit, &state)?;
        if unit.is_generated {
            self.write_files(&unit, &spec).await?;
            state = self.systemd.state(&unit.name, &[]).await?;
        }
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
        self.hold(&unit.name).await?;
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
        timeout: Duration,
    ) -> Result<StopReport, RuntimeError> {
        let unit = self.unit(container);
        let begun = Instant::now();
        let state = self.systemd.state(&unit.name, &[]).await?;
        self.admit(&unit, &state)?;
        if unit.is_generated {
            let (scope, name, durable) =
                (self.systemd.scope().clone(), unit.name.clone(), self.durable.clone());
            let disable = move || {
                file::disable(&scope, &name)?;
                durable.settle([file::wants(&scope).as_path()])
            };
            blocking::run(disable).await.map_err(|source| io_error("disable its unit", source))?;
        }
        let mut killed = false;
        if !state.is_down() {
            self.systemd.stop(&unit.name, unit.stop_limit(timeout)).await?;
            let after = self.systemd.state(&unit.name, &["Result"]).await?;
            if !after.is_down() {
                return Err(RuntimeError::StillUp { unit: unit.name, state: after.words() });
            }
            killed = after.result == "timeout";
        }
        self.let_go(&unit.name).await;
        self.systemd.reset_failed(&unit.name).await?;
        Mark::remove(&unit.directory).map_err(|source| io_error("remove its unit's mark", source))?;
        Ok(StopReport { killed, took: begun.elapsed() })
    }

    async fn give_up(
        &self,
        container: &ContainerRef,
        _signal: &str,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        let unit = self.unit(container);
        let state = self.systemd.state(&unit.name, &ENDED).await?;
        self.admit(&unit, &state)?;
        let mark = self.mark_of(&unit)?;
        // Once it is down, systemd may forget which run was the last, and how that has ended.
        if let Some(mark) = mark.filter(|mark| mark.is_of(&state.invocation)) {
            let run = RunOf::Over(state.invocation.clone(), state.exit);
            let (mark, directory) = (Mark { run, ..mark }, unit.directory.clone());
            let noted = blocking::run(move || mark.write(&directory)).await;
            noted.map_err(|source| io_error("note its end", source))?;
        }
        self.let_go(&unit.name).await;
        if state.is_down() {
            return Ok(());
        }
        self.systemd.stop(&unit.name, unit.stop_limit(timeout)).await?;
        let after = self.systemd.state(&unit.name, &[]).await?;
        if after.is_down() {
            return Ok(());
        }
        Err(RuntimeError::StillUp { unit: unit.name, state: after.words() })
    }

    async fn sweep(&self, keep: &HashSet<ContainerRef>) -> Result<(), RuntimeError> {
        self.remove_unused(keep).await
    }

    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus> {
        let Incarnation::Unit { invocation, .. } = incarnation else { return None };
        let unit = self.unit(container);
        loop {
            let over = |state: &UnitState| has_ended(state, invocation);
            match self.systemd.until(&unit.name, &ENDED, over).await {
                Ok(state) => return state.exit,
                // It is looked at again when systemd answers.
                Err(error) => {
                    tracing::warn!(unit = %unit.name, %error, "cannot watch a unit");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn has_ended(&self, container: &ContainerRef, run: &Incarnation) -> bool {
        let Incarnation::Unit { invocation, .. } = run else { return true };
        let unit = self.unit(container);
        let state = self.systemd.state(&unit.name, &ENDED).await;
        let has_ended = state.is_ok_and(|state| has_ended(&state, invocation));
        if !has_ended {
            self.let_go(&unit.name).await;
        }
        has_ended
    }

    async fn follow(&self, container: &ContainerRef, tell: Tell<'_>) {
        let name = self.unit(container).name;
        let told = |state: UnitState| {
            let job = state.job.filter(|job| job.1 == "waiting").map(|job| job.0);
            let (active, sub, text) = (state.active, state.sub, state.text);
            tell(Standing { name: name.clone(), active, sub, text, job });
        };
        if let Err(error) = self.systemd.follow(&name, &["StatusText"], told).await {
            tracing::debug!(unit = %name, %error, "cannot follow a unit");
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

fn io_error(what: &'static str, source: io::Error) -> RuntimeError {
    RuntimeError::Io { what, source }
}

impl From<SystemdError> for RuntimeError {
    fn from(error: SystemdError) -> Self {
        Self::Systemd(error)
    }
}
