//! Hooks: commands of the catalog around a deployment.
//!
//! They are part of the host's administration: what they may touch is up to their user, network included.

use std::time::Duration;

use tokio::sync::oneshot;

use super::board::Stage;
use super::{Executor, Halt, Subject, environment, failure};
use crate::catalog::Limits;
use crate::spawn::command::{Command, Ended, Sandbox};
use crate::task::Failure;
use crate::task::deployment::Hook;

/// A hook that takes longer is ended.
const TIMEOUT: Duration = Duration::from_mins(30);
/// How many lines of output a failure shows.
const LOG_LINES: usize = 20;

impl Executor {
    /// Runs a hook, as the service's user, in the new release (or the one of its first container). `over` is told as
    /// soon as its process has ended, where that is known before what it has left is cleared away.
    pub async fn run_hook(
        &self,
        subject: &Subject,
        hook: Hook,
        release: Option<&str>,
        over: oneshot::Sender<()>,
    ) -> Result<(), Halt> {
        let service = &subject.service;
        let (Some(argv), Some(run_as)) = (command_of(subject, hook), service.run.as_ref()) else {
            return Ok(());
        };
        let release = match release {
            Some(release) => Some(release.to_string()),
            None => match service.containers.first() {
                Some(first) => self.current(&service.name, &first.name)?,
                None => None,
            },
        };
        let identity = self.identity(subject, hook.name());
        let ours = environment::deployd(subject, None, release.as_deref(), &identity.operation);
        let environment = environment::whole(Some(run_as), None, ours)?;
        let directory_of = |release: String| self.releases.release_dir(&service.name, &release);
        let directory = release.map_or_else(|| "/".into(), directory_of);
        let command = Command {
            argv: environment::argv(argv, &environment)?,
            environment,
            directory,
            user: run_as.user.clone(),
            timeout: TIMEOUT,
            limits: Limits::default(),
            sandbox: Sandbox::Open,
            identity: Some(identity),
            over: Some(over),
        };
        let log = self.logs.open(subject.task, service.id);
        let note = self.board.pin(subject.task, subject.deployment, Stage::Hook);
        let mut last = Vec::new();
        let mut on_line = |line: String| {
            log.line(hook.name(), &line);
            note.line(&line);
            if last.len() == LOG_LINES {
                last.remove(0);
            }
            last.push(line);
        };
        let ended = self.commands.run(command, &subject.cancel, &mut on_line).await;
        let message = match ended {
            Ok(Ended::Exited(status)) if status.is_success() => return Ok(()),
            Ok(Ended::Cancelled) => return Err(Halt::Cut),
            Ok(Ended::Exited(status)) => {
                format!("hook {} failed: {status}; its last lines are in the report", hook.name())
            }
            Ok(Ended::TimedOut) => {
                format!(
                    "hook {} was ended: it took longer than {} minutes; see in `deployctl logs` where it hangs",
                    hook.name(),
                    TIMEOUT.as_secs() / 60
                )
            }
            Err(error) if error.is_in_doubt() => {
                return Err(Halt::Lost(format!("hook {}: {error}", hook.name())));
            }
            Err(error) => return Err(failure("hookFailed", format!("hook {}: {error}", hook.name())).into()),
        };
        Err(Failure { code: "hookFailed".into(), message, log: last }.into())
    }
}

fn command_of(subject: &Subject, hook: Hook) -> Option<&[String]> {
    let hooks = &subject.service.hooks;
    match hook {
        Hook::PreDeploy => hooks.pre_deploy.as_deref(),
        Hook::PostDeploy => hooks.post_deploy.as_deref(),
    }
}
