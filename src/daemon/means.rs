//! What the daemon touches the host with: put together out of its configuration.

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::DaemonError;
use crate::actors::batch::Means;
use crate::actors::prefetch::Places;
use crate::artifact::ArtifactStore;
use crate::artifact::build::Builder;
use crate::artifact::fetch::Fetcher;
use crate::artifact::git::Git;
use crate::artifact::releases::Releases;
use crate::config::Config;
use crate::executor::{Board, Deeds, Executor, Published, TaskLogs};
use crate::foreign::Reader;
use crate::identity::Owner;
use crate::plan::check::Policy;
use crate::runtime::either::EitherRuntime;
use crate::runtime::engine::Marks;
use crate::runtime::process::ProcessRuntime;
use crate::runtime::unit::UnitRuntime;
use crate::spawn::client::Spawner;
use crate::spawn::command::{Commands, Processes};
use crate::spawn::dialogue::{Children, Dialogues};
use crate::spawn::lasting::Lasting;
use crate::store::Store;
use crate::systemd::Systemd;
use crate::systemd::transient::{DialogueUnits, TransientUnits};

/// The executor, and the runtime of plain processes, whose logs the daemon rotates.
pub fn build_executor(
    config: &Config,
    store: &Store,
    reader: &Reader,
    owner: &Arc<Owner>,
) -> Result<(Arc<Executor>, Arc<ProcessRuntime>), DaemonError> {
    let io = |what| move |source| DaemonError::Io { what, source };
    let state = &config.state_dir;
    let launcher = Spawner::start(&config.binary, state).map_err(io("start the spawners"))?;
    let services = state.join("services");
    let releases = Releases::open(services.clone()).map_err(io("open the releases"))?;
    let artifacts = ArtifactStore::open(state.join("artifacts")).map_err(io("open the artifacts"))?;
    let artifacts = Arc::new(artifacts);
    let systemd = config.systemd.clone().map(|scope| Arc::new(Systemd::new(scope, config.unit_timeout)));
    let git = Arc::new(open_git(config, systemd.as_ref()).map_err(io("open the repositories"))?);
    let processes: Arc<dyn Commands> = Arc::new(Processes(launcher.clone()));
    let commands = commands(config, systemd.as_ref(), &launcher, owner).map_err(io("prepare commands"))?;
    let work = state.join("builds");
    let builder = Builder::open(commands.clone(), artifacts.clone(), git.clone(), work, config.limits)
        .map_err(io("prepare builds"))?;
    // All these directories may be new.
    File::open(state).and_then(|state| state.sync_all()).map_err(io("sync the state directory"))?;
    let runtime = ProcessRuntime::new(services.clone(), launcher, owner.clone());
    let runtime = Arc::new(runtime.map_err(io("read /proc"))?);
    let units = systemd.map(|systemd| {
        UnitRuntime::new(services.clone(), systemd, owner.clone()).map_err(io("read the boot's id"))
    });
    let either = EitherRuntime::new(
        services.clone(),
        runtime.clone(),
        units.transpose()?,
        [&config.podman, &config.docker],
        &Marks { owner: owner.clone(), epoch: store.epoch() },
    );
    let either = either.map_err(DaemonError::Tls)?;
    let policy = policy(config);
    let fetcher =
        Fetcher::new(artifacts.clone(), config.limits, policy.clone(), config.timeouts, reader.clone())
            .map_err(|error| DaemonError::Tls(error.to_string()))?;
    let executor = Executor {
        instance: owner.id().to_string(),
        former_instance: store.number().to_string(),
        reader: reader.clone(),
        runtime: Arc::new(either),
        commands,
        processes,
        artifacts,
        fetcher,
        git,
        published: Published::new(config.is_of_host()),
        builder: Arc::new(builder),
        releases: Arc::new(releases),
        logs: TaskLogs::new(state.join("tasks"), config.printed),
        limits: config.limits,
        policy,
        services_dir: services,
        deeds: Deeds::default(),
        board: Board::default(),
        downloads: Arc::new(Semaphore::new(config.concurrency.downloads)),
        builds: Arc::new(Semaphore::new(config.concurrency.builds)),
    };
    Ok((Arc::new(executor), runtime))
}

/// What runs builds and hooks: units where systemd runs, else processes that outlive the daemon.
fn commands(
    config: &Config,
    systemd: Option<&Arc<Systemd>>,
    launcher: &Arc<Spawner>,
    owner: &Arc<Owner>,
) -> io::Result<Arc<dyn Commands>> {
    let notes = config.state_dir.join("commands");
    if let Some(systemd) = systemd {
        return Ok(Arc::new(TransientUnits::new(systemd.clone(), notes, owner.clone())?));
    }
    Ok(Arc::new(Lasting::new(launcher.clone(), &config.binary, notes)?))
}

fn policy(config: &Config) -> Policy {
    Policy {
        repositories: None,
        repository_dir: config.state_dir.join("git").to_string_lossy().into_owned(),
        allowed_repositories: config.allowed_repositories.clone(),
        allowed_uris: config.allowed_uris.clone(),
    }
}

/// The repositories. Where the daemon's unit may not become another user, systemd runs git as one.
fn open_git(config: &Config, systemd: Option<&Arc<Systemd>>) -> std::io::Result<Git> {
    let dialogues: Arc<dyn Dialogues> = match systemd {
        Some(systemd) if crate::spawn::is_confined()? => Arc::new(DialogueUnits(systemd.clone())),
        _ => Arc::new(Children),
    };
    let state = &config.state_dir;
    Git::open(state.join("git"), state.join("git-cache"), config.git_timeout, dialogues)
}

/// What all tasks share.
pub fn means(config: &Config, executor: &Arc<Executor>, host: &tokio::runtime::Handle) -> Means {
    let concurrency = config.concurrency;
    let prefetch = || Arc::new(Places::new(concurrency.downloads, concurrency.builds));
    Means {
        executor: executor.clone(),
        host: host.clone(),
        places: Arc::new(Semaphore::new(concurrency.services)),
        prefetch: config.prefetch.then(prefetch),
    }
}
