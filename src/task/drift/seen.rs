//! What a look at a container showed.

use crate::plan::Way;
use crate::task::evidence::Observed;
use crate::task::operation::{Evidence, Incarnation};

/// What a look at a container showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The release to which it points.
    pub release: Option<String>,
    /// What runs, and is not on its way up or down.
    pub incarnation: Option<Incarnation>,
    /// As the deeds of an operation are decided from it.
    pub observed: Observed,
    /// The operation that started what ran last, if that ended.
    pub ended: Option<String>,
    /// What ran ended with the machine.
    pub rebooted: bool,
    /// What runs was begun by the runtime itself, after a failure.
    pub restarted: bool,
}

impl Default for Seen {
    fn default() -> Self {
        let observed = Observed::Down { ended: None };
        Self { release: None, incarnation: None, observed, ended: None, rebooted: false, restarted: false }
    }
}

impl Seen {
    /// It runs, started by `operation`: empty when somebody else did.
    #[must_use]
    pub fn running(self, incarnation: Incarnation, operation: String) -> Self {
        let observed = Observed::Up { incarnation: incarnation.clone(), operation };
        Self { incarnation: Some(incarnation), observed, ..self }
    }

    /// What `operation` started ended.
    #[must_use]
    pub fn ended(self, operation: String, rebooted: bool) -> Self {
        // What a reboot ended did not end by itself: it may be started again.
        let observed = Observed::Down { ended: Some(operation.clone()).filter(|_| !rebooted) };
        Self { observed, ended: Some(operation), rebooted, ..self }
    }

    /// As the journal keeps it. What restarts again and again counts as not running for START, which ends that.
    pub fn evidence(&self, way: &Way) -> Evidence {
        let is_none = *way == Way::Start && matches!(self.observed, Observed::Restarting { .. });
        Evidence { incarnation: self.run().filter(|_| !is_none).cloned(), release: self.release.clone() }
    }

    /// The run that is there, in whatever phase.
    pub(super) fn run(&self) -> Option<&Incarnation> {
        match &self.observed {
            Observed::Up { incarnation, .. }
            | Observed::Restarting { incarnation, .. }
            | Observed::Changing { incarnation, .. } => Some(incarnation),
            Observed::Down { .. } => None,
        }
    }

    /// The operation that started what is there, or what ended.
    pub(super) fn operation(&self) -> Option<&str> {
        match &self.observed {
            Observed::Up { operation, .. }
            | Observed::Restarting { operation, .. }
            | Observed::Changing { operation, .. } => Some(operation),
            Observed::Down { .. } => self.ended.as_deref(),
        }
    }

    pub(super) fn run_state(&self) -> String {
        match &self.observed {
            Observed::Up { incarnation, .. } => format!("running, {incarnation}"),
            Observed::Restarting { incarnation, .. } => format!("restarting, {incarnation}"),
            Observed::Changing { incarnation, .. } => format!("starting or stopping, {incarnation}"),
            Observed::Down { .. } => "not running".into(),
        }
    }
}
