//! Why nothing was built.

use std::io;

use super::room::Refused;
use crate::artifact::git::GitError;
use crate::spawn::{ExitStatus, SpawnError};

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The command failed.
    #[error("the build failed: its command {status}; `deployctl logs` has all that it said")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// It took too long.
    #[error(
        "the build was ended: it took longer than {seconds} s; raise build.timeout in the catalog, or see in `deployctl logs` where it hangs"
    )]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// The output is missing or can't be packed.
    #[error("the build's output can't be used: {0}; mend build.command or build.output in the catalog")]
    Output(String),
    /// The output has too many bytes or files.
    #[error("cannot pack the build's output: {0}. Make it smaller, or raise the limit in the configuration")]
    TooLarge(String),
    /// The disk has no room for the output.
    #[error(
        "cannot pack the build's output: the disk of the state directory lacks {missing} bytes. Make room, then execute the plan again"
    )]
    NoSpace {
        /// Number of bytes that are missing.
        missing: u64,
    },
    /// The build has filled the disk.
    #[error(
        "cannot finish the build: it left only {free} bytes free on the disk of the state directory, and was ended. Make room, or let the build write less"
    )]
    DiskFull {
        /// Number of bytes that were left.
        free: u64,
    },
    /// The command was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The commit could not be checked out.
    #[error(transparent)]
    Git(GitError),
    /// There is nobody to build as.
    #[error("cannot build: {0}; create the user, or name another one by build.user in the catalog")]
    User(String),
    /// The system refused.
    #[error(
        "cannot prepare the build: {0}; see that the disk of the state directory is writable and has room"
    )]
    Io(#[from] io::Error),
    /// The task was cut off.
    #[error("the build was cancelled")]
    Cancelled,
}

impl From<Refused> for BuildError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unusable(why) => Self::Output(why),
            Refused::TooLarge(why) => Self::TooLarge(why),
            Refused::NoSpace { missing } => Self::NoSpace { missing },
            Refused::Cancelled => Self::Cancelled,
        }
    }
}

impl BuildError {
    /// A stable name for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "outputTooLarge",
            Self::NoSpace { .. } | Self::DiskFull { .. } => "noSpace",
            _ => "buildFailed",
        }
    }
}
