//! The other end of a fetch: an address, or a repository on this host that another user reads for us.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::address::{Address, decoded};
use super::command::{GitCommand, STREAM, said};
use super::local::{Local, let_in};
use super::serve::{Service, dialogue};
use super::{Git, GitError, Origin};
use crate::spawn::SpawnError;

/// How long the server's side may take to end once the client has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The other end.
pub enum Far {
    /// git finds it by itself.
    Address(Address),
    /// Another user reads it.
    Served(Local),
}

impl Far {
    /// Its address, for git's command line.
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) => &address.plain,
            Self::Served(_) => STREAM,
        }
    }

    /// What git has to find in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Address(address) => address.environment(),
            Self::Served(_) => Vec::new(),
        }
    }
}

impl Origin {
    /// Its path, if it is on this host.
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::BuiltIn(path) => Some(path.clone()),
            Self::Url(url) if url.starts_with('/') => Some(url.into()),
            Self::Url(url) => url.strip_prefix("file://").map(|path| decoded(path).into()),
        }
    }
}

impl Git {
    /// The other end of a fetch from this origin.
    pub(super) async fn far(&self, origin: &Origin, cancel: &CancellationToken) -> Result<Far, GitError> {
        let address = || Far::Address(Address::of(&origin.address()));
        let Some(path) = origin.path() else { return Ok(address()) };
        let shown = origin.shown();
        let built_in = matches!(origin, Origin::BuiltIn(_));
        let look = crate::blocking::run(move || Local::find(&path, built_in));
        // A mount may be dead.
        let found = self.command(&shown, cancel).in_time("read", look).await?;
        let local = found.map_err(|unfit| GitError::Unfit { origin: shown.clone(), why: unfit.0 })?;
        Ok(if local.account.is_some() { Far::Served(local) } else { address() })
    }

    /// Runs git with this other end; all that it prints.
    pub(super) async fn ask(
        &self,
        what: &'static str,
        git: &GitCommand<'_>,
        repository: Option<&Path>,
        args: &[&str],
        far: &Far,
    ) -> Result<String, GitError> {
        let Far::Served(local) = far else { return git.text(what, repository, args).await };
        let pair = UnixStream::pair();
        let (near, other) = pair.map_err(|error| git.failed(what, &error.to_string()))?;
        let config = self.repositories.config();
        let server = dialogue(Service::Fetch, local, "version=2", other, &config, self.timeout);
        let server = self.dialogues.run(server);
        let client = git.text_over(what, repository, args, near);
        tokio::pin!(server, client);
        let mut words = None;
        let answer = loop {
            tokio::select! {
                answer = &mut client => break answer,
                ended = &mut server, if words.is_none() => words = Some(ended),
            }
        };
        let Err(GitError::Failed { .. }) = &answer else { return answer };
        if words.is_none() {
            words = tokio::time::timeout(LAST_WORDS, &mut server).await.ok();
        }
        match words.map(|ended| ended.map_err(|error: SpawnError| error.to_string())) {
            Some(Ok(text)) if !text.trim().is_empty() => {
                let text = said(text.as_bytes());
                let cannot_read = text.contains("does not appear to be") || text.contains("ermission denied");
                match let_in(local).filter(|_| cannot_read) {
                    Some(why) => {
                        Err(GitError::Unfit { origin: git.origin.to_string(), why: format!("{text}. {why}") })
                    }
                    None => Err(git.failed(what, &text)),
                }
            }
            Some(Err(error)) => Err(git.failed(what, &error)),
            _ => answer,
        }
    }
}
