//! Builds: a clean checkout of one commit, one command, one output.
//!
//! The same commit with the same definition is not built twice: `artifacts/builds/<key>` names
//! what came out the first time. A build that outlives its daemon is joined by the next one: its
//! directory has the name of its command.

mod pack;
mod stubborn;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::git::{Git, GitError, Origin};
use super::{Artifact, ArtifactStore, hex, sync_directory};
use crate::catalog;
use crate::crashpoint::point;
use crate::spawn::command::{Command, Commands, Ended, Identity, Sandbox};
use crate::spawn::{ExitStatus, SpawnError};

/// How many lines of output a failure shows.
const LOG_LINES: usize = 20;
/// Where the build looks programs up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Where the commit comes from.
    pub origin: Origin,
    /// 40 hex digits; resolved before.
    pub commit: String,
    /// How the service is built.
    pub definition: catalog::Build,
    /// `DEPLOYD_*`.
    pub environment: BTreeMap<String, String>,
    /// By what this build is known.
    pub identity: Identity,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Built {
    /// The artifact.
    pub artifact: Artifact,
    /// It had been built before.
    pub reused: bool,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The command failed.
    #[error("the build failed: its command {status}; `deployctl logs` has all that it said")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// It took too long.
    #[error(
        "the build was ended: it took longer than {seconds} s; raise build.timeout in the catalog, or see in `deployctl logs` where it hangs"
    )]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// The output is missing or can't be packed.
    #[error("the build's output can't be used: {0}; mend build.command or build.output in the catalog")]
    Output(String),
    /// The command was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The commit could not be checked out.
    #[error(transparent)]
    Git(GitError),
    /// There is nobody to build as.
    #[error("cannot build: {0}; create the user, or name another one by build.user in the catalog")]
    User(String),
    /// The system refused.
    #[error(
        "cannot prepare the build: {0}; see that the disk of the state directory is writable and has room"
    )]
    Io(#[from] io::Error),
    /// The task was cut off.
    #[error("the build was cancelled")]
    Cancelled,
}

/// Builds commits.
pub struct Builder {
    commands: Arc<dyn Commands>,
    store: Arc<ArtifactStore>,
    git: Arc<Git>,
    work: PathBuf,
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Builder {
    /// A builder that works below `work`; what an earlier daemon left there is removed, but for builds
    /// that were begun by `commands` and may still be joined.
    pub fn open(
        commands: Arc<dyn Commands>,
        store: Arc<ArtifactStore>,
        git: Arc<Git>,
        work: PathBuf,
    ) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&work)?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o711))?;
        let begun = commands.begun();
        for entry in fs::read_dir(&work)? {
            let path = entry?.path();
            let is_begun = path.file_stem().is_some_and(|stem| begun.iter().any(|name| stem == &**name));
            if !is_begun {
                stubborn::remove(&path)?;
            }
        }
        Ok(Self { commands, store, git, work, under_way: Mutex::default() })
    }

    /// Builds a commit, or finds what was built of it before.
    pub async fn build(
        &self,
        request: BuildRequest,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<Built, BuildError> {
        let key = key(&request.commit, &request.definition);
        let lock = self.lock(&key);
        let _only = tokio::select! {
            only = lock.lock() => only,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        if let Some(artifact) = self.built_before(&key) {
            // A daemon may have been killed before these names were durable.
            sync_directory(&self.store.root)?;
            sync_directory(&self.store.builds())?;
            return Ok(Built { artifact, reused: true });
        }
        let directory = self.work.join(format!("{}.tmp", request.identity.name));
        let built = self.build_in(&directory, &request, cancel, on_line).await;
        // Without one it may go on without us, or have failed: until that is recorded, it is what it is.
        let artifact = built?;
        self.remember(&key, &artifact)?;
        self.discard(&request.identity.name).await;
        Ok(Built { artifact, reused: false })
    }

    /// Ends a build, if it still runs, and removes all that there is of it.
    pub async fn discard(&self, name: &str) {
        let directory = self.work.join(format!("{name}.tmp"));
        // The directory last: as long as it is there, so is what tells that it may be joined.
        let gone = self.commands.abandon(name).await.map_err(|error| error.to_string());
        let gone = match gone {
            Ok(()) => {
                crate::blocking::run(move || stubborn::remove(&directory)).await.map_err(|e| e.to_string())
            }
            failed => failed,
        };
        if let Err(error) = gone {
            tracing::warn!(name, %error, "cannot remove what is left of a build");
        }
    }

    async fn build_in(
        &self,
        directory: &Path,
        request: &BuildRequest,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<Artifact, BuildError> {
        let user = build_user(request.definition.user.as_deref())?;
        let source = directory.join("src");
        // What was begun without its directory, as before a restore, has nothing to be joined for.
        if directory.exists() && self.commands.is_begun(&request.identity).await? {
            on_line("(picked up again: it was begun before the daemon was restarted)".into());
        } else {
            self.discard(&request.identity.name).await;
            self.check_out(directory, request, user.as_ref(), cancel).await?;
        }
        self.run(directory, request, user, cancel, on_line).await?;
        let (store, output) = (self.store.clone(), request.definition.output.clone());
        crate::blocking::run(move || {
            let part = store.part_path();
            let packed = pack::pack(&source, &output, &part).map_err(BuildError::Output);
            let adopted = packed.and_then(|()| store.adopt(&part).map_err(BuildError::Io));
            if adopted.is_err() {
                fs::remove_file(&part).ok();
            }
            adopted
        })
        .await
    }

    async fn check_out(
        &self,
        directory: &Path,
        request: &BuildRequest,
        user: Option<&User>,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        // Nobody but us may look in before everything is in place.
        fs::DirBuilder::new().mode(0o700).create(directory)?;
        for name in ["src", "home", "tmp"] {
            // Nor may other builds, ever.
            fs::DirBuilder::new().mode(0o700).create(directory.join(name))?;
        }
        let source = directory.join("src");
        let checkout = self.git.checkout(&request.origin, &request.commit, &source, cancel).await;
        checkout.map_err(|error| match error {
            GitError::Cancelled => BuildError::Cancelled,
            error => BuildError::Git(error),
        })?;
        if let Some(owner) = user.and_then(|user| user.owner) {
            let whole = directory.to_path_buf();
            crate::blocking::run(move || give_all(&whole, owner)).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        directory: &Path,
        request: &BuildRequest,
        user: Option<User>,
        cancel: &CancellationToken,
        on_line: &mut (dyn FnMut(String) + Send),
    ) -> Result<(), BuildError> {
        let text = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let mut environment = BTreeMap::from([
            ("PATH".to_string(), PATH.to_string()),
            ("HOME".to_string(), text("home")),
            ("TMPDIR".to_string(), text("tmp")),
            ("LANG".to_string(), "C.UTF-8".to_string()),
        ]);
        environment.extend(request.definition.environment.clone());
        environment.extend(request.environment.clone());
        environment.insert("DEPLOYD_COMMIT".into(), request.commit.clone());
        let timeout = request.definition.timeout;
        let command = Command {
            argv: request.definition.command.clone(),
            environment,
            directory: directory.join("src"),
            user: user.map(|user| user.name),
            timeout,
            limits: request.definition.limits.clone(),
            sandbox: Sandbox::Closed {
                directory: directory.to_path_buf(),
                network: request.definition.network,
            },
            identity: Some(request.identity.clone()),
            over: None,
        };
        let mut last_lines = VecDeque::new();
        let mut keep = |line: String| {
            if last_lines.len() == LOG_LINES {
                last_lines.pop_front();
            }
            last_lines.push_back(line.clone());
            on_line(line);
        };
        match self.commands.run(command, cancel, &mut keep).await? {
            Ended::Exited(status) if status.is_success() => Ok(()),
            Ended::Exited(status) => Err(BuildError::Failed { status, last_lines: last_lines.into() }),
            Ended::TimedOut => Err(BuildError::TimedOut { seconds: timeout.as_secs() }),
            Ended::Cancelled => Err(BuildError::Cancelled),
        }
    }

    /// What was built of a commit before, if it is here.
    pub fn find(&self, commit: &str, definition: &catalog::Build) -> Option<Artifact> {
        self.built_before(&key(commit, definition))
    }

    fn built_before(&self, key: &str) -> Option<Artifact> {
        let sha256 = fs::read_to_string(self.store.builds().join(key)).ok()?;
        self.store.find(sha256.trim())
    }

    fn remember(&self, key: &str, artifact: &Artifact) -> io::Result<()> {
        let temporary = self.store.builds().join(format!("{key}.tmp"));
        let mut file = File::create(&temporary)?;
        writeln!(file, "{}", artifact.sha256)?;
        file.sync_all()?;
        point("before a build is remembered");
        fs::rename(temporary, self.store.builds().join(key))?;
        point("after a build was remembered");
        sync_directory(&self.store.builds())
    }

    fn lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, lock| Arc::strong_count(lock) > 1);
        under_way.entry(key.to_string()).or_default().clone()
    }
}

/// What decides that two builds give the same.
fn key(commit: &str, definition: &catalog::Build) -> String {
    let parts = (commit, &definition.command, &definition.output, &definition.environment, &definition.user);
    hex(&Sha256::digest(format!("{parts:?}")))[..40].to_string()
}

struct User {
    name: String,
    /// Set when the checkout has to be given away.
    owner: Option<(u32, u32)>,
}

/// As whom to build; `None` is the daemon's own user, who isn't root.
fn build_user(wanted: Option<&str>) -> Result<Option<User>, BuildError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let candidates = wanted.map_or_else(|| vec!["deployd-build", "nobody"], |user| vec![user]);
    let found = candidates.iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten());
    let found =
        found.ok_or_else(|| BuildError::User(format!("there is no user {}", candidates.join(" or "))))?;
    let owner = (!found.uid.is_root()).then(|| (found.uid.as_raw(), found.gid.as_raw()));
    Ok(Some(User { name: found.name, owner }))
}

/// Gives a directory that only we can enter to the build user, then lets others in.
fn give_all(directory: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let mut open = vec![directory.to_path_buf()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path)? {
            let path = entry?.path();
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid))?;
            if path.symlink_metadata()?.is_dir() {
                open.push(path);
            }
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711))
}
