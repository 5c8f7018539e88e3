//! The store's file is damaged, cut off, exchanged, taken away, or can't be written: the daemon refuses
//! it and leaves it as it is, or ends; it never goes on with wrong data, and never begins anew.
//!
//! The number of damaged files grows with `DEPLOYD_TEST_SCALE` (1 when absent).

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

mod backup;
mod file;
mod flips;
#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/strace.rs"]
mod strace;
mod syscalls;

use std::path::Path;
use std::process::Output;

use harness::Daemon;

/// A daemon that does not start: its exit code and what it says.
fn refused(daemon: &Daemon) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = daemon.command().output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn scale() -> usize {
    std::env::var("DEPLOYD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// Puts bytes into a file that only its owner can read.
fn put(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
