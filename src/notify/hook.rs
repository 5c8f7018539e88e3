//! The command that is told of each change of a task's state.
//!
//! It reads the journal as an event stream does: no task waits for it, what it has not been told yet waits in
//! the store, and it hears the changes in their order, one after the other. It is told at most once: what
//! happens while a daemon ends or dies may be lost to it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::convert::Names;
use crate::store::{Store, StoreError};

/// A command that takes longer is killed.
const LIMIT: Duration = Duration::from_secs(10);
/// How many entries are read at once.
const CHUNK: usize = 256;

/// Whoever runs the command.
pub struct Hook {
    end: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Hook {
    /// Tells this command (none: nobody) of what happens from now on.
    pub fn start(command: &[String], store: &Store, host: &tokio::runtime::Handle) -> Self {
        let end = CancellationToken::new();
        let (command, store, ends) = (command.to_vec(), store.clone(), end.clone());
        let running = (!command.is_empty()).then(|| {
            host.spawn(async move {
                if let Err(error) = follow(&command, &store, &ends).await {
                    tracing::error!(%error, "cannot read the journal for the notify command");
                }
            })
        });
        Self { end, running }
    }

    /// What has happened is still told, for as long as one command may take.
    pub async fn finish(self) {
        self.end.cancel();
        if let Some(running) = self.running {
            tokio::time::timeout(LIMIT, running).await.ok();
        }
    }
}

async fn follow(command: &[String], store: &Store, end: &CancellationToken) -> Result<(), StoreError> {
    let (mut names, mut durable) = (Names::default(), store.watch());
    let mut after = *durable.borrow_and_update();
    loop {
        for text in changes(store, &mut names, &mut after)? {
            tell(command, text).await;
        }
        if after < *durable.borrow_and_update() {
            continue;
        }
        tokio::select! {
            changed = durable.changed() => if changed.is_err() { return Ok(()) },
            () = end.cancelled() => return Ok(()),
        }
    }
}

/// The changes of states in the next entries, as JSON.
fn changes(store: &Store, names: &mut Names, after: &mut u64) -> Result<Vec<Vec<u8>>, StoreError> {
    let snapshot = store.snapshot()?;
    let mut found = Vec::new();
    for entry in snapshot.feed(*after, None, CHUNK)? {
        *after = entry.seq;
        let event = names.event(&entry, &snapshot)?;
        if event.kind.starts_with("task.") && event.details.contains_key("state") {
            found.extend(serde_json::to_vec(&event));
        }
    }
    Ok(found)
}

/// Whatever comes of it, nobody but the log hears of it.
async fn tell(command: &[String], text: Vec<u8>) {
    let failed = match tokio::time::timeout(LIMIT, run(command, text)).await {
        Ok(Ok(status)) if status.success() => return,
        Ok(Ok(status)) => format!("it ended with {status}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {} s, and was killed", LIMIT.as_secs()),
    };
    tracing::warn!(command = command.first(), "the notify command failed: {failed}");
}

async fn run(command: &[String], text: Vec<u8>) -> std::io::Result<std::process::ExitStatus> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(std::process::ExitStatus::default());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read is none that has failed.
        stdin.write_all(&text).await.ok();
    }
    child.wait().await
}
