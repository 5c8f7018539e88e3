//! Whatever becomes of a run, nothing of it is left: neither processes nor files.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Says to the program that it is guarded.
const GUARDED: &str = "DEPLOYD_BENCH_GUARDED";

/// Whether this is the run itself.
pub fn is_guarded() -> bool {
    std::env::var_os(GUARDED).is_some()
}

/// Runs this program once more. When that ends, or is told to, so do all that it has started: whoever loses its
/// parent becomes a child of ours. (Only who kills us with SIGKILL has to tidy up.)
pub fn guard() -> Result<ExitCode> {
    nix::sys::prctl::set_child_subreaper(true)?;
    // Where cargo is told to end, it is told alone.
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    let files = tempfile::Builder::new().prefix("deployd-bench").tempdir()?;
    let mut run = Command::new(std::env::current_exe()?);
    let run = run.args(std::env::args_os().skip(1)).env(GUARDED, "1").env("TMPDIR", files.path()).spawn()?;
    let run = Pid::from_raw(run.id().cast_signed());
    // Not before: who is started inherits what is blocked.
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let code = loop {
        if let Some(code) = reap(run)? {
            break code;
        }
        if signals.wait()? != Signal::SIGCHLD {
            break 130;
        }
    };
    loop {
        let ours = children()?;
        if ours.is_empty() {
            break;
        }
        for pid in ours {
            kill(pid, Signal::SIGKILL).ok();
            waitpid(pid, None).ok();
        }
    }
    files.close()?;
    Ok(ExitCode::from(code))
}

/// Forgets who has ended; how the run did, if it is among them.
fn reap(run: Pid) -> Result<Option<u8>> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == run => code = Some(u8::try_from(status)?),
            Ok(WaitStatus::Signaled(pid, ..)) if pid == run => code = Some(1),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(code),
            other => drop(other?),
        }
    }
}

fn children() -> Result<Vec<Pid>> {
    let text = fs::read_to_string("/proc/thread-self/children")?;
    let pids = text.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>()?;
    Ok(pids.into_iter().map(Pid::from_raw).collect())
}
