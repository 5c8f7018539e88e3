//! What the daemon touches the host with: put together out of its configuration.

use std::fs::File;
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
use crate::executor::{Board, Deeds, Executor, TaskLogs};
use crate::plan::check::Policy;
use crate::runtime::either::EitherRuntime;
use crate::runtime::process::ProcessRuntime;
use crate::runtime::unit::UnitRuntime;
use crate::spawn::client::Spawner;
use crate::spawn::command::{Commands, Processes};
use crate::store::Store;
use crate::systemd::Systemd;
use crate::systemd::transient::TransientUnits;

/// The executor, and the runtime of plain processes, whose logs the daemon rotates.
pub fn build_executor(
    config: &Config,
    store: &Store,
) -> Result<(Executor, Arc<ProcessRuntime>), DaemonError> {
    let io = |what| move |source| DaemonError::Io { what, source };
    let state = &config.state_dir;
    let launcher = Spawner::start(&config.binary, state).map_err(io("start the spawners"))?;
    let services = state.join("services");
    let releases = Releases::open(services.clone()).map_err(io("open the releases"))?;
    let artifacts = ArtifactStore::open(state.join("artifacts")).map_err(io("open the artifacts"))?;
    let artifacts = Arc::new(artifacts);
    let git = Git::open(state.join("git"), state.join("git-cache"), config.git_timeout);
    let git = Arc::new(git.map_err(io("open the repositories"))?);
    let systemd = config.systemd.clone().map(|scope| Arc::new(Systemd::new(scope)));
    let processes: Arc<dyn Commands> = Arc::new(Processes(launcher.clone()));
    let commands = match &systemd {
        Some(systemd) => {
            let units = TransientUnits::new(systemd.clone(), state.join("commands"));
            Arc::new(units.map_err(io("prepare commands"))?)
        }
        None => processes.clone(),
    };
    let builder = Builder::open(commands.clone(), artifacts.clone(), git.clone(), state.join("builds"))
        .map_err(io("prepare builds"))?;
    // All these directories may be new.
    File::open(state).and_then(|state| state.sync_all()).map_err(io("sync the state directory"))?;
    let runtime = Arc::new(ProcessRuntime::new(services.clone(), launcher).map_err(io("read /proc"))?);
    let units =
        systemd.map(|systemd| UnitRuntime::new(services.clone(), systemd).map_err(io("read the boot's id")));
    let either = EitherRuntime::new(
        services.clone(),
        runtime.clone(),
        units.transpose()?,
        [&config.podman, &config.docker],
    );
    let either = either.map_err(DaemonError::Tls)?;
    let policy = Policy {
        repositories: None,
        repository_dir: state.join("git").to_string_lossy().into_owned(),
        allowed_repositories: config.allowed_repositories.clone(),
        allowed_uris: config.allowed_uris.clone(),
    };
    let fetcher = Fetcher::new(artifacts.clone(), config.limits, policy.clone(), config.timeouts)
        .map_err(|error| DaemonError::Tls(error.to_string()))?;
    let executor = Executor {
        instance: store.instance().to_string(),
        runtime: Arc::new(either),
        commands,
        processes,
        artifacts,
        fetcher,
        git,
        builder: Arc::new(builder),
        releases: Arc::new(releases),
        logs: TaskLogs::new(state.join("tasks")),
        limits: config.limits,
        policy,
        services_dir: services,
        deeds: Deeds::default(),
        board: Board::default(),
        downloads: Arc::new(Semaphore::new(config.concurrency.downloads)),
        builds: Arc::new(Semaphore::new(config.concurrency.builds)),
    };
    Ok((executor, runtime))
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
