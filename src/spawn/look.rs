//! A look at all processes, by which those are found that a container has left behind.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::proc::{Stat, is_gone, ticks, ticks_per_second};

/// So often it is looked whether a process has done with `execve`: for a fifth of a second at least.
const EXECUTING: u32 = 1_000;

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

/// All processes. Whoever looks for somebody does not go through them all: thousands of containers that end at once
/// share a look.
#[derive(Debug)]
pub struct Look {
    /// By their sessions.
    processes: Vec<Seen>,
    /// Where those with this operation are.
    operations: HashMap<Arc<str>, Vec<usize>>,
}

impl Look {
    fn of(mut processes: Vec<Seen>) -> Self {
        processes.sort_unstable_by_key(|process| process.session);
        let mut operations: HashMap<_, Vec<_>> = HashMap::new();
        for (place, process) in processes.iter().enumerate() {
            if let Some(operation) = &process.operation {
                operations.entry(operation.clone()).or_default().push(place);
            }
        }
        Self { processes, operations }
    }

    /// The processes of this session.
    pub fn in_session(&self, id: i32) -> &[Seen] {
        let begin = self.processes.partition_point(|process| process.session < id);
        let count = self.processes[begin..].partition_point(|process| process.session == id);
        &self.processes[begin..begin + count]
    }

    /// The processes that carry this operation, in whatever session.
    pub fn of_operation(&self, operation: &str) -> impl Iterator<Item = &Seen> {
        self.operations.get(operation).into_iter().flatten().map(|&place| &self.processes[place])
    }
}

/// All processes, as they were at `since` or later; some of them may have ended by then.
///
/// Many callers at once share one look at `/proc`.
///
/// # Errors
/// When they can't be looked at: who is not seen may be there all the same.
pub async fn look(since: Instant) -> io::Result<Arc<Look>> {
    static LAST: tokio::sync::Mutex<Option<(Instant, Arc<Look>)>> = tokio::sync::Mutex::const_new(None);
    let mut last = LAST.lock().await;
    if let Some((begun, look)) = &*last
        && *begun >= since
    {
        return Ok(look.clone());
    }
    let begun = Instant::now();
    let before = last.take().map(|(_, before)| before);
    let scan = move || scan(before.as_ref().map_or(&[], |look| &look.processes)).map(Look::of);
    let look = Arc::new(tokio::task::spawn_blocking(scan).await.map_err(io::Error::other)??);
    *last = Some((begun, look.clone()));
    Ok(look)
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

    #[test]
    fn sessions_and_operations_are_found() {
        let seen = |pid, session, operation: Option<&str>| Seen {
            pid,
            start_ticks: 1,
            session,
            operation: operation.map(Arc::from),
            inode: 1,
            is_settled: true,
        };
        let look = Look::of(vec![
            seen(9, 9, Some("b")),
            seen(1, 0, None),
            seen(7, 7, Some("a")),
            seen(8, 7, None),
            seen(12, 12, Some("a")),
        ]);
        let pids = |found: Vec<&Seen>| {
            let mut pids: Vec<i32> = found.into_iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            pids
        };
        let in_session = |id| pids(look.in_session(id).iter().collect());
        assert_eq!(
            [0, 7, 8, 9, 12, 13].map(in_session),
            [vec![1], vec![7, 8], vec![], vec![9], vec![12], vec![]]
        );
        let of_operation = |operation| pids(look.of_operation(operation).collect());
        assert_eq!(["a", "b", "c"].map(of_operation), [vec![7, 12], vec![9], vec![]]);
    }
}
