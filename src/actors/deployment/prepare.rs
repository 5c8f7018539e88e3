//! What a deployment does before a container is touched: commit, artifact, release.

use super::{Course, Stopped};
use crate::plan::Way;
use crate::task::deployment::{Deployment, DeploymentStep};
use crate::task::event::Event;

impl Course {
    /// All that is done before a container is touched, as far as it is left to do.
    pub(in crate::actors) async fn prepare(&self) -> Result<(), Stopped> {
        let index = self.subject.deployment;
        loop {
            match self.deployment(Deployment::next_step) {
                DeploymentStep::ResolveCommit => self.resolve().await?,
                DeploymentStep::ObtainArtifact => {
                    let deployment = self.deployment(Clone::clone);
                    let pin =
                        self.on_host(move |e, s| async move { e.obtain(&s, &deployment).await }).await?;
                    self.record(Event::ArtifactPinned { deployment: index, pin }).await?;
                }
                DeploymentStep::PrepareRelease => {
                    let release = self.make_release().await?;
                    self.note(Event::ReleasePrepared { deployment: index, release })?;
                }
                _ => return Ok(()),
            }
        }
    }

    async fn make_release(&self) -> Result<String, Stopped> {
        let pin = self.deployment(|deployment| deployment.pin.clone());
        let pin = pin.expect("a release is made of what was pinned");
        self.on_host(move |e, s| async move { e.prepare_release(&s, &pin).await }).await
    }

    /// A release that was made before a pause, or in advance, may be gone since: `releases.keep` knows
    /// nothing of it before a container points to it.
    pub(super) async fn restore_release(&self) -> Result<(), Stopped> {
        let is_wanted = |deployment: &Deployment| {
            deployment.release.is_some() && deployment.operations.iter().any(|it| !it.state.is_done())
        };
        if self.deployment(is_wanted) {
            self.sync().await?;
            self.make_release().await?;
        }
        Ok(())
    }

    async fn resolve(&self) -> Result<(), Stopped> {
        let resolved = self.on_host(|e, s| async move { e.resolve(&s).await }).await?;
        let deployment = self.subject.deployment;
        self.record(Event::CommitPinned { deployment, commit: resolved.commit }).await
    }

    /// Before the first container gets what was pinned earlier: has the branch moved on since?
    pub(super) async fn note_moved_branch(&self) -> Result<(), Stopped> {
        let known = self.deployment(|it| it.commit.clone().map(|commit| (commit, it.release.is_some())));
        let (Some((commit, is_ready)), Way::Compile { reference, commit: None, .. }) =
            (known, &self.subject.way)
        else {
            return Ok(());
        };
        if self.deployment(Deployment::has_touched) {
            return Ok(());
        }
        self.sync().await?;
        let resolved = match self.on_host(|e, s| async move { e.resolve(&s).await }).await {
            // Nothing more is needed of the repository: that it can't be asked is no failure.
            Err(Stopped::Failed(_)) if is_ready => return Ok(()),
            resolved => resolved?,
        };
        let tip = resolved.tip;
        let note = format!("{reference} has moved to {tip} since; {commit} is deployed, as begun");
        if tip == commit || self.deployment(|deployment| deployment.notes.contains(&note)) {
            return Ok(());
        }
        self.record(Event::Noted { deployment: self.subject.deployment, note }).await
    }
}
