//! The server's side of git: for those who push to the built-in repositories, and for the daemon's own fetches.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::local::{GIT_USER, Local, git_account};
use super::{Git, GitError, settings};
use crate::blocking;
use crate::spawn::dialogue::Dialogue;

/// Maximum number of pushes and fetches of users at the same time.
pub const AT_ONCE: usize = 16;

/// What is asked of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// To give commits.
    Fetch,
    /// To take commits.
    Push,
}

impl Service {
    /// The service of this name in git's protocol.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::Fetch),
            "git-receive-pack" => Some(Self::Push),
            _ => None,
        }
    }

    const fn command(self) -> &'static str {
        match self {
            Self::Fetch => "upload-pack",
            Self::Push => "receive-pack",
        }
    }
}

/// Who asks, and for what.
#[derive(Debug)]
pub struct Request {
    /// The built-in repository's name.
    pub repository: String,
    /// What is asked of it.
    pub service: Service,
    /// The version of the protocol, as in `GIT_PROTOCOL`.
    pub protocol: String,
    /// Whether the caller is the daemon's own user.
    pub is_own: bool,
}

impl Git {
    /// Lets git answer whoever holds the other end of `stream`, until one of them hangs up.
    ///
    /// # Errors
    /// Why git does not answer, if the stream was not used yet.
    pub async fn serve(
        &self,
        request: Request,
        stream: UnixStream,
        cancel: &CancellationToken,
    ) -> Result<(), GitError> {
        let Request { repository, service, protocol, is_own } = request;
        let git = self.command(&repository, cancel);
        let Ok(_permit) = git.in_time("serve", self.served.acquire()).await? else {
            return Err(GitError::Cancelled);
        };
        let path = self.repositories.path(&repository);
        let found = git.in_time("serve", blocking::run(move || account_for(&path, service, is_own))).await?;
        let local = found.map_err(|why| GitError::Unfit { origin: repository.clone(), why })?;
        let config = self.repositories.config();
        let dialogue = dialogue(service, &local, &protocol, stream, &config, self.timeout);
        match git.in_time("serve", self.dialogues.run(dialogue)).await? {
            Ok(words) => {
                for line in words.lines().filter(|line| !line.trim().is_empty()) {
                    tracing::info!(repository, line, "git said");
                }
                Ok(())
            }
            Err(error) => Err(git.failed("serve", &error.to_string())),
        }
    }
}

/// As whom git does this. Blocking.
fn account_for(path: &Path, service: Service, is_own: bool) -> Result<Local, String> {
    let local = Local::find(path, true).map_err(|unfit| unfit.0)?;
    if service == Service::Fetch || !nix::unistd::geteuid().is_root() {
        return Ok(local);
    }
    match git_account() {
        Some(account) => Ok(Local { account: Some(account), ..local }),
        // Nobody but root has ever written there.
        None if is_own && local.account.is_none() => Ok(local),
        None => Err(format!(
            "this host has no user {GIT_USER}, as whom git takes what you push. Create it: useradd --system {GIT_USER}"
        )),
    }
}

/// The server's side of git.
pub(super) fn dialogue(
    service: Service,
    local: &Local,
    protocol: &str,
    stream: UnixStream,
    config: &Path,
    timeout: Duration,
) -> Dialogue {
    let directory = local.directory.to_string_lossy().into_owned();
    let mut environment: BTreeMap<String, String> = settings::environment(config);
    // Where that file cannot be read, this says the one thing that matters.
    let safe =
        [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")];
    environment.extend(safe.map(|(name, value)| (name.to_string(), value.to_string())));
    if !protocol.is_empty() {
        environment.insert("GIT_PROTOCOL".into(), protocol.into());
    }
    Dialogue {
        argv: ["git", service.command(), &directory].map(str::to_string).into(),
        environment,
        account: local.account,
        stream,
        writes: (service == Service::Push).then(|| local.directory.clone()),
        umask: if local.account.is_some() { 0o007 } else { 0o022 },
        timeout,
    }
}
