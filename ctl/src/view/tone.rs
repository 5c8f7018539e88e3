//! What a state means to a person, whatever it is the state of: each face maps a tone to its own colour.

use crate::wire::words::{ContainerState, DeploymentState, OperationState, TaskState};

/// What a state means to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It succeeded, or runs as it should.
    Good,
    /// It failed.
    Bad,
    /// It is in progress.
    Active,
    /// It waits for a person, or was cut.
    Held,
    /// There is nothing to see.
    Quiet,
}

impl Tone {
    /// Whether something is in progress, or went wrong.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Active | Self::Bad | Self::Held)
    }
}

/// A state.
pub trait Toned {
    /// What it means to a person.
    fn tone(&self) -> Tone;
}

impl Toned for TaskState {
    fn tone(&self) -> Tone {
        match self {
            Self::Succeeded => Tone::Good,
            Self::Failed => Tone::Bad,
            Self::Running | Self::Stopping | Self::Pausing => Tone::Active,
            Self::Paused | Self::Interrupted | Self::Stopped => Tone::Held,
            Self::Queued | Self::Other(_) => Tone::Quiet,
        }
    }
}

impl Toned for DeploymentState {
    fn tone(&self) -> Tone {
        match self {
            Self::Succeeded => Tone::Good,
            Self::Failed => Tone::Bad,
            Self::Running => Tone::Active,
            Self::Interrupted => Tone::Held,
            Self::Pending | Self::Skipped | Self::Other(_) => Tone::Quiet,
        }
    }
}

impl Toned for OperationState {
    fn tone(&self) -> Tone {
        match self {
            Self::Succeeded => Tone::Good,
            Self::Failed => Tone::Bad,
            Self::Running => Tone::Active,
            Self::Interrupted => Tone::Held,
            Self::Pending | Self::Unchanged | Self::Skipped | Self::Other(_) => Tone::Quiet,
        }
    }
}

impl Toned for ContainerState {
    fn tone(&self) -> Tone {
        match self {
            Self::Running => Tone::Good,
            Self::Exited | Self::Foreign => Tone::Bad,
            Self::Restarting | Self::Paused => Tone::Held,
            Self::Starting | Self::Reloading | Self::Stopping => Tone::Active,
            Self::Stopped | Self::Unknown | Self::Other(_) => Tone::Quiet,
        }
    }
}
