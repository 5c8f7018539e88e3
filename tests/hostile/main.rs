//! Hostile input against the daemon: servers, repositories, plans, output. (Archives: `tests/corpora`.)

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    dead_code,
    reason = "these are tests, helpers and tables included; the harness is shared"
)]

mod answers;
mod builds;
#[path = "../socket/client.rs"]
mod client;
mod downloads;
mod escalation;
mod exchange;
#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/push.rs"]
mod push;
mod secrets;
mod server;
mod stage;
