//! The system calls of the spawner that need `unsafe`, each with the reason why it is sound.
#![allow(unsafe_code, reason = "clone, execve, signal dispositions and descriptors received from a peer")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc::{c_char, c_int};
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Starts a process that runs `child` in our memory while we wait, on a stack of its own, until that executes a
/// program or returns: then the process ends. `child` must neither allocate nor lock nor panic, for it may be killed
/// at any moment; and this process must have one thread.
pub fn spawn_borrowing(stack: &mut [u8], mut child: impl FnMut()) -> nix::Result<Pid> {
    let callback = Box::new(|| {
        child();
        127
    });
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: no other thread of ours runs, and this one waits as long as the child uses our memory; what the child
    // does is bounded, and far from filling the stack.
    unsafe { clone(callback, stack, flags, Some(nix::libc::SIGCHLD)) }
}

/// Strings as `execve` takes them, ready to be used without any memory.
pub struct Strings {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    /// All of these.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
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

/// The signals that are ignored: all others get their default disposition by `execve` itself.
pub fn ignored() -> Vec<c_int> {
    let is_ignored = |signal: &c_int| {
        let mut now = std::mem::MaybeUninit::<nix::libc::sigaction>::zeroed();
        // SAFETY: nothing is changed, and what is written has room.
        let asked = unsafe { nix::libc::sigaction(*signal, std::ptr::null(), now.as_mut_ptr()) };
        // SAFETY: it is made of numbers and pointers, for which zeros are values; it is written on success.
        asked == 0 && unsafe { now.assume_init() }.sa_sigaction == nix::libc::SIG_IGN
    };
    (1..=nix::libc::SIGRTMAX()).filter(is_ignored).collect()
}

/// These signals to their default, none blocked: what a program expects to be started with.
pub fn default_signals(ignored: &[c_int]) -> nix::Result<()> {
    for &signal in ignored {
        // SAFETY: the default disposition installs no handler.
        unsafe { nix::libc::signal(signal, nix::libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Replaces the process; returns only on an error. Takes no memory.
pub fn execute(program: &CStr, argv: &Strings, environment: &Strings) -> Errno {
    // SAFETY: both arrays end with a null pointer, and what they point to lives with them.
    unsafe { nix::libc::execve(program.as_ptr(), argv.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Errno::last()
}
