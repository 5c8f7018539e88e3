//! What `/proc` tells of processes: who one is, and which there are.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirEntryExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So often it is looked whether a process has done with `execve`: for a fifth of a second at least.
const EXECUTING: u32 = 1_000;

/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Where an environment begins and ends in its process's memory.
type Place = (u64, u64);

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
    kernel: bool,
    /// Where its environment lies in its memory, if we may know: elsewhere after each `execve`.
    environment: Option<Place>,
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
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// A process.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The process.
    pub pid: i32,
    /// When it started.
    pub start_ticks: u64,
    /// Its session, when it was looked into.
    pub session: i32,
    /// `DEPLOYD_OPERATION`.
    pub operation: Option<Arc<str>>,
    /// The inode number of its directory in `/proc`: another one for each process that gets the pid.
    inode: u64,
    /// It need not be looked into again: by whom it was started does not change.
    is_settled: bool,
}

/// All processes, as they were at `since` or later; some of them may have ended by then.
///
/// Many callers at once share one look at `/proc`.
///
/// # Errors
/// When they can't be looked at: who is not seen may be there all the same.
pub async fn seen(since: Instant) -> io::Result<Arc<Vec<Seen>>> {
    type Look = Option<(Instant, Arc<Vec<Seen>>)>;
    static LAST: tokio::sync::Mutex<Look> = tokio::sync::Mutex::const_new(None);
    let mut last = LAST.lock().await;
    if let Some((begun, processes)) = &*last
        && *begun >= since
    {
        return Ok(processes.clone());
    }
    let begun = Instant::now();
    let before = last.take().map(|(_, before)| before);
    let look = tokio::task::spawn_blocking(move || scan(before.as_deref().map_or(&[], Vec::as_slice)));
    let processes = Arc::new(look.await.map_err(io::Error::other)??);
    *last = Some((begun, processes.clone()));
    Ok(processes)
}

/// Looks at all processes, and only into those that the look `before` does not know for good.
///
/// The numbers of the inodes in `/proc` are never given again, and a process keeps its own as long as the kernel
/// remembers it; one that it has forgotten and made anew is a process that is looked into once more.
fn scan(before: &[Seen]) -> io::Result<Vec<Seen>> {
    let known: HashMap<_, _> = before.iter().map(|seen| ((seen.pid, seen.inode), seen)).collect();
    let a_while_ago = ticks()?.saturating_sub(ticks_per_second()?);
    let mut all = Vec::with_capacity(before.len() + 16);
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let inode = entry.ino();
        if let Some(seen) = known.get(&(pid, inode)).filter(|seen| seen.is_settled) {
            all.push((*seen).clone());
        } else if let Some(stat) = Stat::read(pid)?.filter(Stat::is_alive) {
            // Between its start and its `execve` nobody has an operation, and that is a matter of milliseconds.
            let is_old = stat.start_ticks < a_while_ago;
            let (operation, is_settled) = match whose(pid, stat)? {
                Whose::Gone => continue,
                Whose::Unclear => (None, false),
                Whose::Nobodys => (None, is_old),
                Whose::Of(operation) => (Some(operation), true),
            };
            let Stat { start_ticks, session, .. } = stat;
            all.push(Seen { pid, start_ticks, session, operation, inode, is_settled });
        }
    }
    Ok(all)
}

/// Whom a process belongs to.
enum Whose {
    /// It has ended.
    Gone,
    /// It could not be seen this time.
    Unclear,
    /// To no operation.
    Nobodys,
    /// To this one.
    Of(Arc<str>),
}

/// Whose operation a process carries.
///
/// Who is just executing a program has no environment for a moment, nor has who is just ending (and holds its files and
/// sockets still): both are waited for, but not for ever.
fn whose(pid: i32, mut before: Stat) -> io::Result<Whose> {
    if before.kernel {
        return Ok(Whose::Nobodys);
    }
    for _ in 0..EXECUTING {
        let environment = match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => environment,
            // It has no memory any more. (Kernels before 6.14 or so: it is empty.)
            Err(error) if is_gone(&error) => Vec::new(),
            // Whom we may not look into is none of ours, as long as that lasts.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Whose::Unclear);
            }
            Err(error) => return Err(error),
        };
        let Some(after) = Stat::of_living(pid, before.start_ticks)? else { return Ok(Whose::Gone) };
        if after.environment.is_some() && after.environment == before.environment {
            return Ok(operation_in(&environment).map_or(Whose::Nobodys, Whose::Of));
        }
        before = after;
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(Whose::Unclear)
}

fn operation_in(environment: &[u8]) -> Option<Arc<str>> {
    let mut variables = environment.split(|&byte| byte == 0);
    let operation = variables.find_map(|variable| variable.strip_prefix(b"DEPLOYD_OPERATION="))?;
    Some(String::from_utf8_lossy(operation).into())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

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

    /// No moment of `execve` hides whose process it is.
    #[test]
    fn who_executes_one_program_after_another_is_always_found() {
        let script = "test $0 = 0 && exit; exec /bin/sh -c \"$1\" $(($0 - 1)) \"$1\"";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "1000", script])
            .env("DEPLOYD_OPERATION", "ab.7.0.1")
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let mut found = 0;
        while child.try_wait().unwrap().is_none() {
            if let Some(seen) = scan(&[]).unwrap().iter().find(|seen| seen.pid == pid) {
                assert_eq!(seen.operation.as_deref(), Some("ab.7.0.1"));
                found += 1;
            }
        }
        assert!(found > 0);
    }

    /// An environment is found when it appears; who is known for good is not looked into again, who only has the same
    /// pid is.
    #[test]
    fn who_executes_a_program_anew_is_looked_at_anew() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "echo; read line; DEPLOYD_OPERATION=ab.7.0.1 exec /bin/sh -c 'echo; read line'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let find = |seen: &[Seen]| seen.iter().find(|seen| seen.pid == pid).unwrap().clone();
        let operation = |before: &Seen| find(&scan(std::slice::from_ref(before)).unwrap()).operation;
        said.next().unwrap().unwrap();
        // Young as it is, it may be about to execute what it was started for.
        let first = Seen { is_settled: false, ..find(&scan(&[]).unwrap()) };
        assert_eq!(first.operation, None);
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        said.next().unwrap().unwrap();
        assert_eq!(operation(&first).as_deref(), Some("ab.7.0.1"));
        let settled = Seen { is_settled: true, ..first };
        assert_eq!(operation(&settled), None);
        let another = Seen { inode: settled.inode + 1, ..settled };
        assert_eq!(operation(&another).as_deref(), Some("ab.7.0.1"));
        let found = find(&scan(&[]).unwrap());
        assert!(found.is_settled && found.inode == find(&scan(&[]).unwrap()).inode);
        drop(child.stdin.take());
        child.wait().unwrap();
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
