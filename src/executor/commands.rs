//! What builds and hooks are called, and how an end is made of those that nobody waits for any more.
//!
//! Where systemd runs they outlive the daemon ([`crate::spawn::command::Commands`]): a task that was
//! interrupted joins them when it is resumed. One that is over has no use for them.

use super::{Executor, Subject};
use crate::plan::Way;
use crate::spawn::command::Identity;
use crate::task::TaskId;
use crate::task::deployment::Hook;

/// The build of a deployment, beside its hooks.
pub const BUILD: &str = "build";

impl Executor {
    /// By what a build or hook of a deployment is known.
    pub(super) fn identity(&self, subject: &Subject, what: &str) -> Identity {
        let Subject { task, deployment, service, .. } = subject;
        Identity {
            name: format!("deployd-{what}-{task}-{deployment}-{}", service.id),
            service: service.name.clone(),
            operation: format!("{}.{task}.{deployment}.{what}", self.instance),
        }
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

    /// The same for all tasks that are not among these, or for whose commands `is_over`.
    pub async fn end_commands_of(&self, is_over: impl Fn(TaskId) -> bool) {
        for name in self.commands.begun() {
            let mut words = name.split('-').skip(1);
            let (what, task) = (words.next(), words.next().and_then(|task| task.parse().ok()));
            match (what, task.map(TaskId)) {
                (_, Some(task)) if !is_over(task) => {}
                (Some(BUILD), _) => self.builder.discard(&name).await,
                _ => self.end_command(&name).await,
            }
        }
    }

    async fn end_command(&self, name: &str) {
        if let Err(error) = self.commands.abandon(name).await {
            tracing::warn!(name, %error, "cannot end a command that nobody waits for");
        }
    }
}
