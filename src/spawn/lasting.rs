//! Commands as plain processes that outlive the daemon: builds and hooks where no systemd runs.
//!
//! Each has a parent of its own, the shim ([`super::shim`]), and notes ([`super::notes`]). The next daemon finds its
//! shim and waits for it, or finds how it ended. What has lost its shim is ended before it is begun again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::command::{Command, Commands, Ended, Identity, Processes};
use super::notes::{self, End, Notes};
use super::output::{Hear, Output, say};
use super::server::{EXEC, Request, encode};
use super::shim::{LIMIT, Order, PATIENCE};
use super::tree::{self, Run};
use super::{Launch, Marker, SpawnError, Spec, proc};
use crate::blocking;
use crate::crashpoint::point;

/// Beyond what a shim takes to end everything itself.
const MARGIN: Duration = Duration::from_secs(5);

/// Runs commands that outlive the daemon as plain processes.
pub struct Lasting {
    launch: Arc<dyn Launch>,
    passing: Processes,
    /// This program: it is its own shim.
    binary: String,
    directory: PathBuf,
    boot_id: String,
    /// One at a time for each command.
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What there is of a command.
enum Standing {
    /// Its shim, and so maybe itself.
    Runs(Run),
    /// Its end is noted. Something that it has started may still run if it lost its shim then.
    Over,
    /// Nothing that can be joined.
    Nothing,
}

impl Lasting {
    /// Commands that are started by `launch` and `binary`, and whose notes lie in `directory`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(launch: Arc<dyn Launch>, binary: &Path, directory: PathBuf) -> io::Result<Self> {
        notes::prepare(&directory)?;
        Ok(Self {
            passing: Processes(launch.clone()),
            launch,
            binary: binary.to_string_lossy().into_owned(),
            directory,
            boot_id: tree::boot_id()?,
            under_way: Mutex::default(),
        })
    }

    fn notes(&self, identity: &Identity) -> Notes {
        Notes::new(&self.directory, &identity.name, &identity.operation)
    }

    fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, lock| Arc::strong_count(lock) > 1);
        under_way.entry(name.to_string()).or_default().clone()
    }

    /// The shim of a command, if it lives, and whether it is ours.
    fn living_shim(&self, notes: &Notes) -> io::Result<Option<(Run, bool)>> {
        let Some(run) = notes.process("run").filter(|run| run.boot_id == self.boot_id) else {
            return Ok(None);
        };
        if !proc::is_alive(run.pid, run.start_ticks)? {
            return Ok(None);
        }
        let is_ours = works_in(run.pid, &self.directory)?;
        Ok(Some((run, is_ours)))
    }

    /// The shim of a command, if it lives and is ours.
    fn shim(&self, notes: &Notes) -> io::Result<Option<Run>> {
        Ok(self.living_shim(notes)?.filter(|shim| shim.1).map(|shim| shim.0))
    }

    fn standing(&self, identity: &Identity) -> io::Result<Standing> {
        let notes = self.notes(identity);
        if let Some(run) = self.shim(&notes)?.filter(|run| run.operation == identity.operation) {
            return Ok(Standing::Runs(run));
        }
        // Not before: it may have been noted between these two looks.
        Ok(if notes.end().is_some() { Standing::Over } else { Standing::Nothing })
    }

    /// Ends whatever runs of a command, and waits until it is gone.
    async fn end(&self, notes: &Notes) -> io::Result<()> {
        if let Some((shim, is_ours)) = self.living_shim(notes)? {
            if !is_ours {
                // These notes are a copy of another daemon's.
                return Ok(());
            }
            // It ends all that it is the parent of.
            tree::signal(shim.pid, shim.start_ticks, rustix::process::Signal::TERM)?;
            let gone = tree::gone(shim.pid, shim.start_ticks);
            if tokio::time::timeout(PATIENCE + LIMIT + MARGIN, gone).await.is_err() {
                tree::signal(shim.pid, shim.start_ticks, rustix::process::Signal::KILL)?;
                tree::gone(shim.pid, shim.start_ticks).await?;
            }
        }
        // The shim removes these when nothing is left. If it was killed, something may be.
        let left = ["main", "run"].into_iter().filter_map(|file| notes.process(file));
        if let Some(left) = left.into_iter().find(|run| run.boot_id == self.boot_id) {
            tree::end(left.pid, left.start_ticks, &left.operation, Signal::SIGTERM, PATIENCE).await?;
        }
        Ok(())
    }

    /// Starts the shim of a command.
    async fn begin(&self, command: Command, notes: &Notes, identity: &Identity) -> Result<(), SpawnError> {
        let program = command.argv.first().cloned().unwrap_or_default();
        let failed = |source| SpawnError::Prepare { program, what: "write its notes".into(), source };
        let mark = |file: &str| Marker {
            path: notes.path(file).to_string_lossy().into_owned(),
            operation: identity.operation.clone(),
            release: None,
        };
        let order = Order {
            request: Request {
                id: 0,
                argv: command.argv,
                environment: command.environment.into_iter().collect(),
                directory: command.directory.to_string_lossy().into_owned(),
                user: command.user,
                open_files: command.limits.open_files,
                marker: Some(mark("main")),
            },
            operation: identity.operation.clone(),
            timeout: u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX),
            who: command.who.into(),
            output: command.output,
        };
        let begun = {
            let notes = notes.clone();
            blocking::run(move || notes.begin(None).and_then(|()| written(&order))).await
        };
        let spec = Spec {
            argv: vec![self.binary.clone(), "shim".into(), identity.name.clone()],
            environment: std::collections::BTreeMap::new(),
            directory: self.directory.clone(),
            user: None,
            output: begun.map_err(failed)?.into(),
            open_files: None,
            marker: Some(mark("run")),
        };
        point("before a command is begun");
        let launched = self.launch.launch(spec).await;
        point("after a command was begun");
        match launched {
            Ok(_) => Ok(()),
            Err(error) => {
                if !error.is_in_doubt() {
                    notes.forget();
                }
                Err(error)
            }
        }
    }

    /// The end of a command whose shim is gone.
    async fn over(&self, notes: &Notes, program: &str) -> Result<Ended, SpawnError> {
        // If it was killed, not everything may be gone.
        self.end(notes).await.map_err(SpawnError::Spawner)?;
        let Some(end) = notes.end() else {
            return Err(SpawnError::Lost { program: program.into() });
        };
        let program = program.to_string();
        if let Some((step, errno)) = end.refused {
            // It was never executed.
            notes.forget();
            let source = io::Error::from_raw_os_error(errno);
            return Err(if step == EXEC {
                SpawnError::Exec { program, source }
            } else {
                SpawnError::Prepare { program, what: step, source }
            });
        }
        notes.tidy();
        Ok(if end.result == End::TIMEOUT { Ended::TimedOut } else { Ended::Exited(end.status) })
    }
}

#[async_trait]
impl Commands for Lasting {
    async fn run(
        &self,
        mut command: Command,
        cancel: &CancellationToken,
        hear: Arc<dyn Hear>,
    ) -> Result<Ended, SpawnError> {
        let Some(identity) = command.identity.clone() else {
            return self.passing.run(command, cancel, hear).await;
        };
        let lock = self.lock(&identity.name);
        let _only = tokio::select! {
            only = lock.lock() => only,
            () = cancel.cancelled() => return Ok(Ended::Cancelled),
        };
        let (notes, limit) = (self.notes(&identity), command.output);
        let program = command.argv.first().cloned().unwrap_or_default();
        let tell_over = command.over.take();
        let look = || self.standing(&identity).map_err(SpawnError::Spawner);
        let mut standing = look()?;
        if matches!(standing, Standing::Nothing) {
            if notes.process("run").is_some() {
                // Whatever is left of it ends before it is begun again.
                self.end(&notes).await.map_err(SpawnError::Spawner)?;
                let again = "(it had begun before, and how it ended is not known: running it again)";
                say(&hear, command.who, again).await;
            }
            self.begin(command, &notes, &identity).await?;
            standing = look()?;
        }
        let over = async {
            if let Standing::Runs(shim) = &standing {
                tree::gone(shim.pid, shim.start_ticks).await?;
            }
            if let Some(over) = tell_over {
                over.send(()).ok();
            }
            Ok(())
        };
        let mut output = Output::of(&notes, limit, hear).await;
        match output.follow(over, cancel).await {
            None => Ok(Ended::Cancelled),
            Some(gone) => {
                gone.map_err(SpawnError::Spawner)?;
                self.over(&notes, &program).await
            }
        }
    }

    async fn is_begun(&self, identity: &Identity) -> Result<bool, SpawnError> {
        let standing = self.standing(identity).map_err(SpawnError::Spawner)?;
        Ok(!matches!(standing, Standing::Nothing))
    }

    async fn is_running(&self, name: &str) -> bool {
        matches!(self.shim(&Notes::new(&self.directory, name, "")), Ok(Some(_)))
    }

    fn outlive(&self) -> bool {
        true
    }

    async fn abandon(&self, name: &str) -> Result<(), SpawnError> {
        let notes = Notes::new(&self.directory, name, "");
        if !notes.exist() {
            return Ok(());
        }
        let lock = self.lock(name);
        let _only = lock.lock().await;
        self.end(&notes).await.map_err(SpawnError::Spawner)?;
        point("before a command is forgotten");
        notes.forget();
        point("after a command was forgotten");
        Ok(())
    }

    fn begun(&self) -> Vec<String> {
        notes::names(&self.directory)
    }
}

/// Whether a process works in this directory, wherever that was moved; a copy of it is another one.
fn works_in(pid: i32, directory: &Path) -> io::Result<bool> {
    let ours = std::fs::metadata(directory)?;
    match std::fs::metadata(format!("/proc/{pid}/cwd")) {
        Ok(its) => Ok((its.dev(), its.ino()) == (ours.dev(), ours.ino())),
        Err(error) if proc::is_gone(&error) => Ok(false),
        // We may not look, but pid, start time and boot are right.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error),
    }
}

/// A file without a name that holds an order.
fn written(order: &Order) -> io::Result<File> {
    let file = rustix::fs::memfd_create("order", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&encode(order)?)?;
    Ok(file)
}
