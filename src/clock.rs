//! The wall clock, read in this one place. The domain is given the time; it never asks.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::task::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
