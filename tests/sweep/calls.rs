//! The system calls of a daemon, counted and cut (`kill_at_call.c`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The kinds that are counted, in the order of `kill_at_call.c`.
const KINDS: [&str; 12] = [
    "open",
    "write",
    "pwrite",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "mkdir",
    "symlink",
    "chmod",
    "sendmsg",
];

/// The counts of one daemon.
pub struct Calls {
    counts: PathBuf,
}

/// The library, built once. Building the project needs a C compiler, too.
fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sweep/kill_at_call.c");
        let library = format!("{}/kill_at_call-{}.so", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", &library, source, "-ldl"]);
        let built = cc.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    })
}

impl Calls {
    /// Counts in this file.
    pub const fn new(counts: PathBuf) -> Self {
        Self { counts }
    }

    /// The environment of a daemon whose calls to the disk are counted; this one fails, with that number
    /// of an error.
    pub fn refusing(&self, call: Option<(&str, u64, i32)>) -> Vec<(&'static str, String)> {
        let mut environment = self.begin(None);
        environment.push(("CALLS_DISK", "1".to_string()));
        environment.extend(call.map(|(kind, n, errno)| ("CALLS_KILL", format!("{kind}:{n}:{errno}"))));
        environment
    }

    /// The environment of a daemon whose calls are counted from now on; it is killed before this one.
    pub fn begin(&self, kill: Option<(&str, u64)>) -> Vec<(&'static str, String)> {
        fs::write(&self.counts, [0; 8 * KINDS.len()]).unwrap();
        let mut environment =
            vec![("LD_PRELOAD", library().to_string()), ("CALLS_FILE", self.counts.display().to_string())];
        if let Some((kind, n)) = kill {
            environment.push(("CALLS_KILL", format!("{kind}:{n}")));
        }
        environment
    }

    /// How many there were of each kind.
    pub fn counted(&self) -> Vec<(&'static str, u64)> {
        let counts = fs::read(&self.counts).unwrap();
        let count = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
        KINDS.into_iter().zip(counts.chunks_exact(8).map(count)).collect()
    }
}
