//! The runs of containers.

use bincode::{Decode, Encode};

use crate::task::operation::Incarnation;

#[derive(Debug, Encode, Decode)]
pub enum IncarnationV1 {
    Process { boot_id: String, pid: i32, start_ticks: u64 },
    Unit { boot_id: String, invocation: String },
    Engine { id: String, started: String },
}

impl From<Incarnation> for IncarnationV1 {
    fn from(value: Incarnation) -> Self {
        match value {
            Incarnation::Process { boot_id, pid, start_ticks } => Self::Process { boot_id, pid, start_ticks },
            Incarnation::Unit { boot_id, invocation } => Self::Unit { boot_id, invocation },
            Incarnation::Engine { id, started } => Self::Engine { id, started },
        }
    }
}

impl From<IncarnationV1> for Incarnation {
    fn from(row: IncarnationV1) -> Self {
        match row {
            IncarnationV1::Process { boot_id, pid, start_ticks } => {
                Self::Process { boot_id, pid, start_ticks }
            }
            IncarnationV1::Unit { boot_id, invocation } => Self::Unit { boot_id, invocation },
            IncarnationV1::Engine { id, started } => Self::Engine { id, started },
        }
    }
}
