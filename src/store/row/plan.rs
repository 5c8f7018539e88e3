//! Stored plans.

use bincode::{Decode, Encode};

use super::Row;
use super::event::CallerV1;

/// One revision of a plan.
#[derive(Debug, Encode, Decode)]
pub struct PlanV1 {
    /// Microseconds since the epoch.
    pub at: i64,
    /// Who stored it.
    pub by: CallerV1,
    /// Its comment.
    pub comment: Option<String>,
    /// Its items.
    pub items: u32,
    /// Its batches.
    pub batches: u32,
    /// The file, byte for byte.
    pub text: Vec<u8>,
}

impl Row for PlanV1 {}
