//! Commands as transient units: builds, hooks and health checks in a cgroup and a box of their own.
//!
//! A unit outlives the daemon that has asked for it. Its output goes through a copier of its own ([`relay`]) into a
//! file, and the last thing it does is to note how it has ended: whichever daemon looks for it finds it running, or
//! finds the note ([`notes`]). It is told by its name, and by the operation in its description.

mod dialogue;
mod properties;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Systemd, SystemdError, UnitState};
use crate::blocking;
use crate::identity::Owner;
use crate::random;
use crate::spawn::command::{Command, Commands, Ended, Identity};
pub use crate::spawn::notes::environment_file;
use crate::spawn::notes::{self, End, Notes};
use crate::spawn::output::{Hear, LastLines, Output, say};
use crate::spawn::relay;
use crate::spawn::{ExitStatus, SpawnError};
pub use dialogue::DialogueUnits;
pub use properties::program;

/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// systemd ends what takes too long; if it does not, it is given up after this.
const MARGIN: Duration = Duration::from_mins(1);

/// Runs commands as transient units.
pub struct TransientUnits {
    systemd: Arc<Systemd>,
    directory: PathBuf,
    owner: Arc<Owner>,
    /// Of this daemon's life: what is made only to be waited for.
    passing: String,
    next: AtomicU64,
}

impl TransientUnits {
    /// Commands of this owner, whose notes lie in `directory`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(systemd: Arc<Systemd>, directory: PathBuf, owner: Arc<Owner>) -> io::Result<Self> {
        notes::prepare(&directory)?;
        let passing = format!("{}{:016x}", notes::PASSING, random::number()?);
        Ok(Self { systemd, directory, owner, passing, next: AtomicU64::new(1) })
    }

    fn notes(&self, identity: &Identity) -> Notes {
        Notes::new(&self.directory, &identity.name, &identity.operation)
    }

    /// What is there of a command: its unit, if that runs and is its own.
    async fn is_up(&self, identity: &Identity) -> Result<bool, SystemdError> {
        let unit = unit_of(&identity.name);
        let state = self.systemd.state(&unit, &[]).await?;
        if state.is_down() {
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
            move || notes.begin(Some(&environment)).and_then(|()| relay::binary())
        })
        .await;
        let binary = output.map_err(|error| refuse(error.to_string(), false))?;
        let properties = properties::of(command, identity, &notes, self.systemd.scope(), &binary);
        match self.systemd.start_transient(&unit_of(&identity.name), properties).await {
            Ok(()) => Ok(()),
            // It was never executed: its note says at which step it ended.
            Err(SystemdError::Job { .. }) => {
                let why = notes.end().map_or_else(|| "it was not executed".into(), |end| why(&end, &binary));
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

    /// Waits until nothing of the unit runs any more, passing on its output meanwhile; false: it was cut.
    async fn follow(
        &self,
        command: &Command,
        identity: &Identity,
        cancel: &CancellationToken,
        hear: Arc<dyn Hear>,
    ) -> Result<bool, SystemdError> {
        let unit = unit_of(&identity.name);
        let mut output = Output::of(&self.notes(identity), command.output, hear).await;
        let over = self.systemd.until(&unit, &[], UnitState::is_down);
        let over = tokio::time::timeout(command.timeout + PATIENCE + MARGIN, over);
        match output.follow(over, cancel).await {
            None => Ok(false),
            Some(Ok(state)) => state.map(|_| true),
            Some(Err(_)) => Err(SystemdError::NoAnswer { what: format!("end {unit}") }),
        }
    }

    /// Ends a command of ours. That there are notes of it does not say whose it is: they may have been copied.
    async fn end(&self, name: &str) -> Result<(), SystemdError> {
        let state = self.systemd.state(&unit_of(name), &[]).await?;
        if !operation_of(&state.description).is_some_and(|operation| self.is_ours(name, operation)) {
            return Ok(());
        }
        match self.systemd.stop(&unit_of(name), None).await {
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
        hear: Arc<dyn Hear>,
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
        let last = LastLines::new(1, Some(hear));
        let went_on = self.follow(&command, &identity, cancel, last.clone()).await.map_err(failed)?;
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
        if end.status == ExitStatus::Code(relay::NOT_EXECUTED)
            && let Some(why) = last.get().pop().and_then(|line| relay::why_not_executed(&line))
        {
            notes.forget();
            return Err(SpawnError::Unit { program, why, in_doubt: false });
        }
        if end.result == "oom-kill" {
            let text = "(killed: out of memory; a limit is limits.memoryMax of the catalog)";
            let last: Arc<dyn Hear> = last;
            say(&last, command.who, text).await;
        }
        Ok(if end.result == End::TIMEOUT { Ended::TimedOut } else { Ended::Exited(end.status) })
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

    async fn is_running(&self, name: &str) -> bool {
        let state = self.systemd.state(&unit_of(name), &[]).await;
        state.is_ok_and(|state| !state.is_down())
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
    fn is_ours(&self, name: &str, operation: &str) -> bool {
        self.owner.gave(operation) || name.starts_with(&self.passing)
    }

    /// Whoever asks for it waits for it, or nobody does.
    fn passing(&self) -> Identity {
        let name = format!("{}-{}", self.passing, self.next.fetch_add(1, Ordering::Relaxed));
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

/// The operation that a unit's description names.
fn operation_of(description: &str) -> Option<&str> {
    description.rsplit_once("(operation ")?.1.strip_suffix(" of deployd)")
}

fn program_of(command: &Command) -> String {
    command.argv.first().cloned().unwrap_or_default()
}

/// Why nothing was executed: systemd's own exit codes, as in systemd.exec(5).
fn why(end: &End, relay: &Path) -> String {
    match end.status {
        ExitStatus::Code(200) => "its working directory can't be entered".into(),
        ExitStatus::Code(203) => {
            format!("its user cannot execute {}, through which its output goes", relay.display())
        }
        ExitStatus::Code(216 | 217) => "its user is not known".into(),
        ExitStatus::Code(226) => "its sandbox can't be made here (see journalctl)".into(),
        status => format!("before its first instruction it {status} (see systemd.exec(5))"),
    }
}
