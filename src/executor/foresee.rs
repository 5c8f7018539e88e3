//! What a deployment would bring and what would fail now, found out without changing anything.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Executor;
use crate::artifact::releases::{Layout, Releases};
use crate::catalog::Service;
use crate::plan::Way;
use crate::task::deployment::DeploymentSpec;

/// A look takes no longer: a dry run is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What was found out about a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// The release that it would bring.
    pub brings: Option<NewRelease>,
    /// Why it would fail if it were begun now.
    pub problem: Option<String>,
}

/// A release that a deployment would bring, as far as it is known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelease {
    /// Its name: known when the package is pinned by the plan, or the commit was built before.
    pub release: Option<String>,
    /// The commit that would be built: the plan's, else the branch's tip now.
    pub commit: Option<String>,
    /// From where: the package's address, or repository and branch; credentials masked.
    pub source: String,
    /// Neither download nor build is needed: the artifact is here.
    pub is_here: bool,
}

impl Executor {
    /// What a deployment would bring, and whether something speaks against it now.
    pub async fn foresee(&self, spec: &DeploymentSpec) -> Foreseen {
        let name = &spec.service.name;
        let brings = self.announced(spec);
        let looked = tokio::time::timeout(TIMEOUT, self.look_ahead(spec, brings.clone())).await;
        let late = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()));
        match looked.unwrap_or_else(late) {
            Ok(brings) => Foreseen { brings, problem: None },
            Err(why) => Foreseen { brings, problem: Some(format!("{} of {name}: {why}", spec.way.name())) },
        }
    }

    /// What the plan alone says.
    fn announced(&self, spec: &DeploymentSpec) -> Option<NewRelease> {
        match &spec.way {
            Way::Start | Way::Stop | Way::Restart => None,
            Way::HttpUpload { uri, sha256 } => Some(NewRelease {
                release: sha256.as_deref().map(|sha256| release(&spec.service, sha256)),
                commit: None,
                source: uri.shown().into(),
                is_here: sha256.as_deref().is_some_and(|sha256| self.artifacts.find(sha256).is_some()),
            }),
            Way::Compile { repository, branch, commit } => Some(NewRelease {
                release: None,
                commit: commit.clone(),
                source: format!("branch {branch} of {}", repository.shown()),
                is_here: false,
            }),
        }
    }

    async fn look_ahead(
        &self,
        spec: &DeploymentSpec,
        brings: Option<NewRelease>,
    ) -> Result<Option<NewRelease>, String> {
        match (&spec.way, brings) {
            (Way::HttpUpload { uri, .. }, Some(brings)) if !brings.is_here => {
                self.fetcher.probe(uri).await?;
                Ok(Some(brings))
            }
            (Way::Compile { repository, branch, commit }, Some(mut brings)) => {
                let origin = self.origin(repository).map_err(|error| error.message)?;
                // As the deployment itself: what was built of a whole commit needs no network.
                let built = commit.as_deref().and_then(|commit| self.built(spec, commit));
                if built.is_none() {
                    let found = self.git.find_branch(&origin, branch, &CancellationToken::new()).await;
                    let tip = found.map_err(|error| error.to_string())?;
                    brings.commit.get_or_insert(tip);
                }
                let tip = brings.commit.as_deref().filter(|_| commit.is_none());
                brings.release = built.or_else(|| self.built(spec, tip?));
                brings.is_here = brings.release.is_some();
                Ok(Some(brings))
            }
            (_, brings) => Ok(brings),
        }
    }

    /// The release that a commit becomes, if it was built before as the catalog says today.
    fn built(&self, spec: &DeploymentSpec, commit: &str) -> Option<String> {
        let artifact = self.builder.find(commit, spec.service.build.as_ref()?)?;
        Some(release(&spec.service, &artifact.sha256))
    }
}

fn release(service: &Service, sha256: &str) -> String {
    let (strip_components, shared_paths) = (service.strip_components, service.shared_paths.clone());
    Releases::id(&sha256.to_ascii_lowercase(), &Layout { strip_components, shared_paths, owner: None })
}
