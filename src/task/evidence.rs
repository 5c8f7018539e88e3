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
    /// It ended, and its runtime starts it again by itself: not up, and not going to stay down.
    Restarting {
        /// Which run.
        incarnation: Incarnation,
        /// The operation that started it.
        operation: String,
    },
    /// It is on its way up or down, or held in between, and did not get there in time.
    Changing {
        /// Which run.
        incarnation: Incarnation,
        /// The operation that started it.
        operation: String,
    },
}

/// The deeds that remain, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deeds {
    /// Nothing, if what runs shows that it is well ("already running").
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
    /// This operation had started the container, and it has ended since, maybe again and again: that is a failed
    /// start.
    Died,
}

/// Decides the deeds of operation `id`, with `way`, for a container that is as `observed`.
pub fn deeds(way: &Way, id: &str, observed: &Observed) -> Deeds {
    match (way, observed) {
        (Way::Stop, Observed::Down { .. }) => Deeds::Stop { running: false },
        (Way::Stop, _) => Deeds::Stop { running: true },
        (_, Observed::Up { operation, .. }) if operation == id => Deeds::AwaitHealth,
        (_, Observed::Changing { operation, .. }) if operation == id => Deeds::AwaitHealth,
        (_, Observed::Down { ended: Some(operation) }) if operation == id => Deeds::Died,
        (_, Observed::Restarting { operation, .. }) if operation == id => Deeds::Died,
        (Way::Start, Observed::Up { .. } | Observed::Changing { .. }) => Deeds::Leave,
        // A loop of restarts is ended before it is started anew.
        (_, Observed::Up { .. } | Observed::Changing { .. } | Observed::Restarting { .. }) => {
            Deeds::Start { stop_first: true }
        }
        (_, Observed::Down { .. }) => Deeds::Start { stop_first: false },
    }
}
