//! Ending a container: it is over when the engine says that no process of it is left, and that it is gone.
//!
//! Each step follows from a look, and is looked at again: an engine that is restarted, a second client, a stop that
//! an earlier daemon had asked for are all met on the way. Nothing is removed while it may run.

use std::time::{Duration, Instant};

use super::{EngineRuntime, LOOK};
use crate::engine::{EngineError, Inspected, Phase};
use crate::runtime::{ContainerRef, RuntimeError, StopReport};

/// How long a container may take to be gone, beyond its own time to end.
const AFTER: Duration = Duration::from_mins(1);
/// How long a state may last that says nothing.
const UNKNOWN: Duration = Duration::from_secs(5);
/// SIGKILL, as an exit code.
const KILLED: i32 = 128 + 9;

/// How far a container is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// It is stopped, and stays for its last words.
    Down,
    /// It is removed.
    Gone,
    /// It is removed, unless it was started meanwhile: then it is left alone.
    GoneIfDown,
}

/// What is on its way to its end.
struct Ending<'a> {
    container: &'a ContainerRef,
    begun: Instant,
    patience: Duration,
    until: Until,
    killed: bool,
    /// The engine was asked to do something.
    asked: bool,
    /// What it refused last.
    refusal: String,
}

impl EngineRuntime {
    /// Stops a container, and removes it if that is wanted.
    pub(super) async fn end(
        &self,
        container: &ContainerRef,
        patience: Duration,
        until: Until,
    ) -> Result<StopReport, RuntimeError> {
        let (begun, refusal) = (Instant::now(), String::new());
        let mut ending = Ending { container, begun, patience, until, killed: false, asked: false, refusal };
        loop {
            let found = self.patiently(|| self.find(container)).await;
            // What was asked for may be done, whatever can be seen of it.
            let Some(found) = found.map_err(|error| if ending.asked { error.in_doubt() } else { error })?
            else {
                break;
            };
            if until == Until::Down && matches!(found.state.phase(), Phase::New | Phase::Down) {
                break;
            }
            self.step(&mut ending, &found).await?;
        }
        Ok(StopReport { killed: ending.killed, took: begun.elapsed() })
    }

    /// Does what brings a container nearer to its end.
    async fn step(&self, ending: &mut Ending<'_>, found: &Inspected) -> Result<(), RuntimeError> {
        let phase = found.state.phase();
        ending.judge(self.connection.engine(), found, phase)?;
        let left = ending.patience.saturating_sub(ending.begun.elapsed());
        let done = match phase {
            Phase::Paused => self.connection.unpause(&found.id).await,
            Phase::Up | Phase::Stopping | Phase::Restarting => self.connection.stop(&found.id, left).await,
            Phase::New | Phase::Down => {
                ending.killed |= ending.asked && left.is_zero() && found.state.exit_code() == KILLED;
                if phase == Phase::New {
                    self.no_process(ending.container, &found.id).await?;
                }
                self.note_volumes(ending.container, found).await?;
                self.connection.remove(&found.id).await
            }
            Phase::Removing | Phase::Unknown => {
                tokio::time::sleep(LOOK).await;
                return Ok(());
            }
        };
        ending.asked = true;
        match done {
            // Down, or gone: the next look shows it.
            Ok(()) if matches!(phase, Phase::Paused) => {}
            Ok(()) => ending.refusal.clear(),
            Err(EngineError::Refused { message, .. }) => {
                ending.refusal = format!(": {message}");
                tokio::time::sleep(LOOK).await;
            }
            Err(error) if error.is_away() => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Ending<'_> {
    /// Whether there is still time.
    fn judge(&self, engine: &'static str, found: &Inspected, phase: Phase) -> Result<(), EngineError> {
        let (name, state) = (self.container.generated_name(), found.state.shown());
        let elapsed = self.begun.elapsed();
        if phase == Phase::Unknown && elapsed >= UNKNOWN {
            return Err(EngineError::Unsettled { engine, name, state });
        }
        // A run that begins after the look that found nothing is another one's, unless the engine restarts it.
        let runs = matches!(phase, Phase::Up | Phase::Paused | Phase::Stopping);
        if self.until == Until::GoneIfDown && runs && found.restart_count == 0 {
            let why = format!("{name} was started meanwhile");
            return Err(EngineError::Cut { engine, what: "start the container", why });
        }
        if elapsed >= self.patience + AFTER {
            let (seconds, refusal) = (elapsed.as_secs(), self.refusal.clone());
            return Err(EngineError::StillThere { engine, name, state, seconds, refusal });
        }
        Ok(())
    }
}
