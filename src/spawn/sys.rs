//! The system calls of the spawner that need `unsafe`, each with the reason why it is sound.
#![allow(unsafe_code, reason = "fork, signal dispositions and descriptors received from a peer")]

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{ForkResult, fork};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Forks. Only for a process with one thread: then the child may use all of Rust.
pub fn fork_single_threaded() -> io::Result<ForkResult> {
    // SAFETY: the spawner's process has one thread (it is a fresh image that starts none), so no
    // lock can be held by another thread at the moment of the fork.
    unsafe { fork() }.map_err(Into::into)
}

/// Takes over a descriptor that the kernel has just given us.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the descriptor was received by SCM_RIGHTS or opened a moment ago, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor whose becoming readable can be awaited.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same descriptor, and keeps it open as long as it lives.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Marks every descriptor but the three streams as close-on-exec: what we were started with is ours,
/// not our children's.
pub fn keep_descriptors() -> io::Result<()> {
    const FIRST: nix::libc::c_uint = 3;
    let flags = nix::libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: the call takes numbers only, and closes nothing now.
    let done =
        unsafe { nix::libc::syscall(nix::libc::SYS_close_range, FIRST, nix::libc::c_uint::MAX, flags) };
    if done == 0 {
        return Ok(());
    }
    // Kernels before 5.11: one by one.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd > 2 {
            // SAFETY: setting a flag of a descriptor that may be gone does nothing to any other.
            unsafe { nix::libc::fcntl(fd, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Whoever ignores SIGCHLD, as some parents let their children do, never learns how a child ends.
pub fn expect_children() -> io::Result<()> {
    // SAFETY: the default disposition installs no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(())
}

/// Ignores these signals.
pub fn ignore(signals: &[Signal]) -> io::Result<()> {
    for &which in signals {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(which, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// All signals to their default, none blocked: what a program expects to be started with.
pub fn default_signals() -> io::Result<()> {
    for which in Signal::iterator() {
        if matches!(which, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: the default disposition installs no handler.
        unsafe { signal(which, SigHandler::SigDfl) }?;
    }
    for real_time in nix::libc::SIGRTMIN()..=nix::libc::SIGRTMAX() {
        // SAFETY: the default disposition installs no handler.
        unsafe { nix::libc::signal(real_time, nix::libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Ends a forked child at once, without running anything of the parent's.
pub fn exit_child(status: i32) -> ! {
    // SAFETY: `_exit` ends the process; no destructor runs, which is what a forked child needs.
    unsafe { nix::libc::_exit(status) }
}

/// Replaces the process; returns only on an error.
pub fn execute(program: &CString, argv: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(program, argv, environment) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}
