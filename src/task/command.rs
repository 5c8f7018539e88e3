//! What a user can ask of a task, and what that comes to in the state that it is in.

use super::Caller;
use super::event::Event;
use super::state::{Refusal, TaskState, Transition};

/// What a user can ask of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Break off after what is being deployed now.
    Stop {
        /// Cut downloads, builds and health waits of what is being deployed.
        now: bool,
    },
    /// Hold back what comes after what is being deployed now.
    Pause,
    /// Go on.
    Resume {
        /// Although containers differ.
        force: bool,
    },
    /// Forget it.
    Delete,
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is so already.
    Already,
    /// This event is recorded. Before a resume, admission has its word.
    Record(Event),
    /// These events are recorded, and then what is going on is cut.
    Cut(Vec<Event>),
    /// The task is forgotten.
    Delete,
}

impl Command {
    /// How a user writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Stop { .. } => Transition::Stop.name(),
            Self::Pause => Transition::Pause.name(),
            Self::Resume { .. } => Transition::Resume.name(),
        }
    }

    /// Judges the command of `by` for a task that is `state`.
    ///
    /// # Errors
    /// The [`Refusal`] when it is not possible there.
    pub fn judge(self, state: TaskState, by: Caller) -> Result<Verdict, Refusal> {
        let (transition, event) = match self {
            Self::Stop { now: true } if state.is_active() => {
                let stop = (state != TaskState::Stopping).then(|| Event::StopRequested { by: by.clone() });
                return Ok(Verdict::Cut(stop.into_iter().chain([Event::CutRequested { by }]).collect()));
            }
            Self::Stop { .. } => (Transition::Stop, Event::StopRequested { by }),
            Self::Pause => (Transition::Pause, Event::PauseRequested { by }),
            Self::Resume { force } => (Transition::Resume, Event::Resumed { by, force }),
            Self::Delete if state.is_active() => return Err(Refusal { state, asked: self.name() }),
            Self::Delete => return Ok(Verdict::Delete),
        };
        if state.is_already(transition) {
            return Ok(Verdict::Already);
        }
        state.next(transition).map(|_| Verdict::Record(event))
    }
}
