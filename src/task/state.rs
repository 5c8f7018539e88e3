//! The states of a task, and the one place where they change.
//!
//! What comes out of each transition (printed from [`TaskState::next`] by a test; empty: refused):
//!
//! ```text
//!             stop        pause       resume      complete    fail        drain       fault
//! RUNNING     STOPPING    PAUSING                 SUCCEEDED   FAILED                  INTERRUPTED
//! STOPPING                                        SUCCEEDED   FAILED      STOPPED     INTERRUPTED
//! PAUSING     STOPPING                            SUCCEEDED   FAILED      PAUSED      INTERRUPTED
//! SUCCEEDED
//! FAILED
//! STOPPED
//! PAUSED      STOPPED                 RUNNING
//! INTERRUPTED STOPPED                 RUNNING
//! ```

use std::fmt;

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Being executed.
    Running,
    /// *Stop* was asked for: what is being deployed now still ends.
    Stopping,
    /// *Pause* was asked for: what is being deployed now still ends.
    Pausing,
    /// Every deployment of the plan succeeded.
    Succeeded,
    /// A deployment failed.
    Failed,
    /// Stopped by a user.
    Stopped,
    /// Paused by a user; *resume* continues it.
    Paused,
    /// A system-level fault cut it; *resume* continues it.
    Interrupted,
}

/// What makes a task change its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// A user asks to stop.
    Stop,
    /// A user asks to pause.
    Pause,
    /// A user asks to resume.
    Resume,
    /// The last deployment succeeded.
    Complete,
    /// A deployment failed, and those that were going on have ended.
    Fail,
    /// The deployments that were going on have ended well, some are held back.
    Drain,
    /// The daemon died or was shut down, an actor crashed, the store failed.
    Fault,
}

impl TaskState {
    /// All states, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Stopping,
        Self::Pausing,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
        Self::Paused,
        Self::Interrupted,
    ];

    /// The state after `transition`. This is the only place where a task's state is assigned.
    ///
    /// # Errors
    /// A [`Refusal`] when the transition is not possible in this state.
    pub const fn next(self, transition: Transition) -> Result<Self, Refusal> {
        use TaskState as S;
        use Transition as T;
        match (self, transition) {
            (S::Running | S::Pausing, T::Stop) => Ok(S::Stopping),
            (S::Running, T::Pause) => Ok(S::Pausing),
            (S::Running | S::Stopping | S::Pausing, T::Complete) => Ok(S::Succeeded),
            (S::Running | S::Stopping | S::Pausing, T::Fail) => Ok(S::Failed),
            (S::Stopping, T::Drain) => Ok(S::Stopped),
            (S::Pausing, T::Drain) => Ok(S::Paused),
            (S::Running | S::Stopping | S::Pausing, T::Fault) => Ok(S::Interrupted),
            (S::Paused | S::Interrupted, T::Resume) => Ok(S::Running),
            (S::Paused | S::Interrupted, T::Stop) => Ok(S::Stopped),
            (state, transition) => Err(Refusal { state, asked: transition.name() }),
        }
    }

    /// Whether asking for `transition` asks for what is already so (or under way).
    pub const fn is_already(self, transition: Transition) -> bool {
        matches!(
            (self, transition),
            (Self::Stopping | Self::Stopped, Transition::Stop)
                | (Self::Pausing | Self::Paused, Transition::Pause)
                | (Self::Running, Transition::Resume)
        )
    }

    /// RUNNING, STOPPING or PAUSING: the task holds its services.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Stopping | Self::Pausing)
    }

    /// Nothing can happen to it any more but *delete*.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped)
    }

    /// The commands that are possible, as a user writes them.
    pub const fn possible(self) -> &'static [&'static str] {
        match self {
            Self::Running => &["stop", "pause"],
            Self::Pausing => &["stop"],
            Self::Stopping => &[],
            Self::Paused | Self::Interrupted => &["resume", "stop", "delete"],
            Self::Succeeded | Self::Failed | Self::Stopped => &["delete"],
        }
    }

    /// The spelling of the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Pausing => "PAUSING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
            Self::Paused => "PAUSED",
            Self::Interrupted => "INTERRUPTED",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 7] =
        [Self::Stop, Self::Pause, Self::Resume, Self::Complete, Self::Fail, Self::Drain, Self::Fault];

    /// How it is called in messages and in the diagram.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Drain => "drain",
            Self::Fault => "fault",
        }
    }
}

/// What was asked, in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The state it is in.
    pub state: TaskState,
    /// What was asked for: the name of a command or a transition.
    pub asked: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} a task that is {}", self.asked, self.state)?;
        match self.state.possible() {
            [] => f.write_str("; it has to come to rest first"),
            possible => write!(f, "; possible now: {}", possible.join(", ")),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> String {
        let row = |cells: Vec<&str>| {
            let cells: String = cells.iter().fold(String::new(), |row, cell| row + &format!("{cell:<12}"));
            cells.trim_end().to_string()
        };
        let transitions: Vec<&str> = Transition::ALL.iter().map(|transition| transition.name()).collect();
        let mut lines = vec![row([&[""], &*transitions].concat())];
        for state in TaskState::ALL {
            let next = |transition: &Transition| state.next(*transition).map_or("", TaskState::name);
            let cells: Vec<&str> = Transition::ALL.iter().map(next).collect();
            lines.push(row([&[state.name()], &*cells].concat()));
        }
        lines.join("\n")
    }

    #[test]
    fn the_documentation_shows_the_transitions() {
        let documented = include_str!("state.rs").lines().filter_map(|line| line.strip_prefix("//! "));
        let documented: Vec<&str> = documented
            .skip_while(|line| *line != "```text")
            .skip(1)
            .take_while(|line| *line != "```")
            .collect();
        assert_eq!(documented.join("\n"), table(), "put this into the documentation:\n{}", table());
    }

    #[test]
    fn what_is_possible_is_what_is_not_refused() {
        for state in TaskState::ALL {
            for transition in [Transition::Stop, Transition::Pause, Transition::Resume] {
                let possible = state.possible().contains(&transition.name());
                assert_eq!(state.next(transition).is_ok(), possible, "{transition:?} in {state}");
                assert!(!(possible && state.is_already(transition)), "{transition:?} in {state}");
            }
            assert_eq!(state.possible().contains(&"delete"), !state.is_active(), "{state}");
            assert_eq!(TaskState::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn a_state_that_is_over_stays() {
        for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
            for transition in Transition::ALL {
                let refusal = state.next(transition).unwrap_err();
                assert_eq!((refusal.state, refusal.asked), (state, transition.name()));
            }
        }
    }

    #[test]
    fn a_refusal_says_what_is_possible() {
        let said = TaskState::Paused.next(Transition::Pause).unwrap_err().to_string();
        assert_eq!(said, "cannot pause a task that is PAUSED; possible now: resume, stop, delete");
        let said = TaskState::Stopping.next(Transition::Pause).unwrap_err().to_string();
        assert_eq!(said, "cannot pause a task that is STOPPING; it has to come to rest first");
    }
}
