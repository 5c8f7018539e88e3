//! Waiting for what is done to a container. Each runtime limits its own deeds; here a user can end the waiting.
//!
//! A deed that was begun is never cut in the middle: it goes on without its operation and keeps its container
//! until it is over, so that the next look at the container waits for it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::board::{Doing, WaitNote};
use super::container::reference;
use super::{Executor, Halt, Target};

/// Keeps others from doing anything to a container. A deed that goes on alone takes a share of it along.
pub type Only = Arc<OwnedMutexGuard<()>>;

/// Most deeds end sooner, and nobody needs to know what their units said meanwhile.
const QUICK: Duration = Duration::from_secs(1);

impl Executor {
    /// Waits until nothing else is being done to the container of `target`.
    pub(super) async fn only(&self, target: &Target) -> Result<Only, Halt> {
        let container = reference(&target.subject.service, &target.container.name);
        tokio::select! {
            biased;
            only = self.deeds.only(&container) => Ok(Arc::new(only)),
            () = target.subject.cancel.cancelled() => Err(Halt::Cut),
        }
    }

    /// Waits for a deed. When the task is cut meanwhile, the deed goes on alone.
    pub(super) async fn deed<W>(
        &self,
        target: &Target,
        doing: Doing,
        only: &Only,
        work: W,
    ) -> Result<W::Output, Halt>
    where
        W: Future<Output: Send> + Send + 'static,
    {
        let mut work = Box::pin(work);
        let note = self.wait_note(target, doing);
        if let Some(done) = self.attend(target, &note, &mut work).await {
            return Ok(done);
        }
        let only = only.clone();
        tokio::spawn(async move {
            work.await;
            drop(only);
        });
        Err(Halt::Left(left(target, doing, &note)))
    }

    /// Waits for something that changes nothing, and so can end with its task.
    pub(super) async fn attention<W: Future + Send>(
        &self,
        target: &Target,
        doing: Doing,
        work: W,
    ) -> Result<W::Output, Halt> {
        let note = self.wait_note(target, doing);
        self.attend(target, &note, work).await.ok_or(Halt::Cut)
    }

    fn wait_note(&self, target: &Target, doing: Doing) -> WaitNote<'_> {
        let (task, deployment) = (target.subject.task, target.subject.deployment);
        self.board.wait(task, deployment, &target.container.name, doing)
    }

    /// `None`: the task was cut.
    async fn attend<W: Future + Send>(
        &self,
        target: &Target,
        note: &WaitNote<'_>,
        work: W,
    ) -> Option<W::Output> {
        let container = reference(&target.subject.service, &target.container.name);
        let tell = |standing| note.standing(standing);
        let follow = async {
            tokio::time::sleep(QUICK).await;
            self.runtime.follow(&container, &tell).await;
        };
        tokio::pin!(work, follow);
        let mut follows = true;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = target.subject.cancel.cancelled() => return None,
                () = &mut follow, if follows => follows = false,
            }
        }
    }
}

/// What a cut operation has left under way.
fn left(target: &Target, doing: Doing, note: &WaitNote<'_>) -> String {
    let (what, name) = (doing.deed(), &target.container.name);
    let mut text =
        format!("the {what} of container {name} goes on: the task was stopped without waiting for it");
    if let Some(standing) = note.last() {
        let unit = &standing.name;
        write!(text, "; {standing}. See `systemctl status {unit}`").ok();
    }
    text
}
