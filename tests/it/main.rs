//! deployd from outside: the real binaries, real processes, a real socket.
//!
//! A container writes down itself when it was started (the witness), in a file that the daemon never
//! touches; what happened is proved from that, not from the daemon's own words. No test waits for
//! time to pass: it waits for events.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "these are tests, helpers and tables included; what they write is no state"
)]

mod artifacts;
mod beginning;
mod check;
mod commands;
mod crash;
mod doubt;
mod drift;
mod dry_run;
mod empty;
mod followups;
mod harness;
mod history;
mod http;
mod lasting;
mod notify;
mod once;
mod order;
mod plans;
mod prefetch;
mod push;
mod push_over_socket;
mod repositories;
mod runtime;
mod secrets;
mod socket;
mod up;
