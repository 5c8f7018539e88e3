//! deployd on a real systemd: see [`machine::Machine`] and `lab`, the script that boots it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

mod commands;
mod deploys;
mod hardened;
#[path = "../it/harness.rs"]
mod harness;
mod leftover;
mod machine;
mod package;
mod runtime;
mod speed;
mod unit;
mod user;
