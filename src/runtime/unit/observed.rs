//! What a container is, by what systemd says of its unit and what its mark says of the run.

use super::mark::Mark;
use super::{Observation, RuntimeError, Unit, UnitRuntime};
use crate::runtime;
use crate::systemd::UnitState;
use crate::systemd::unit::{ENDED, Phase};
use crate::task::Timestamp;
use crate::task::operation::Incarnation;

impl UnitRuntime {
    /// What a container is, by what systemd says of its unit.
    pub(super) async fn observation(
        &self,
        unit: &Unit,
        mut state: UnitState,
    ) -> Result<Observation, RuntimeError> {
        self.admit(unit, &state)?;
        // A unit without a run is not loaded: each call would let systemd read it from the disk.
        if !state.invocation.is_empty() {
            let more = if state.is_up() { &["MainPID", "NRestarts"][..] } else { &ENDED };
            self.systemd.look_closer(&unit.name, more, &mut state).await?;
        }
        let phase = state.phase();
        let mark = self.mark_of(unit)?;
        // A unit that is not ours may have run since, without us.
        let of_this_run = mark.filter(|mark| {
            let ended_with_the_machine = mark.boot_id != self.boot_id && state.invocation.is_empty();
            // A generated unit makes its mark anew in each run, and what systemd starts again is of the same start.
            let is_between = matches!(phase, Phase::Down | Phase::Restarting);
            mark.is_of(&state.invocation) && (unit.is_generated || mark.boot_id == self.boot_id)
                || (is_between && unit.is_generated)
                || (phase == Phase::Down && (ended_with_the_machine || mark.is_over(&state.invocation)))
        });
        Ok(self.observed(state, phase, of_this_run))
    }

    /// The same, with the mark of this run, if it has one.
    fn observed(&self, state: UnitState, phase: Phase, mark: Option<Mark>) -> Observation {
        if phase == Phase::Down {
            return self.ended(&state, mark);
        }
        let (operation, release) = mark.map_or_else(Default::default, |mark| (mark.operation, mark.release));
        let detail = state.words();
        let (status, restarts) = (state.exit, state.restarts);
        let since = i64::try_from(state.active_since).ok().filter(|since| *since > 0).map(Timestamp);
        let pid = i32::try_from(state.main_pid).ok().filter(|pid| *pid > 0);
        let incarnation = self.incarnation(state.invocation);
        let changing = |phase| Observation::Changing {
            phase,
            incarnation: incarnation.clone(),
            operation: operation.clone(),
            release: release.clone(),
            detail: detail.clone(),
        };
        match phase {
            Phase::Starting => changing(runtime::Phase::Starting),
            Phase::Reloading => changing(runtime::Phase::Reloading),
            Phase::Stopping => changing(runtime::Phase::Stopping),
            Phase::Restarting => {
                Observation::Restarting { incarnation, operation, release, status, restarts }
            }
            Phase::Up | Phase::Down => {
                Observation::Running { incarnation, pid, operation, release, since, restarts }
            }
        }
    }

    fn ended(&self, state: &UnitState, mark: Option<Mark>) -> Observation {
        let failed = state.active != "inactive";
        // One that was stopped was not given up.
        let restarts = if failed { state.restarts } else { 0 };
        match mark {
            Some(mark) => Observation::Exited {
                status: mark.end().or(state.exit.filter(|_| mark.is_of(&state.invocation))),
                rebooted: mark.boot_id != self.boot_id,
                operation: mark.operation,
                release: mark.release,
                restarts,
            },
            None if failed => Observation::Exited {
                operation: String::new(),
                release: None,
                status: state.exit,
                rebooted: false,
                restarts,
            },
            None => Observation::Absent,
        }
    }

    pub(super) fn incarnation(&self, invocation: String) -> Incarnation {
        Incarnation::Unit { boot_id: self.boot_id.clone(), invocation }
    }
}

/// Whether this run of a unit has ended. A oneshot without RemainAfterExit= that did its work is done for good.
pub fn has_ended(state: &UnitState, invocation: &str) -> bool {
    let is_up = matches!(state.phase(), Phase::Up | Phase::Reloading);
    let is_done = state.kind == "oneshot" && state.result == "success" && state.phase() == Phase::Down;
    (state.invocation != invocation || !is_up) && !is_done
}
