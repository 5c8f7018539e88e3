//! One fault after another, while a second task on other services goes on: the error is clear, the state
//! is what the contract says, everything else keeps working, and nothing is left behind.
//!
//! Real daemons, real processes; the witness of the containers says what was done. `DEPLOYD_TEST_SCALE=100`
//! makes the sweeps complete.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    dead_code,
    reason = "these are tests, helpers and tables included; the harness is shared"
)]

#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/http.rs"]
mod http;
#[path = "../it/push.rs"]
mod push;

mod clock;
mod containers;
mod git;
mod memory;
mod modes;
mod panics;
mod scene;
mod shutdown;
mod spawners;
mod store;
