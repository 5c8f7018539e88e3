//! Points at which a test lets the daemon be killed or panic: before and after every commit and every
//! touch of the host, and in every message of the actors.
//!
//! `DEPLOYD_CRASH_AT=n` ends the process by SIGKILL at the n-th point that it meets, and writes the
//! point's name to the file `DEPLOYD_CRASH_NOTE` first. `DEPLOYD_PANIC_IN=name,name` panics at the
//! points and in the messages of these names, once in each. Without the variables a point costs a load
//! or two.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

static AT: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var("DEPLOYD_CRASH_AT").ok()?.parse().ok());
static MET: AtomicU64 = AtomicU64::new(0);
static PANICS: LazyLock<Option<Mutex<Vec<String>>>> = LazyLock::new(|| {
    let names = std::env::var("DEPLOYD_PANIC_IN").ok()?;
    Some(Mutex::new(names.split(',').map(str::to_string).collect()))
});

/// Ends the process here, or panics, if this is the point that a test asks for.
pub fn point(name: &'static str) {
    handling(name);
    let Some(at) = *AT else { return };
    if MET.fetch_add(1, Ordering::Relaxed) + 1 == at {
        die(name);
    }
}

/// As [`point`], for what happens in memory only: a kill there is the kill at the point before it.
///
/// # Panics
/// When a test asks for it.
pub fn handling(name: &'static str) {
    let Some(panics) = &*PANICS else { return };
    let asked_for = {
        let mut names = panics.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.iter().position(|asked| asked == name);
        found.map(|index| names.remove(index)).is_some()
    };
    assert!(!asked_for, "a test asked for it: {name}");
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
