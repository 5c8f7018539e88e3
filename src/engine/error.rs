//! Why an engine did not do something.

use super::version::{NEWEST, OLDEST};

/// Why an engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing listens at its socket.
    #[error(
        "cannot reach {engine} at {socket}: {why}. Start it (`systemctl enable --now {engine}.socket`), or set \
         `engines.{engine}` in the configuration to its socket"
    )]
    Unreachable {
        /// Which engine.
        engine: &'static str,
        /// Where.
        socket: String,
        /// What the system said.
        why: String,
    },
    /// The engine said no.
    #[error("{engine} cannot {what}: {message}. Its own log may say more")]
    Refused {
        /// Which engine.
        engine: &'static str,
        /// What deployd asked for.
        what: &'static str,
        /// The HTTP status; 0 when the answer itself is unusable.
        status: u16,
        /// What the engine said.
        message: String,
    },
    /// The engine was asked and its answer did not come: it may have done it.
    #[error(
        "{engine} did not answer whether it could {what}: {why}. Resume the task: it looks at what was done"
    )]
    Cut {
        /// Which engine.
        engine: &'static str,
        /// What deployd asked for.
        what: &'static str,
        /// What happened.
        why: String,
    },
    /// The two have no version of the interface in common.
    #[error(
        "cannot talk to {engine}: {message}. This deployd speaks versions {OLDEST} to {NEWEST} of the engine's API: \
         update the older of the two"
    )]
    Version {
        /// Which engine.
        engine: &'static str,
        /// What the engine said of its versions.
        message: String,
    },
    /// Another owner's volume has the name.
    #[error(
        "cannot keep the data of {path} in volume {volume}: {engine} has a volume of that name that this deployd did \
         not make. Delete that volume if nothing needs it, or rename the service or the container"
    )]
    ForeignVolume {
        /// Which engine.
        engine: &'static str,
        /// The volume's name.
        volume: String,
        /// Where the image wants it.
        path: String,
    },
    /// Nothing tells whether a container still runs.
    #[error(
        "cannot tell whether container {name} still runs: {engine} reports its state as `{state}`. Look at it with \
         `{engine} inspect {name}`, end it there, and retry"
    )]
    Unsettled {
        /// Which engine.
        engine: &'static str,
        /// The container's name.
        name: String,
        /// What the engine says of it.
        state: String,
    },
    /// A container does not end.
    #[error(
        "{engine} still reports container {name} as `{state}` after {seconds} s{refusal}. Look at it with \
         `{engine} inspect {name}`, and retry"
    )]
    StillThere {
        /// Which engine.
        engine: &'static str,
        /// The container's name.
        name: String,
        /// What the engine says of it.
        state: String,
        /// How long deployd has tried.
        seconds: u64,
        /// What the engine refused last, after a colon; empty if nothing.
        refusal: String,
    },
}

impl EngineError {
    /// Whether only a look can tell if something was done.
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }

    /// Whether the engine itself did not answer, as while it is restarted.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Cut { .. })
    }

    /// The HTTP status of a refusal.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}
