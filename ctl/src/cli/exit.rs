//! Exit codes: one exhaustive mapping.

use std::io;

use super::terminal::{Terminal, printable};
use crate::client::ClientError;
use crate::wire::problem::code;

/// Wrong usage.
pub const USAGE: u8 = 2;
/// The exit code after Ctrl-C.
pub const CTRL_C: u8 = 130;
/// The exit code after SIGTERM.
pub const TERMINATED: u8 = 143;
/// The exit code after SIGHUP: the terminal is gone.
pub const HUNG_UP: u8 = 129;

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
            Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Write(_) => 1,
        }
    }

    /// Tells the user.
    pub fn show(&self, terminal: &mut Terminal) {
        if matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe) {
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
pub fn of_state(state: &str) -> u8 {
    match state {
        "SUCCEEDED" => 0,
        "FAILED" => 10,
        "STOPPED" => 11,
        "PAUSED" => 12,
        "INTERRUPTED" => 13,
        _ => 1,
    }
}
