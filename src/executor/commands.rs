//! What builds and hooks are called, and how an end is made of those that nobody waits for any more.
//!
//! They outlive the daemon ([`crate::spawn::command::Commands`]): a task that was interrupted joins them when it is
//! resumed. One that is over has no use for them.

use std::fmt::Display;

use super::board::Note;
use super::tasklog::TaskLog;
use super::{Executor, Subject};
use crate::plan::Way;
use crate::spawn::command::Identity;
use crate::spawn::output::{Hear, last_line};
use crate::task::deployment::Hook;
use crate::task::{Task, TaskId};

/// The build of a deployment, beside its hooks.
pub const BUILD: &str = "build";

/// Hears a build or a hook: into the task's log, and onto the board.
pub(super) struct Hearing {
    pub log: TaskLog,
    pub note: Note,
}

impl Hear for Hearing {
    fn hear(&self, lines: &str) {
        self.log.lines(lines);
        if let Some(line) = last_line(lines) {
            self.note.line(line);
        }
    }
}

/// How much of an identity stands in a name.
const SHORT: usize = 8;

fn short(instance: &str) -> &str {
    instance.get(..SHORT).unwrap_or(instance)
}

impl Executor {
    /// By what a build or hook of a deployment is known.
    pub(super) fn identity(&self, subject: &Subject, what: &str) -> Identity {
        let Subject { task, nonce, deployment, service, .. } = subject;
        // Another daemon of this host may have a task of this number, and its units are in the same systemd.
        let whose = nonce.map_or_else(String::new, |_| format!("-{}", short(&self.instance)));
        Identity {
            name: format!("deployd-{what}-{task}-{deployment}-{}{whose}", service.id),
            service: service.name.clone(),
            operation: self.operation_id(subject, what),
        }
    }

    /// The id of an operation of a deployment, or of a command of it.
    pub fn operation_id(&self, subject: &Subject, what: impl Display) -> String {
        let Subject { task, nonce, deployment, .. } = *subject;
        let instance = if nonce.is_some() { &self.instance } else { &self.former_instance };
        Task::operation_id(instance, task, nonce, deployment, what)
    }

    /// Whether a deployment has a build, or hooks that outlive the daemon: something to be forgotten.
    pub fn has_commands(&self, subject: &Subject) -> bool {
        let hooks = &subject.service.hooks;
        let has_hooks = hooks.pre_deploy.is_some() || hooks.post_deploy.is_some();
        matches!(subject.way, Way::Compile { .. }) || (has_hooks && self.commands.outlive())
    }

    /// Ends the build and the hooks of a deployment that [has](Self::has_commands) any, if they still run, and
    /// forgets them.
    pub async fn end_commands(&self, subject: &Subject) {
        self.builder.discard(&self.identity(subject, BUILD).name).await;
        for hook in [Hook::PreDeploy, Hook::PostDeploy] {
            self.end_command(&self.identity(subject, hook.name()).name).await;
        }
    }

    /// The same for all deployments of all tasks for whose commands `is_over`.
    pub async fn end_commands_of(&self, is_over: impl Fn(TaskId, usize) -> bool) {
        for name in self.commands.begun() {
            let mut words = name.split('-').skip(1);
            let what = words.next();
            let task = words.next().and_then(|task| task.parse().ok()).map(TaskId);
            let deployment = words.next().and_then(|deployment| deployment.parse().ok());
            match (what, task.zip(deployment)) {
                (_, Some((task, deployment))) if !is_over(task, deployment) => {}
                (Some(BUILD), _) => self.builder.discard(&name).await,
                _ => self.end_command(&name).await,
            }
        }
    }

    /// Says in the log which of them still run although nobody waits for them.
    pub async fn tell_commands(&self) {
        for name in self.commands.begun() {
            let mut words = name.split('-').skip(1);
            let (Some(what), Some(task)) = (words.next(), words.next()) else { continue };
            if self.commands.is_running(&name).await {
                tracing::warn!(
                    name,
                    "{what} of task {task} still runs since before deployd was started: resume the task to join it, \
                     or stop or delete the task to end it"
                );
            }
        }
    }

    async fn end_command(&self, name: &str) {
        if let Err(error) = self.commands.abandon(name).await {
            tracing::warn!(name, %error, "cannot end a command that nobody waits for");
        }
    }
}
