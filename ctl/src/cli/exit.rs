//! Exit codes: one exhaustive mapping.

use std::io;

use super::terminal::Terminal;
use crate::client::ClientError;
use crate::view::text::printable;
use crate::wire::problem::code;
use crate::wire::words::TaskState;

/// Wrong usage.
pub const USAGE: u8 = 2;
/// The exit code after Ctrl-C.
pub const CTRL_C: u8 = 130;
/// The exit code after SIGTERM.
pub const TERMINATED: u8 = 143;
/// The exit code after SIGHUP: the terminal is gone.
pub const HUNG_UP: u8 = 129;
/// The exit code of a command that was to wait for a task, when nobody reads its output any more: that of SIGPIPE.
pub const UNREAD: u8 = 141;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A call.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file.
    #[error("cannot write {file}: {source}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Write(#[from] io::Error),
    /// A plan has mistakes; they were shown.
    #[error("the plan is not valid; nothing was stored: mend what stands above, and try again")]
    PlanShown,
    /// Words that do not go together.
    #[error("{0}")]
    Usage(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::NotReachable { .. }) => 6,
            Self::Client(ClientError::Problem(problem)) => match &*problem.code {
                code::NOT_FOUND => 3,
                code::NOT_POSSIBLE | code::DRIFTED | code::CONFLICT | code::EXISTS | code::NOTHING_TO_DO => 4,
                code::IDEMPOTENCY_KEY_REUSED | code::TASK_DELETED | code::PLAN_DELETED => 4,
                code::PLAN_INVALID | code::CATALOG_INVALID => 5,
                code::NOT_PERMITTED => 7,
                _ => 1,
            },
            Self::PlanShown => 5,
            Self::Usage(_) => USAGE,
            Self::Client(ClientError::Cut(_) | ClientError::Protocol(_))
            | Self::Read { .. }
            | Self::File { .. }
            | Self::Other(_) => 1,
            // `deployctl list | head` is no failure.
            Self::Write(_) if self.is_unread() => 0,
            Self::Write(_) => 1,
        }
    }

    /// Whether nobody reads standard output any more.
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Tells the user.
    pub fn show(&self, terminal: &mut Terminal) {
        if self.is_unread() {
            return;
        }
        terminal.error(&printable(&self.to_string()));
        if let Self::Client(ClientError::Problem(problem)) = self {
            for difference in problem.differences.iter().flatten() {
                terminal.error(&printable(&super::render::difference(difference)));
            }
            for error in problem.errors.iter().flatten() {
                let file = error.file.as_deref().unwrap_or("plan");
                terminal.error(&super::render::mistake(file, error));
            }
        }
    }
}

/// The exit code of a command that has waited for a task.
pub const fn of_state(state: &TaskState) -> u8 {
    match state {
        TaskState::Succeeded => 0,
        TaskState::Failed => 10,
        TaskState::Stopped => 11,
        TaskState::Paused => 12,
        TaskState::Interrupted => 13,
        TaskState::Queued
        | TaskState::Running
        | TaskState::Stopping
        | TaskState::Pausing
        | TaskState::Other(_) => 1,
    }
}
