//! Points at which a test lets the daemon be killed: before and after every commit, and every touch of
//! the host.
//!
//! `DEPLOYD_CRASH_AT=n` ends the process by SIGKILL at the n-th point that it meets, and writes the
//! point's name to the file `DEPLOYD_CRASH_NOTE` first. Without the variable a point costs one load.

use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static AT: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var("DEPLOYD_CRASH_AT").ok()?.parse().ok());
static MET: AtomicU64 = AtomicU64::new(0);

/// Ends the process here, if this is the point that a test asks for.
pub fn point(name: &'static str) {
    let Some(at) = *AT else { return };
    if MET.fetch_add(1, Ordering::Relaxed) + 1 == at {
        die(name);
    }
}

fn die(name: &str) {
    if let Some(path) = std::env::var_os("DEPLOYD_CRASH_NOTE")
        && let Ok(mut note) = std::fs::File::create(path)
    {
        note.write_all(name.as_bytes()).ok();
    }
    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).ok();
    // Nothing more is done on this thread, however long the signal takes.
    loop {
        std::thread::park();
    }
}
