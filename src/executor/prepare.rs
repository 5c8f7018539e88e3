//! The preparation of a deployment: pin the commit, obtain the artifact, make the release.
//!
//! Nothing here touches a container.

use std::sync::Arc;

use super::board::Stage;
use super::commands::{BUILD, Hearing};
use super::{Executor, Halt, Subject, environment, failure};
use crate::address::{Address, Shown};
use crate::artifact::Artifact;
use crate::artifact::build::{BuildError, BuildRequest};
use crate::artifact::fetch::{FetchError, FetchRequest};
use crate::artifact::git::{GitError, Origin};
use crate::artifact::releases::Layout;
use crate::blocking;
use crate::plan::Way;
use crate::plan::check::{Repository, resolve_repository};
use crate::task::Failure;
use crate::task::deployment::{Deployment, Pin};

/// A branch that was resolved.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The commit to build: 40 hex digits.
    pub commit: String,
    /// The branch's tip now.
    pub tip: String,
}

impl Executor {
    /// Fetches the branch and finds the commit: the plan's, else the tip.
    pub async fn resolve(&self, subject: &Subject) -> Result<Resolved, Halt> {
        let Way::Compile { repository, branch, commit } = &subject.way else {
            return Err(
                failure("internal", "only COMPILE_DEPLOY has a branch; this is a defect of deployd").into()
            );
        };
        // What was built of a whole commit before was on the branch then: it needs no network.
        if let Some(commit) = commit.as_deref().filter(|commit| commit.len() == 40)
            && let Some(definition) = &subject.service.build
            && self.builder.find(commit, definition).is_some()
        {
            return Ok(Resolved { commit: commit.to_string(), tip: commit.to_string() });
        }
        let origin = self.origin(repository)?;
        match self.git.resolve(&origin, branch, commit.as_deref(), &subject.cancel).await {
            Ok(pin) => Ok(Resolved { commit: pin.commit, tip: pin.branch_tip }),
            Err(GitError::Cancelled) => Err(Halt::Cut),
            Err(error) => Err(failure("repository", error.to_string()).into()),
        }
    }

    /// Fetches the package, or builds the pinned commit.
    pub async fn obtain(&self, subject: &Subject, deployment: &Deployment) -> Result<Pin, Halt> {
        match &subject.way {
            Way::HttpUpload { uri, sha256 } => self.download(subject, uri, sha256.as_deref()).await,
            Way::Compile { repository, .. } => {
                let commit = deployment.commit.as_deref();
                let commit = commit.ok_or_else(|| {
                    failure("internal", "the commit is not pinned; this is a defect of deployd")
                })?;
                self.compile(subject, repository, commit).await
            }
            Way::Start | Way::Stop | Way::Restart => Err(failure(
                "internal",
                "this way of deployment has no artifact; this is a defect of deployd",
            )
            .into()),
        }
    }

    /// Makes the release of a pinned artifact; fetches or builds the artifact again if it is gone.
    pub async fn prepare_release(&self, subject: &Subject, pin: &Pin) -> Result<String, Halt> {
        let layout = layout(subject)?;
        let made = self.releases.find(&subject.service.name, &pin.sha256, &layout);
        if made.is_none() && self.artifacts.find(&pin.sha256).is_none() {
            self.recover_artifact(subject, pin).await?;
        }
        let (releases, artifacts, limits) = (self.releases.clone(), self.artifacts.clone(), self.limits);
        let (service, sha256) = (subject.service.name.clone(), pin.sha256.clone());
        let release = blocking::run(move || {
            releases.prepare(&service, &artifacts.path(&sha256), &sha256, &layout, &limits)
        })
        .await
        .map_err(|error| failure("release", format!("cannot make a release of {}: {error}", pin.source)))?;
        self.say(subject, &format!("release {release} is ready"));
        Ok(release)
    }

    /// Says that a preparation in advance came to nothing: its turn will tell.
    pub fn say_not_prepared(&self, subject: &Subject, failure: &Failure) {
        let why = &failure.message;
        let text = format!("not prepared in advance: {why}; it is tried again when its turn comes");
        self.say(subject, &text);
    }

    /// Removes releases that are beyond the service's `releases.keep`. A failure costs disk, not the deployment.
    pub async fn prune_releases(&self, subject: &Subject, release: &str) {
        let (releases, service) = (self.releases.clone(), subject.service.name.clone());
        let keep = usize::try_from(subject.service.keep_releases).unwrap_or(usize::MAX);
        let protected = std::collections::HashSet::from([release.to_string()]);
        if let Err(error) = blocking::run(move || releases.prune(&service, keep, &protected)).await {
            tracing::warn!(service = %subject.service.name, %error, "cannot remove old releases");
        }
    }

    async fn recover_artifact(&self, subject: &Subject, pin: &Pin) -> Result<(), Halt> {
        let recovered = match &subject.way {
            Way::HttpUpload { uri, .. } => self.download(subject, uri, Some(&pin.sha256)).await?,
            Way::Compile { repository, .. } => {
                let commit = pin.commit.as_deref();
                let commit = commit.ok_or_else(|| {
                    failure("internal", "the commit is not pinned; this is a defect of deployd")
                })?;
                self.resolve(subject).await?;
                self.compile(subject, repository, commit).await?
            }
            _ => return Ok(()),
        };
        if recovered.sha256 == pin.sha256 {
            return Ok(());
        }
        let text = format!(
            "the artifact of {} is gone, and what was made again differs: sha256 {} instead of {}; execute the plan anew",
            pin.source, recovered.sha256, pin.sha256
        );
        Err(failure("artifactGone", text).into())
    }

    async fn download(&self, subject: &Subject, uri: &Address, sha256: Option<&str>) -> Result<Pin, Halt> {
        let source = uri.shown();
        self.say(subject, &format!("fetching {source}"));
        let note = self.board.pin(subject.task, subject.deployment, Stage::AwaitDownload);
        let _place = self.downloads.acquire().await;
        note.stage(Stage::Download);
        let request =
            FetchRequest { task: subject.task.0, uri: uri.clone(), sha256: sha256.map(str::to_string) };
        let fetched =
            self.fetcher.fetch(request, &subject.cancel, &|bytes, total| note.bytes(bytes, total)).await;
        match fetched {
            Ok(artifact) => {
                self.say(subject, &format!("fetched {} bytes, sha256 {}", artifact.bytes, artifact.sha256));
                Ok(pin(source, artifact, None))
            }
            Err(FetchError::Cancelled) => Err(Halt::Cut),
            Err(error) => Err(failure(error.code(), error.to_string()).into()),
        }
    }

    async fn compile(&self, subject: &Subject, repository: &Address, commit: &str) -> Result<Pin, Halt> {
        let request = self.build_request(subject, repository, commit)?.ok_or_else(|| {
            failure(
                "catalog",
                format!(
                    "service {} has no `build` in the catalog; give it one, or deploy a package",
                    subject.service.name
                ),
            )
        })?;
        let note = self.board.pin(subject.task, subject.deployment, Stage::AwaitBuild);
        let _place = self.builds.acquire().await;
        note.stage(Stage::Build);
        let log = self.logs.open(subject.task, subject.service.id);
        log.line("build", &format!("building commit {commit} of {}", repository.shown()));
        let hearing = Hearing { log: self.logs.open(subject.task, subject.service.id), note };
        match self.builder.build(request, &subject.cancel, Arc::new(hearing)).await {
            Ok(built) => {
                let how = if built.reused { "was built before: not built again" } else { "is built" };
                log.line("build", &format!("commit {commit} {how}, sha256 {}", built.artifact.sha256));
                Ok(pin(repository.shown(), built.artifact, Some(commit.to_string())))
            }
            Err(BuildError::Cancelled) => Err(Halt::Cut),
            Err(BuildError::Spawn(error)) if error.is_in_doubt() => Err(Halt::Lost(error.to_string())),
            Err(error) => Err(build_failure(&error).into()),
        }
    }

    fn build_request(
        &self,
        subject: &Subject,
        repository: &Address,
        commit: &str,
    ) -> Result<Option<BuildRequest>, Failure> {
        let Some(definition) = subject.service.build.clone() else { return Ok(None) };
        let identity = self.identity(subject, BUILD);
        Ok(Some(BuildRequest {
            origin: self.origin(repository)?,
            commit: commit.to_string(),
            definition,
            environment: environment::deployd(subject, None, None, &identity.operation),
            identity,
            printed: self.logs.open(subject.task, subject.service.id).room(),
        }))
    }

    /// Where a repository of a plan is.
    pub(super) fn origin(&self, repository: &Address) -> Result<Origin, Failure> {
        match resolve_repository(repository.reveal(), &self.policy) {
            Ok(Repository::BuiltIn(name)) => Ok(Origin::BuiltIn(self.git.repositories().path(&name))),
            Ok(Repository::Url(url)) => Ok(Origin::Url(url)),
            Err(error) => Err(failure("repository", error)),
        }
    }

    fn say(&self, subject: &Subject, text: &str) {
        self.logs.open(subject.task, subject.service.id).line("deployd", text);
    }
}

fn build_failure(error: &BuildError) -> Failure {
    let log = match error {
        BuildError::Failed { last_lines, .. } => last_lines.clone(),
        _ => Vec::new(),
    };
    Failure { code: error.code().into(), message: error.to_string(), log }
}

fn pin(source: Shown, artifact: Artifact, commit: Option<String>) -> Pin {
    Pin { source: source.into(), sha256: artifact.sha256, bytes: artifact.bytes, commit }
}

fn layout(subject: &Subject) -> Result<Layout, Failure> {
    let service = &subject.service;
    let user = service.run.as_ref().and_then(|run| run.user.as_deref());
    let owner = match user {
        Some(name) if nix::unistd::geteuid().is_root() => {
            let user = nix::unistd::User::from_name(name).ok().flatten();
            let user = user.ok_or_else(|| {
                failure(
                    "catalog",
                    format!("there is no user {name} on this host; create it, or change the catalog"),
                )
            })?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        }
        _ => None,
    };
    Ok(Layout {
        strip_components: service.strip_components,
        shared_paths: service.shared_paths.clone(),
        owner,
    })
}
