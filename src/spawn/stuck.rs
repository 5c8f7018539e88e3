//! What hangs between its request and its program, as on a dead mount: found by the lock that it holds, and ended.
//!
//! A process that hangs in the kernel does not end at once, and not even by SIGKILL. But it never comes back from
//! there: a signal that is pending is obeyed before the first instruction of a program. So a child with a pending
//! SIGKILL will never have started anything, however long it stays.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::proc::Stat;

/// The name of spawners, and of their children until these execute their programs.
pub const NAME: &str = "deployd-spawner";

/// How often the holders of a lock are looked for, until all of them are doomed.
const LOOKS: u32 = 50;
/// How long to wait between these looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Ends all that `which` chooses among the holders of this lock; who of them still hangs, without ever starting
/// anything. Blocking.
///
/// # Errors
/// When some can't be looked at or ended.
pub fn end_holders(lock: &Path, which: impl Fn(i32) -> bool) -> io::Result<Vec<i32>> {
    let lock = fs::canonicalize(lock)?;
    let mut living = Vec::new();
    for _ in 0..LOOKS {
        let holders: Vec<i32> = holders(&lock)?.into_iter().filter(|&pid| which(pid)).collect();
        living = holders.iter().copied().filter(|&pid| !is_doomed(pid)).collect();
        if living.is_empty() {
            return Ok(holders);
        }
        for &pid in &living {
            end(pid, &lock)?;
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other(format!("process {} cannot be ended", living[0])))
}

/// Whether a process is a spawner, or a child of one that has not executed its program.
pub fn is_spawning(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == NAME)
}

/// The processes that have this file open, but for this one.
fn holders(file: &Path) -> io::Result<Vec<i32>> {
    let own = std::process::id().cast_signed();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid != own && holds(pid, file) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn holds(pid: i32, file: &Path) -> bool {
    // Who may not be looked into is none of ours.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .into_iter()
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target == file))
}

fn end(pid: i32, lock: &Path) -> io::Result<()> {
    let Some(raw) = Pid::from_raw(pid) else { return Ok(()) };
    let process = match pidfd_open(raw, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    // Only now is it known that it is still the one that was found.
    if holds(pid, lock) {
        match pidfd_send_signal(&process, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a process is gone, or will be before it does anything else.
fn is_doomed(pid: i32) -> bool {
    const SIGKILL: u64 = 1 << 8;
    if !matches!(Stat::read(pid), Ok(Some(stat)) if stat.is_alive()) {
        return true;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    pending.fold(0, |all, mask| all | mask) & SIGKILL != 0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn holders_of_a_lock_are_ended_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("lock");
        let sleep = |output: Stdio| Command::new("sleep").arg("1000").stdout(output).spawn().unwrap();
        let mut holder = sleep(fs::File::create(&lock).unwrap().into());
        let mut spared = sleep(fs::File::create(&lock).unwrap().into());
        let mut other = sleep(Stdio::null());
        let pid = spared.id().cast_signed();
        end_holders(&lock, |it| it != pid).unwrap();
        assert!(!holder.wait().unwrap().success());
        assert!(spared.try_wait().unwrap().is_none() && other.try_wait().unwrap().is_none());
        assert!(end_holders(&lock, |_| true).unwrap().iter().all(|&it| it == pid));
        assert!(!spared.wait().unwrap().success());
        assert_eq!(end_holders(&lock, |_| true).unwrap(), Vec::<i32>::new());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
