//! Requests that came with an idempotency key.

use bincode::{Decode, Encode};

use super::Row;
use crate::task::request::{Fingerprint, FirstRequest};
use crate::task::{TaskId, Timestamp};

/// The first request with a key.
#[derive(Debug, Encode, Decode)]
pub struct RequestV1 {
    at: i64,
    plan: String,
    revision: u32,
    task: Option<u64>,
    deleted_at: Option<i64>,
    fingerprint: Option<[u8; 32]>,
}

impl Row for RequestV1 {}

impl From<&FirstRequest> for RequestV1 {
    fn from(first: &FirstRequest) -> Self {
        Self {
            at: first.at.0,
            plan: first.plan.clone(),
            revision: first.revision,
            task: first.task.map(|task| task.0),
            deleted_at: first.deleted_at.map(|at| at.0),
            fingerprint: first.fingerprint.map(|fingerprint| fingerprint.0),
        }
    }
}

impl From<RequestV1> for FirstRequest {
    fn from(row: RequestV1) -> Self {
        Self {
            at: Timestamp(row.at),
            plan: row.plan,
            revision: row.revision,
            task: row.task.map(TaskId),
            deleted_at: row.deleted_at.map(Timestamp),
            fingerprint: row.fingerprint.map(Fingerprint),
        }
    }
}
