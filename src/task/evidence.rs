//! What has to be done to a container, judged by what is there.
//!
//! The same function decides for an operation that begins and for one that a crash had left in
//! doubt: a container that carries this operation's id was already dealt with by this operation.
//! So nothing is done twice, and `resume` is no second path.

use super::operation::Incarnation;
use crate::plan::Way;

/// What a runtime saw of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing runs. `ended_by` is the operation that had started what ran last during this boot.
    Down {
        /// The operation that had started the last run, when that run ended without a reboot.
        ended: Option<String>,
    },
    /// It runs.
    Up {
        /// Which run.
        incarnation: Incarnation,
        /// The operation that started it.
        operation: String,
    },
}

/// The deeds that remain, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deeds {
    /// Nothing: the container is as it should be ("already running", "already stopped").
    Leave,
    /// Stop what runs.
    Stop {
        /// Something runs.
        running: bool,
    },
    /// Stop what runs, switch the release (for ways that deploy one), start.
    Start {
        /// Something runs that has to be stopped first.
        stop_first: bool,
    },
    /// This operation has already started what runs: see that it becomes healthy.
    AwaitHealth,
    /// This operation had started the container, and it has ended since: that is a failed start.
    Died,
}

/// Decides the deeds of operation `id`, with `way`, for a container that is as `observed`.
pub fn deeds(way: &Way, id: &str, observed: &Observed) -> Deeds {
    match (way, observed) {
        (Way::Stop, Observed::Up { .. }) => Deeds::Stop { running: true },
        (Way::Stop, Observed::Down { .. }) => Deeds::Stop { running: false },
        (_, Observed::Up { operation, .. }) if operation == id => Deeds::AwaitHealth,
        (_, Observed::Down { ended: Some(operation) }) if operation == id => Deeds::Died,
        (Way::Start, Observed::Up { .. }) => Deeds::Leave,
        (_, Observed::Up { .. }) => Deeds::Start { stop_first: true },
        (_, Observed::Down { .. }) => Deeds::Start { stop_first: false },
    }
}
