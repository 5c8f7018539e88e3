//! A command that is run to its end: builds, hooks, health checks.
//!
//! Its output is taken line by line; when it is over, however it ended, nothing of its process
//! tree is left. As a process ([`Processes`]) it ends with the daemon that waits for it; as a transient
//! unit ([`crate::systemd::transient`]) it outlives that daemon, and the next one joins it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{ExitStatus, Launch, SpawnError, Spawned, Spec, proc, tree};
use crate::catalog::Limits;

/// A longer line is cut.
pub const MAX_LINE: usize = 16 << 10;
/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long output is still read after the command has ended, if a descendant keeps it open.
const GRACE: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment; `DEPLOYD_OPERATION` is what its descendants are found by.
    pub environment: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// As whom; `None` is the daemon's own user.
    pub user: Option<String>,
    /// Then the whole tree is ended.
    pub timeout: Duration,
    /// What it may use, where that can be limited.
    pub limits: Limits,
    /// What is taken from it, where that can be done.
    pub sandbox: Sandbox,
    /// By what another daemon knows it; `None`: it is of no use to another one.
    pub identity: Option<Identity>,
    /// Told when it has ended by itself, before what it has left running is ended.
    pub over: Option<oneshot::Sender<()>>,
}

/// What a command may touch beside what its user may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// Whatever its user may: it is part of the host's administration, or of a container's.
    Open,
    /// Nothing of the host but to read it; no privileges.
    Closed {
        /// It may write here only.
        directory: PathBuf,
        /// It may use the network.
        network: bool,
    },
}

/// What tells a command from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, which can be that of a unit: `deployd-build-7-0-111`.
    pub name: String,
    /// The service that it belongs to.
    pub service: String,
    /// The operation (`DEPLOYD_OPERATION`): another deployd may have the same name for something else.
    pub operation: String,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It took too long.
    TimedOut,
    /// The token was cancelled. A command that another daemon can join goes on: see [`Commands::abandon`].
    Cancelled,
}

/// Whatever can run commands to their end.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    /// Runs a command. One that an earlier daemon has begun is joined, and told as if it was begun now.
    ///
    /// # Errors
    /// When it can't be started.
    async fn run(
        &self,
        command: Command,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<Ended, SpawnError>;

    /// Whether this command was begun, by whatever daemon, and can be joined or has ended.
    async fn is_begun(&self, _: &Identity) -> Result<bool, SpawnError> {
        Ok(false)
    }

    /// Whether they outlive the daemon, and so have to be abandoned once nobody will ask for them again.
    fn outlive(&self) -> bool {
        false
    }

    /// Ends a command, with everything it has started, and forgets that it was begun.
    async fn abandon(&self, _name: &str) -> Result<(), SpawnError> {
        Ok(())
    }

    /// The names of the commands that were begun, and not forgotten yet.
    fn begun(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Commands as processes: cancelling one ends it, and so does the end of the daemon.
pub struct Processes(pub Arc<dyn Launch>);

#[async_trait]
impl Commands for Processes {
    async fn run(
        &self,
        command: Command,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<Ended, SpawnError> {
        run(&*self.0, command, cancel, on_line).await
    }
}

async fn run(
    launch: &dyn Launch,
    command: Command,
    cancel: &CancellationToken,
    on_line: &mut (dyn FnMut(String) + Send),
) -> Result<Ended, SpawnError> {
    let (sender, receiver) = pipe::pipe().map_err(SpawnError::Spawner)?;
    let operation = command.environment.get("DEPLOYD_OPERATION").cloned().unwrap_or_default();
    let spec = Spec {
        argv: command.argv,
        environment: command.environment,
        directory: command.directory,
        user: command.user,
        output: sender.into_blocking_fd().map_err(SpawnError::Spawner)?,
        open_files: command.limits.open_files,
        marker: None,
    };
    let mut process = launch.launch(spec).await?;
    let guard = KillOnDrop { pid: process.pid, start_ticks: process.start_ticks, armed: true };
    let mut output = BufReader::new(receiver);
    let ended = {
        let lines = read_lines(&mut output, on_line);
        tokio::pin!(lines);
        let exit = wait(&mut process);
        tokio::pin!(exit);
        let deadline = tokio::time::sleep(command.timeout);
        tokio::pin!(deadline);
        let mut reading = true;
        loop {
            tokio::select! {
                status = &mut exit => {
                    if let Some(over) = command.over {
                        over.send(()).ok();
                    }
                    if reading {
                        tokio::time::timeout(GRACE, &mut lines).await.ok();
                    }
                    break Ended::Exited(status);
                }
                () = &mut lines, if reading => reading = false,
                () = &mut deadline => break Ended::TimedOut,
                () = cancel.cancelled() => break Ended::Cancelled,
            }
        }
    };
    guard.disarm();
    let (pid, ticks) = (process.pid, process.start_ticks);
    if let Err(error) = tree::end(pid, ticks, &operation, Signal::SIGTERM, PATIENCE).await {
        tracing::warn!(pid, %error, "cannot end what a command left running");
    }
    Ok(ended)
}

/// The status of a process; unknown when the spawner died meanwhile, which counts as a failure.
async fn wait(process: &mut Spawned) -> ExitStatus {
    if let Ok(status) = (&mut process.exit).await {
        return status;
    }
    tree::gone(process.pid, process.start_ticks).await.ok();
    ExitStatus::Code(255)
}

async fn read_lines(output: &mut BufReader<pipe::Receiver>, on_line: &mut (dyn FnMut(String) + Send)) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = (&mut *output).take(MAX_LINE as u64).read_until(b'\n', &mut line).await;
        match limited {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                on_line(text.trim_end_matches(['\n', '\r']).to_string());
            }
        }
    }
}

/// A command whose future is dropped must not go on unseen.
struct KillOnDrop {
    pid: i32,
    start_ticks: u64,
    armed: bool,
}

impl KillOnDrop {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.armed && proc::is_alive(self.pid, self.start_ticks).unwrap_or(false) {
            nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid), Signal::SIGKILL).ok();
        }
    }
}
