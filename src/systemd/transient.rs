//! Commands as transient units: builds, hooks and health checks in a cgroup and a box of their own.
//!
//! A unit outlives the daemon that has asked for it. Its output goes into a file, and the last thing it
//! does is to note how it has ended: whichever daemon looks for it finds it running, or finds the note
//! (`notes`). It is told by its name, and by the operation in its description.

mod notes;
mod properties;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Systemd, SystemdError, UnitState};
use crate::blocking;
use crate::spawn::command::{Command, Commands, Ended, Identity};
use crate::spawn::{ExitStatus, SpawnError};
pub use notes::environment_file;
use notes::{Notes, Output};
pub use properties::program;

/// Between two looks at a command's output: a file tells nobody that it grows.
const OUTPUT: Duration = Duration::from_millis(200);
/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// systemd ends what takes too long; if it does not, it is given up after this.
const MARGIN: Duration = Duration::from_mins(1);

/// Runs commands as transient units.
pub struct TransientUnits {
    systemd: Arc<Systemd>,
    directory: PathBuf,
    next: AtomicU64,
}

impl TransientUnits {
    /// Commands whose notes lie in `directory`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(systemd: Arc<Systemd>, directory: PathBuf) -> io::Result<Self> {
        notes::prepare(&directory)?;
        Ok(Self { systemd, directory, next: AtomicU64::new(1) })
    }

    fn notes(&self, identity: &Identity) -> Notes {
        Notes::new(&self.directory, &identity.name, &identity.operation)
    }

    /// What is there of a command: its unit, if that runs and is its own.
    async fn is_up(&self, identity: &Identity) -> Result<bool, SystemdError> {
        let unit = unit_of(&identity.name);
        let state = self.systemd.state(&unit, &[]).await?;
        if !state.is_up() && !state.has_job {
            return Ok(false);
        }
        if state.description == description(identity) {
            return Ok(true);
        }
        let message = format!("there is a unit {unit} already ({}), of another deployd", state.description);
        Err(SystemdError::Refused { name: "taken".into(), message })
    }

    async fn start(&self, command: &Command, identity: &Identity) -> Result<(), SpawnError> {
        let refuse = |why: String, in_doubt| SpawnError::Unit { program: program_of(command), why, in_doubt };
        let (notes, environment) = (self.notes(identity), environment_file(&command.environment));
        let output = blocking::run({
            let notes = notes.clone();
            move || notes.begin(&environment)
        })
        .await;
        output.map_err(|error| refuse(error.to_string(), false))?;
        let properties = properties::of(command, identity, &notes, self.systemd.scope());
        match self.systemd.start_transient(&unit_of(&identity.name), properties).await {
            Ok(()) => Ok(()),
            // It was never executed: its note says at which step it ended.
            Err(SystemdError::Job { .. }) => {
                let why = notes.end().map_or_else(|| "it was not executed".into(), |end| end.why());
                notes.forget();
                Err(refuse(why, false))
            }
            Err(error) => {
                if !error.is_in_doubt() {
                    notes.forget();
                }
                Err(refuse(error.to_string(), error.is_in_doubt()))
            }
        }
    }

    /// Waits until nothing of the unit runs any more, telling its output meanwhile; false: it was cut.
    async fn follow(
        &self,
        command: &Command,
        identity: &Identity,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<bool, SystemdError> {
        let unit = unit_of(&identity.name);
        let mut output = Output::of(&self.notes(identity));
        let is_over = |state: &UnitState| !state.is_up() && !state.has_job;
        let over = self.systemd.until(&unit, &[], is_over);
        let over = tokio::time::timeout(command.timeout + PATIENCE + MARGIN, over);
        tokio::pin!(over);
        let mut tick = tokio::time::interval(OUTPUT);
        let went_on = loop {
            tokio::select! {
                ended = &mut over => match ended {
                    Ok(state) => {
                        state?;
                        break true;
                    }
                    Err(_) => return Err(SystemdError::NoAnswer { what: format!("end {unit}") }),
                },
                () = cancel.cancelled() => break false,
                _ = tick.tick() => output.tell(on_line),
            }
        };
        output.tell(on_line);
        if went_on {
            output.finish(on_line);
        }
        Ok(went_on)
    }

    async fn end(&self, name: &str) -> Result<(), SystemdError> {
        match self.systemd.stop(&unit_of(name)).await {
            // It is not loaded: nothing of it runs.
            Err(SystemdError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            stopped => stopped,
        }
    }
}

#[async_trait]
impl Commands for TransientUnits {
    async fn run(
        &self,
        command: Command,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<Ended, SpawnError> {
        let lasts = command.identity.is_some();
        let identity = command.identity.clone().unwrap_or_else(|| self.passing());
        let program = program_of(&command);
        let failed = |error: SystemdError| {
            let in_doubt = !matches!(error, SystemdError::Refused { .. });
            SpawnError::Unit { program: program.clone(), why: error.to_string(), in_doubt }
        };
        let notes = self.notes(&identity);
        if notes.end().is_none() && !self.is_up(&identity).await.map_err(failed)? {
            // Its end may have been noted between these two looks.
            if notes.end().is_none() {
                self.start(&command, &identity).await?;
            }
        }
        let went_on = self.follow(&command, &identity, cancel, on_line).await.map_err(failed)?;
        if !went_on {
            if !lasts {
                self.abandon(&identity.name).await?;
            }
            return Ok(Ended::Cancelled);
        }
        let end = notes.end();
        if lasts {
            notes.tidy();
        } else {
            notes.forget();
        }
        let Some(end) = end else {
            let why = "its unit is gone, and has not noted how it ended".into();
            return Err(SpawnError::Unit { program, why, in_doubt: true });
        };
        if end.result == "oom-kill" {
            on_line("(killed: out of memory; a limit is limits.memoryMax of the catalog)".into());
        }
        Ok(if end.result == "timeout" { Ended::TimedOut } else { Ended::Exited(end.status) })
    }

    async fn is_begun(&self, identity: &Identity) -> Result<bool, SpawnError> {
        if self.notes(identity).end().is_some() {
            return Ok(true);
        }
        let up = self.is_up(identity).await;
        // As above: it may just have ended.
        let up = up.map(|up| up || self.notes(identity).end().is_some());
        up.map_err(|error| SpawnError::Unit {
            program: identity.name.clone(),
            why: error.to_string(),
            in_doubt: !matches!(error, SystemdError::Refused { .. }),
        })
    }

    fn outlive(&self) -> bool {
        true
    }

    async fn abandon(&self, name: &str) -> Result<(), SpawnError> {
        let notes = Notes::new(&self.directory, name, "");
        if !notes.exist() {
            return Ok(());
        }
        self.end(name).await.map_err(|error| SpawnError::Unit {
            program: name.into(),
            why: error.to_string(),
            in_doubt: true,
        })?;
        notes.forget();
        Ok(())
    }

    fn begun(&self) -> Vec<String> {
        notes::names(&self.directory)
    }
}

impl TransientUnits {
    /// Whoever asks for it waits for it, or nobody does.
    fn passing(&self) -> Identity {
        let (pid, number) = (std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let name = format!("deployd-passing-{pid}-{number}");
        Identity { operation: name.clone(), service: String::new(), name }
    }
}

/// The name of a command's unit.
fn unit_of(name: &str) -> String {
    format!("{name}.service")
}

/// What a command's unit says of itself.
fn description(identity: &Identity) -> String {
    format!("{} (operation {} of deployd)", identity.name, identity.operation)
}

fn program_of(command: &Command) -> String {
    command.argv.first().cloned().unwrap_or_default()
}

/// How a command has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// systemd's word for it: `success`, `exit-code`, `timeout`, …
    pub result: String,
    /// How its main process ended.
    pub status: ExitStatus,
}

impl End {
    /// Why nothing was executed: systemd's own exit codes, as in systemd.exec(5).
    fn why(&self) -> String {
        match self.status {
            ExitStatus::Code(200) => "its working directory can't be entered".into(),
            ExitStatus::Code(203) => "there is no such program, or it can't be executed".into(),
            ExitStatus::Code(216 | 217) => "its user is not known".into(),
            ExitStatus::Code(226) => "its sandbox can't be made here (see journalctl)".into(),
            status => format!("before its first instruction it {status} (see systemd.exec(5))"),
        }
    }
}
