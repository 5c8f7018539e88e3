//! A program that answers whoever holds the other end of a stream: the server's side of git.
//!
//! It may run as another user than the daemon, so that files which that user could plant give it nothing that the
//! user does not have. No other daemon can join it: it ends with its stream, and when nobody waits for it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::SpawnError;

/// Maximum number of bytes of standard error that are kept; the rest is read and dropped.
const MAX_WORDS: u64 = 64 << 10;

/// What to run.
#[derive(Debug)]
pub struct Dialogue {
    /// Program and arguments; a program without `/` is looked up in the `PATH` of `environment`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// As whom; `None` is the daemon's own user.
    pub account: Option<Account>,
    /// Its standard input and output.
    pub stream: UnixStream,
    /// The only directory in which it may write, where that can be enforced.
    pub writes: Option<PathBuf>,
    /// The bits that new files do not get.
    pub umask: u32,
    /// After this time it is ended.
    pub timeout: Duration,
}

/// A user of this host, without supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whatever can run dialogues.
#[async_trait]
pub trait Dialogues: Send + Sync + 'static {
    /// Runs a dialogue to its end; returns what it wrote to standard error. Dropping the future ends the program.
    ///
    /// # Errors
    /// When the program cannot be started, or takes too long.
    async fn run(&self, dialogue: Dialogue) -> Result<String, SpawnError>;
}

/// A number that no other dialogue of this daemon has.
pub fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Dialogues as child processes of the daemon.
pub struct Children;

#[async_trait]
impl Dialogues for Children {
    async fn run(&self, dialogue: Dialogue) -> Result<String, SpawnError> {
        let program = dialogue.argv.first().cloned().unwrap_or_default();
        let prepare = |source| SpawnError::Prepare {
            program: program.clone(),
            what: "pass on its stream".into(),
            source,
        };
        let output = dialogue.stream.try_clone().map_err(prepare)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "umask \"$0\" && exec \"$@\"", &format!("{:03o}", dialogue.umask)])
            .args(&dialogue.argv)
            .env_clear()
            .envs(&dialogue.environment)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(dialogue.stream)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(account) = dialogue.account {
            // This gives up the supplementary groups, too.
            command.uid(account.uid).gid(account.gid);
        }
        let spawned = command.spawn();
        // Our copies of the stream would keep the other end from noticing the end.
        drop(command);
        let mut group =
            Group(spawned.map_err(|source| SpawnError::Exec { program: program.clone(), source })?);
        let stderr = group.0.stderr.take();
        let work = async {
            let said = match stderr {
                Some(stderr) => words(stderr).await,
                None => String::new(),
            };
            group.0.wait().await.ok();
            said
        };
        tokio::time::timeout(dialogue.timeout, work).await.map_err(|_| too_long(&program, dialogue.timeout))
    }
}

/// The error of a dialogue that took too long.
pub fn too_long(program: &str, timeout: Duration) -> SpawnError {
    let source = std::io::Error::other(format!("it took longer than {} s", timeout.as_secs()));
    SpawnError::Prepare { program: program.into(), what: "answer in time".into(), source }
}

/// All that is written to a stream until its end, of which the beginning is kept.
pub async fn words(mut stream: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    (&mut stream).take(MAX_WORDS).read_to_end(&mut said).await.ok();
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
    String::from_utf8_lossy(&said).into_owned()
}

/// A child that leads a process group; dropping it ends the group.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A child without an id was waited for: the number may belong to another process by now.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}
