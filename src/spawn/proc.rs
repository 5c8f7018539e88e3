//! What `/proc` tells of a process: who it is, and whether it lives.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Where an environment begins and ends in its process's memory.
pub(super) type Place = (u64, u64);

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, …; `Z` and `X` are dead.
    pub state: char,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Its start in clock ticks since boot.
    pub start_ticks: u64,
    /// A thread of the kernel's own: it has no environment.
    pub(super) kernel: bool,
    /// Where its environment lies in its memory, if we may know: elsewhere after each `execve`.
    pub(super) environment: Option<Place>,
}

impl Stat {
    /// `None` when there is no such process.
    ///
    /// # Errors
    /// When it can't be looked at, as without descriptors: then nothing is known of it.
    pub fn read(pid: i32) -> io::Result<Option<Self>> {
        Self::of(&format!("/proc/{pid}/stat"))
    }

    /// The same of one that is alive and started then.
    ///
    /// # Errors
    /// As [`Stat::read`].
    pub fn of_living(pid: i32, start_ticks: u64) -> io::Result<Option<Self>> {
        Ok(Self::read(pid)?.filter(|stat| stat.is_alive() && stat.start_ticks == start_ticks))
    }

    /// Of this process. Takes no memory, if all is well.
    pub fn own() -> io::Result<Option<Self>> {
        Self::of("/proc/self/stat")
    }

    fn of(path: &str) -> io::Result<Option<Self>> {
        // One read takes all of it: it is made anew for each.
        let mut text = [0; 2048];
        match File::open(path).and_then(|mut file| file.read(&mut text)) {
            Ok(length) => {
                Self::parse(&text[..length]).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// See proc_pid_stat(5).
    fn parse(text: &[u8]) -> Option<Self> {
        // The name stands in parentheses and may be any bytes, parentheses too.
        let end_of_name = text.iter().rposition(|&byte| byte == b')')?;
        let mut fields = str::from_utf8(&text[end_of_name + 1..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let flags: u32 = fields.nth(2)?.parse().ok()?;
        let start_ticks = fields.nth(12)?.parse().ok()?;
        let mut address = |skipped| fields.nth(skipped)?.parse().ok().filter(|&address: &u64| address != 0);
        // As long as `execve` lays out the new memory, the environment seems to be empty; the program's place comes last.
        let executed = address(3).is_some();
        let environment = address(23).zip(address(0)).filter(|_| executed);
        Some(Self { state, group, session, start_ticks, kernel: flags & KERNEL_THREAD != 0, environment })
    }

    /// A zombie runs no code any more, even if nobody reaps it.
    pub const fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// How many ticks a second has.
pub fn ticks_per_second() -> io::Result<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The time since boot, on the clock of [`Stat::start_ticks`].
pub fn since_boot() -> io::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?.into())
}

/// The same in ticks.
pub fn ticks() -> io::Result<u64> {
    let (now, hertz) = (since_boot()?, ticks_per_second()?);
    Ok(now.as_secs() * hertz + u64::from(now.subsec_nanos()) * hertz / 1_000_000_000)
}

/// Whether the process with this pid is alive and is the one that started then.
///
/// # Errors
/// As [`Stat::read`].
pub fn is_alive(pid: i32, start_ticks: u64) -> io::Result<bool> {
    Ok(Stat::of_living(pid, start_ticks)?.is_some())
}

/// What is said of a process that has ended, or has no memory any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        let mut fields = vec!["S", "1", "42", "41"];
        fields.extend(["0"; 15]);
        fields.push("987654");
        let zeros = ["0"; 23];
        let mut text = b"42 (a) \xff\xfe (c) ".to_vec();
        text.extend(fields.join(" ").bytes());
        let place = |program: &str, more: &str| {
            let text = [&text, format!(" 0 0 0 {program} {} {more}\n", zeros.join(" ")).as_bytes()].concat();
            Stat::parse(&text).unwrap().environment
        };
        let stat = Stat::parse(&text).unwrap();
        let without = Stat {
            state: 'S',
            group: 42,
            session: 41,
            start_ticks: 987_654,
            kernel: false,
            environment: None,
        };
        assert_eq!(stat, without);
        let thread = Stat::parse(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0").unwrap();
        assert!(thread.kernel && thread.start_ticks == 3);
        assert_eq!(place("5", "0 0 0"), None);
        assert_eq!(place("0", "7 7 0"), None);
        assert_eq!(place("5", "7 9 0"), Some((7, 9)));
        assert_eq!(Stat::parse(b"42 (x"), None);
    }

    /// Else a container would be taken for stopped when descriptors run out, and go on.
    #[test]
    fn what_can_not_be_looked_at_is_not_taken_for_gone() {
        assert_eq!(Stat::read(i32::MAX).unwrap(), None);
        assert_eq!(Stat::of("/dev/null/stat").unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(Stat::of("/dev/null").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn our_own_process_is_alive_only_with_its_own_start_time() {
        let pid = std::process::id().cast_signed();
        let start = Stat::read(pid).unwrap().unwrap().start_ticks;
        assert!(is_alive(pid, start).unwrap());
        assert!(!is_alive(pid, start + 1).unwrap());
    }
}
