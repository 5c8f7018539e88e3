//! Clients that are somebody else, and that send what no decent client sends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::harness::PATIENCE;

/// How often what is repeated is repeated: `base`, times `DEPLOYD_TEST_SCALE`.
pub fn scaled(base: usize) -> usize {
    let scale = std::env::var("DEPLOYD_TEST_SCALE").ok().map(|scale| scale.parse::<usize>().unwrap());
    base * scale.unwrap_or(1)
}

/// Whom the kernel takes a client for.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
}

/// Nobody in particular.
pub const STRANGER: Identity = Identity { uid: 65534, gid: 65534, groups: &[] };

impl Identity {
    /// Does something as this user: in a thread of its own, for which alone the kernel changes who it is.
    #[allow(unsafe_code, reason = "libc changes the identity of all threads, the system calls that of one")]
    pub fn does<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        use nix::libc::{SYS_setgroups, SYS_setresgid, SYS_setresuid, syscall};
        let become_it = || {
            // SAFETY: numbers, and a slice that lives longer than the call.
            unsafe {
                assert_eq!(syscall(SYS_setgroups, self.groups.len(), self.groups.as_ptr()), 0);
                assert_eq!(syscall(SYS_setresgid, self.gid, self.gid, self.gid), 0);
                assert_eq!(syscall(SYS_setresuid, self.uid, self.uid, self.uid), 0);
            }
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                become_it();
                work()
            });
            thread.join().unwrap()
        })
    }
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Whether it is an error in the one form that errors have.
    pub fn is_problem(&self) -> bool {
        self.head.contains("application/problem+json")
            && serde_json::from_str::<serde_json::Value>(&self.body)
                .is_ok_and(|problem| problem["status"] == self.status && problem["code"].is_string())
    }
}

/// Sends these bytes and reads to the end; `None` when the connection is closed without an answer.
pub fn raw(socket: &Path, request: &[u8]) -> Option<Answer> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be answered, and closed, before all of it is sent.
    stream.write_all(request).ok();
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    assert!(ended.is_ok() || !bytes.is_empty() || is_reset(&ended), "no answer: {ended:?}");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_string() })
}

fn is_reset<T>(ended: &std::io::Result<T>) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    ended.as_ref().is_err_and(|error| matches!(error.kind(), ConnectionReset | BrokenPipe))
}

/// A decent request.
pub fn ask(socket: &Path, method: &str, path: &str, headers: &str, body: &str) -> Option<Answer> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    raw(socket, request.as_bytes())
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub memory: u64,
    /// Descriptors.
    pub descriptors: usize,
}

impl Footprint {
    /// Of a process that lives.
    pub fn of(pid: i32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory = line.trim().split(' ').next().unwrap().parse().unwrap();
        // Its watch over quiet logs comes and goes.
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        Self { memory, descriptors: open.filter(|path| !path.ends_with("anon_inode:inotify")).count() }
    }
}

/// Waits until a process holds no more descriptors than this.
pub fn until_descriptors(pid: i32, at_most: usize) {
    let begun = std::time::Instant::now();
    while Footprint::of(pid).descriptors > at_most {
        assert!(begun.elapsed() < PATIENCE, "{:?}, not {at_most}", Footprint::of(pid));
        std::thread::yield_now();
    }
}

/// A figure for whoever runs the tests with `--nocapture`.
#[expect(clippy::print_stderr, reason = "whoever runs the tests wants to see it")]
pub fn figure(text: &str) {
    eprintln!("figure: {text}");
}

/// Lets this process, and the daemons that it starts, open as many files as it may; false when that is
/// not enough for a crowd.
pub fn many_descriptors() -> bool {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    hard >= 10_000
}
