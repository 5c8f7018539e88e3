//! Everything that a process has started, and that still runs.
//!
//! The process is a *child subreaper*: whatever its children leave behind becomes its own child. So nothing gets away,
//! whatever it does to its session, its user or its environment; and when no child is left, nothing is.

use std::collections::{HashMap, HashSet};
use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::proc::Stat;

/// How often newcomers are stopped before all are killed: who forks all the time is stopped in the middle.
const ROUNDS: usize = 100;

/// A process, told from a later one with the same pid by its start time.
type Process = (i32, u64);

/// Signals all of them, once.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn signal(root: i32, signal: Signal) -> io::Result<()> {
    for process in all(root)? {
        tell(process, signal);
    }
    Ok(())
}

/// Kills all of them. Those that fork all the time are stopped first, until there is none that was not.
///
/// # Errors
/// As [`signal`].
pub fn kill_all(root: i32) -> io::Result<()> {
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let newcomers: Vec<_> = all(root)?.into_iter().filter(|process| stopped.insert(*process)).collect();
        if newcomers.is_empty() {
            break;
        }
        for process in newcomers {
            tell(process, Signal::SIGSTOP);
        }
    }
    signal(root, Signal::SIGKILL)
}

/// Signals a process that is still the one that was seen. One that we may not signal is left to its own end.
fn tell((pid, start_ticks): Process, signal: Signal) {
    if matches!(Stat::of_living(pid, start_ticks), Ok(Some(_))) {
        kill(Pid::from_raw(pid), signal).ok();
    }
}

/// The living descendants of a process, children before their own children.
fn all(root: i32) -> io::Result<Vec<Process>> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = Stat::read(pid)?.filter(Stat::is_alive) {
            children.entry(stat.parent).or_default().push((pid, stat.start_ticks));
        }
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(&(pid, _)) = found.get(next) {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn descendants_are_found_and_killed_in_whatever_session() {
        let script = "setsid env -i /bin/sh -c 'sleep 1000 & echo up; wait' & wait";
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let root = child.id().cast_signed();
        let found = all(root).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let us = std::process::id().cast_signed();
        assert!(all(us).unwrap().iter().any(|process| process.0 == root));
        kill_all(root).unwrap();
        for (pid, start_ticks) in found {
            while Stat::of_living(pid, start_ticks).unwrap().is_some() {
                std::thread::yield_now();
            }
        }
        child.wait().unwrap();
    }
}
