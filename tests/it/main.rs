//! deployd from outside: the real binaries, real processes, a real socket.
//!
//! A container writes down itself when it was started (the witness), in a file that the daemon never
//! touches; what happened is proved from that, not from the daemon's own words. No test waits for
//! time to pass: it waits for events.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod artifacts;
mod commands;
mod crash;
mod harness;
mod http;
mod order;
mod plans;
mod repositories;
mod socket;
