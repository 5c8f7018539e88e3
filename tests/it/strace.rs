//! Tests that need to see, or to disturb, the system calls of a daemon.

use std::process::Command;

use crate::harness::skip;

/// Whether strace is there and may trace; says so if not.
pub fn has_strace() -> bool {
    let runs = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let runs = runs.is_ok_and(|output| output.status.success());
    if !runs {
        skip("strace is missing or may not trace");
    }
    runs
}
