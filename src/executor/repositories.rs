//! How users of this host reach the built-in repositories: by the daemon's socket, also when they write a path.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Executor;
use crate::artifact::git::publish;
use crate::blocking;
use crate::spawn::command::{Command, Ended, Sandbox};
use crate::spawn::output::LastLines;

/// Maximum number of bytes of what the command prints that are looked at.
const MAX_PRINTED: u64 = 64 << 10;
/// How long git may take to change its configuration.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Whether paths of the repositories lead to this daemon, for every user of the host.
#[derive(Debug)]
pub struct Published {
    /// The daemon's program; `None`: this is not the daemon of the host.
    program: Option<PathBuf>,
    done: AtomicBool,
}

impl Published {
    /// For the daemon of the host, if this is it.
    pub fn new(is_hosts: bool) -> Self {
        let program = std::env::current_exe().ok().filter(|_| is_hosts);
        Self { program, done: AtomicBool::new(false) }
    }

    /// Whether they do.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

impl Executor {
    /// Changes the host's configuration of git, so that paths of the repositories lead to this daemon. Where that
    /// fails, users are told another command.
    pub async fn publish_repositories(&self) {
        let Some(program) = self.published.program.as_ref().filter(|_| !self.published.is_done()) else {
            return;
        };
        let directory = self.git.repositories().directory();
        let looked_at = directory.to_path_buf();
        if blocking::run(move || publish::is_published(&looked_at)).await {
            self.published.done.store(true, Ordering::Relaxed);
            return;
        }
        let argv = [program.as_path(), "git-paths".as_ref(), directory];
        let command = Command {
            who: "deployd",
            argv: argv.map(|part| part.to_string_lossy().into_owned()).into(),
            environment: [("PATH".to_string(), "/usr/local/bin:/usr/bin:/bin".to_string())].into(),
            directory: "/".into(),
            user: None,
            timeout: TIMEOUT,
            limits: crate::catalog::Limits::default(),
            sandbox: Sandbox::Open,
            output: MAX_PRINTED,
            identity: None,
            over: None,
        };
        let last = LastLines::new(1, None);
        let why = match self.commands.run(command, &CancellationToken::new(), last.clone()).await {
            Ok(Ended::Exited(status)) if status.is_success() => {
                self.published.done.store(true, Ordering::Relaxed);
                return;
            }
            Ok(_) => last.get().pop().unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            why,
            "cannot change the host's configuration of git: operators push to git://deployd/NAME.git"
        );
    }
}
