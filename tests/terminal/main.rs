//! deployctl on a terminal and in scripts: the live view, its output in every form, its completions.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    dead_code,
    reason = "these are tests, helpers and tables included; the harness is shared"
)]

#[path = "../it/harness.rs"]
mod harness;
mod live;
mod pty;
#[path = "../hostile/server.rs"]
mod server;
