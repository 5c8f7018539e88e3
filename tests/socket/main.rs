//! The socket under attack: by who may not, by who asks too much, by who sends nonsense.
//!
//! Real daemons, as in `tests/it`. Who has to be somebody else needs root, and is skipped without.
//! `DEPLOYD_TEST_SCALE` multiplies the counts of what is repeated.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::disallowed_methods,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

mod audit;
mod client;
mod fuzz;
mod generated;
#[path = "../it/harness.rs"]
mod harness;
mod load;
mod metrics;
mod nonsense;
mod reach;
mod roles;
mod schemathesis;
mod stream;
