//! What would fail now, found out without changing anything: is the package there, is the branch?

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Executor;
use crate::plan::Way;
use crate::task::deployment::DeploymentSpec;

/// A look takes no longer: a dry run is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Executor {
    /// Why a deployment would fail if it were begun now; `None` when nothing speaks against it.
    pub async fn foresee(&self, spec: &DeploymentSpec) -> Option<String> {
        let name = &spec.service.name;
        let looked = tokio::time::timeout(TIMEOUT, self.look_ahead(spec)).await;
        let late = |_| Err(format!("no answer within {} s", TIMEOUT.as_secs()));
        looked.unwrap_or_else(late).err().map(|why| format!("{} of {name}: {why}", spec.way.name()))
    }

    async fn look_ahead(&self, spec: &DeploymentSpec) -> Result<(), String> {
        match &spec.way {
            Way::Start | Way::Stop | Way::Restart => Ok(()),
            Way::HttpUpload { sha256: Some(sha256), .. } if self.artifacts.find(sha256).is_some() => Ok(()),
            Way::HttpUpload { uri, .. } => self.fetcher.probe(uri).await,
            Way::Compile { repository, branch, .. } => {
                let origin = self.origin(repository).map_err(|error| error.message)?;
                let found = self.git.find_branch(&origin, branch, &CancellationToken::new()).await;
                found.map_err(|error| error.to_string())
            }
        }
    }
}
