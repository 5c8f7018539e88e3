//! Why a runtime could not do something.

use std::io;

use crate::engine::EngineError;
use crate::identity::{Owner, Stranger};
use crate::spawn::SpawnError;
use crate::systemd::SystemdError;

/// Why a runtime could not do something.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// systemd.
    #[error(transparent)]
    Systemd(SystemdError),
    /// An engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A command can't be run inside of it.
    #[error("it is no engine's container; this is a defect of deployd")]
    NoInside,
    /// There is no systemd any more.
    #[error(
        "it is a systemd unit, and no systemd that deployd could drive runs here; say `runtime: process` in the catalog, or see `deployd check`"
    )]
    NoSystemd,
    /// Something else has the name of what would be made.
    #[error("{name} {stranger}, and this is {owner}: {fix}")]
    Foreign {
        /// What it is called: `deployd-web-web-1.service`.
        name: String,
        /// Whose it is.
        stranger: Stranger,
        /// Who we are.
        owner: String,
        /// What to do.
        fix: &'static str,
    },
    /// The daemon's own unit keeps it from being a process.
    #[error(
        "it is a plain process (runtime: process), and deployd.service keeps those from becoming other users; \
         let it be a unit (runtime: systemd), or see /usr/lib/deployd/process-runtime.conf"
    )]
    Confined,
    /// The catalog names a unit that is not there.
    #[error("unit {unit} is {load}; install it, or change the catalog")]
    NoUnit {
        /// Its name.
        unit: String,
        /// `not-found`, `masked`, `bad-setting`, …
        load: String,
    },
    /// It was stopped, and is not.
    #[error(
        "unit {unit} is {state} although it was stopped; see its Restart=, and what wants it: systemctl list-dependencies --reverse {unit}"
    )]
    StillUp {
        /// Its name.
        unit: String,
        /// Its state.
        state: String,
    },
    /// No such signal.
    #[error(
        "cannot stop it by {0}: there is no such signal; write one like SIGTERM as run.stopSignal in the catalog"
    )]
    Signal(String),
}

impl RuntimeError {
    /// Whether what was asked for may still be done, or have been done: only a look can tell.
    pub const fn is_in_doubt(&self) -> bool {
        match self {
            Self::Spawn(error) => error.is_in_doubt(),
            Self::Systemd(error) => error.is_in_doubt(),
            Self::Engine(error) => error.is_in_doubt(),
            _ => false,
        }
    }

    /// What has a name of ours was made by somebody else.
    pub fn foreign(name: String, stranger: Stranger, owner: &Owner, fix: &'static str) -> Self {
        Self::Foreign { name, stranger, owner: owner.to_string(), fix }
    }

    /// Whether what has the container's name is not ours.
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. })
    }

    /// The failure's code, when it shows before anything is stopped.
    pub const fn code_before_start(&self) -> &'static str {
        match self {
            Self::Engine(EngineError::ForeignVolume { .. }) => "volumeRefused",
            Self::Engine(_) => "imageFailed",
            _ => "startFailed",
        }
    }

    /// As it counts in the middle of a deed: an engine that is away may have done what it was asked for.
    #[must_use]
    pub fn in_doubt(self) -> Self {
        match self {
            Self::Engine(EngineError::Unreachable { engine, why, .. }) => {
                Self::Engine(EngineError::Cut { engine, what: "go on with the container", why })
            }
            other => other,
        }
    }
}
