//! Processes that were started on our behalf: who they are, and how all of them are ended.
//!
//! A process is told apart by pid and start time; a whole tree by its process group, and what has
//! left the group by the `DEPLOYD_OPERATION` in its environment. Nothing is signalled whose
//! identity was not verified a moment before.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::look::{Look, Seen, look};
use super::proc::{self, Stat, is_alive};
use crate::crashpoint::point;

/// The id of this boot of the machine, as systemd writes it into units. Where the daemon is one that sees another
/// /proc (ProtectProc=), as in a container that has an id of its own, that is what it was told.
pub fn boot_id() -> io::Result<String> {
    if let Some(id) = std::env::var("DEPLOYD_BOOT_ID").ok().and_then(|id| with_dashes(&id)) {
        return Ok(id);
    }
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string())
}

/// As in /proc; `None` for what is no such id.
fn with_dashes(id: &str) -> Option<String> {
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-"))
}

/// The content of a marker: one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The operation that started it.
    pub operation: String,
    /// The release it runs.
    pub release: Option<String>,
    /// Its leader.
    pub pid: i32,
    /// When the leader started.
    pub start_ticks: u64,
    /// During which boot.
    pub boot_id: String,
}

impl Run {
    /// As lines of `key=value`.
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// `None` when the text is not a complete marker.
    pub fn from_text(text: &str) -> Option<Self> {
        let get = |key: &str| {
            text.lines().find_map(|line| line.split_once('=').filter(|pair| pair.0 == key).map(|pair| pair.1))
        };
        Some(Self {
            operation: get("operation")?.to_string(),
            release: get("release").filter(|release| !release.is_empty()).map(str::to_string),
            pid: get("pid")?.parse().ok()?,
            start_ticks: get("startTicks")?.parse().ok()?,
            boot_id: get("bootId")?.to_string(),
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, release, pid, start_ticks, boot_id } = self;
        let release = release.as_deref().unwrap_or_default();
        write!(
            f,
            "operation={operation}\nrelease={release}\npid={pid}\nstartTicks={start_ticks}\nbootId={boot_id}\n"
        )
    }
}

/// How a tree was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// SIGKILL was needed.
    pub killed: bool,
    /// How long it took.
    pub took: Duration,
}

/// Resolves when the process is gone.
pub async fn gone(pid: i32, start_ticks: u64) -> io::Result<()> {
    match pidfd(pid, start_ticks)? {
        Some(process) => ended(process).await,
        None => Ok(()),
    }
}

/// Resolves when the process of this descriptor has ended.
async fn ended(process: OwnedFd) -> io::Result<()> {
    let process = super::sys::readable(process)?;
    drop(process.readable().await?);
    Ok(())
}

/// A descriptor of exactly this process; `None` when it is gone.
fn pidfd(pid: i32, start_ticks: u64) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = rustix::process::Pid::from_raw(pid) else { return Ok(None) };
    let fd = match rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        other => other?,
    };
    // The descriptor stays with the process it was opened for, so checking after opening is enough.
    Ok(is_alive(pid, start_ticks)?.then_some(fd))
}

/// Ends a process, its group, and whatever carries the operation's id elsewhere.
///
/// `signal` goes to the group first; what is left after `timeout` gets SIGKILL.
pub async fn end(
    pid: i32,
    start_ticks: u64,
    operation: &str,
    signal: Signal,
    timeout: Duration,
) -> io::Result<Ending> {
    let begun = Instant::now();
    let mut session = Session { id: pid, start_ticks, lived_at: None, members: Vec::new() };
    let ended_well = tokio::time::timeout(timeout, async {
        if let Some(leader) = session.leader()? {
            point("before a signal");
            signal_group(pid, signal)?;
            point("after a signal");
            ended(leader).await?;
        }
        end_stragglers(&mut session, operation, signal).await
    })
    .await;
    let killed = if let Ok(result) = ended_well {
        result?;
        false
    } else {
        if let Some(leader) = session.leader()? {
            signal_group(pid, Signal::SIGKILL)?;
            ended(leader).await?;
        }
        let kill = end_stragglers(&mut session, operation, Signal::SIGKILL);
        tokio::time::timeout(Duration::from_secs(30), kill)
            .await
            .map_err(|_| io::Error::other("processes are left that SIGKILL does not end"))??;
        true
    };
    Ok(Ending { killed, took: begun.elapsed() })
}

/// The processes of a session, even those that have cleared their environment.
///
/// A session's id is its leader's pid, which is not used again while the session has a member. So whoever is in it
/// is ours if started while the leader was known to live; and as long as one of those lives, all the others are.
struct Session {
    id: i32,
    /// When the leader started.
    start_ticks: u64,
    /// When the leader was known to live, in ticks since boot.
    lived_at: Option<u64>,
    members: Vec<(i32, u64)>,
}

impl Session {
    /// Its leader, if that lives.
    fn leader(&mut self) -> io::Result<Option<OwnedFd>> {
        let now = proc::ticks()?;
        let leader = pidfd(self.id, self.start_ticks)?;
        self.lived_at = if leader.is_some() { Some(now) } else { self.lived_at };
        Ok(leader)
    }

    fn grow(&mut self, look: &Look) -> io::Result<()> {
        let mut its = Vec::new();
        for &Seen { pid, start_ticks, .. } in look.in_session(self.id) {
            // Since it was looked into it may have begun a session of its own, and the id of this one been given again.
            let is_elsewhere = |stat: Stat| stat.session != self.id;
            if !Stat::of_living(pid, start_ticks)?.is_some_and(is_elsewhere) {
                its.push((pid, start_ticks));
            }
        }
        let is_old = |start_ticks| self.lived_at.is_some_and(|then| start_ticks <= then);
        let is_ours = its.iter().any(|member| self.members.contains(member) || is_old(member.1));
        self.members = if is_ours { its } else { Vec::new() };
        Ok(())
    }
}

/// Ends the members of a session whose leader is gone, and processes that left it.
async fn end_stragglers(session: &mut Session, operation: &str, signal: Signal) -> io::Result<()> {
    // The leader may still be waited for by its parent; its children are seen.
    let mut ended = HashSet::from([(session.id, session.start_ticks)]);
    let mut signalled = HashSet::new();
    loop {
        let look = look(Instant::now()).await?;
        session.grow(&look)?;
        let with_operation = look.of_operation(operation).map(|process| (process.pid, process.start_ticks));
        let ours = with_operation.chain(session.members.iter().copied());
        let found: BTreeSet<(i32, u64)> = ours.filter(|process| !ended.contains(process)).collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut left = Vec::new();
        for (pid, start_ticks) in found {
            let Some(stat) = Stat::of_living(pid, start_ticks)? else {
                // It may have left a child that the look has passed by: it is looked again.
                ended.insert((pid, start_ticks));
                continue;
            };
            // Whoever has been told with its group is only told again by SIGKILL.
            let is_told = stat.group == session.id && signal != Signal::SIGKILL;
            if signalled.insert((pid, start_ticks)) && !is_told {
                ignore_gone(kill(Pid::from_raw(pid), signal))?;
            }
            left.push((pid, start_ticks));
        }
        if left.is_empty() {
            continue;
        }
        // No event tells of the end of a process that is not our child and not yet opened: look again.
        let wait = left.iter().map(|&(pid, start_ticks)| Box::pin(gone(pid, start_ticks)));
        let (first, _, _) = futures_util::future::select_all(wait).await;
        first?;
    }
}

fn signal_group(leader: i32, signal: Signal) -> io::Result<()> {
    ignore_gone(killpg(Pid::from_raw(leader), signal))
}

fn ignore_gone(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::ESRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back() {
        let run = Run {
            operation: "ab.7.0.1".into(),
            release: Some("0123456789ab".into()),
            pid: 17,
            start_ticks: 99,
            boot_id: "b".into(),
        };
        assert_eq!(Run::from_text(&run.to_text()), Some(run.clone()));
        let without = Run { release: None, ..run };
        assert_eq!(Run::from_text(&without.to_text()), Some(without));
        assert_eq!(Run::from_text("operation=x\npid=1\n"), None);
    }
}
