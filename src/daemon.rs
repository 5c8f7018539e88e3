//! The daemon as a library call: everything is put together here.

mod logs;
mod means;
mod tasks;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::actors::commander::Handle as Supervised;
use crate::actors::guard::{self, ChildCrashed};
use crate::actors::plan_supervisor::{Held, PlanSupervisor};
use crate::actors::{Commander, Refused};
use crate::catalog_dir::{self, CatalogError};
use crate::clock;
use crate::config::Config;
use crate::control::{self, Access, ControlState};
use crate::executor::Executor;
use crate::notify;
use crate::retention::{self, Retention};
use crate::spawn::client::Spawner;
use crate::store::{Change, Integrity, StateLock, Store, StoreError};
use crate::task::admission::Claim;
use crate::task::host_event::HostEvent;
use logs::Logs;

/// How long the spawners of an earlier daemon may take to end.
const PREDECESSOR: Duration = Duration::from_secs(30);
/// How often old tasks are looked at.
const HOUSEKEEPING: Duration = Duration::from_mins(1);

/// Why the daemon does not run, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog can't be read, or has mistakes.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The socket.
    #[error(transparent)]
    Listen(#[from] control::listen::ListenError),
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The plan supervisor panicked: without it nothing can be released.
    #[error(
        "the plan supervisor crashed: {0}; start deployd again (systemd does), then resume what is INTERRUPTED"
    )]
    Supervisor(String),
    /// Nobody can talk to the daemon any more.
    #[error("the control socket has failed: {0}; start deployd again (systemd does)")]
    Control(String),
    /// TLS can't be set up.
    #[error("cannot set up downloads: {0}; are the certificates of the system in place?")]
    Tls(String),
}

impl DaemonError {
    /// The exit code, as in sysexits.h: 65 the store is damaged, 70 the supervisor crashed, 74 the
    /// store can't be written, 75 another daemon is here, 78 configuration or catalog; else 1. Starting
    /// the daemon again helps against some of these, and not against others.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Store(error) => match error {
                StoreError::Damaged { .. }
                | StoreError::Refused(_)
                | StoreError::Unsafe { .. }
                | StoreError::Gone { .. }
                | StoreError::Row { .. }
                | StoreError::Journal { .. } => 65,
                StoreError::CommitUnknown(_) | StoreError::Closed | StoreError::Io { .. } => 74,
                StoreError::Locked { .. } => 75,
                StoreError::Newer { .. } => 78,
                StoreError::Copy(_) | StoreError::Read(_) => 1,
            },
            Self::Listen(control::listen::ListenError::Taken(_)) => 75,
            Self::Catalog(_) => 78,
            Self::Supervisor(_) => 70,
            Self::Listen(_) | Self::Control(_) | Self::Io { .. } | Self::Tls(_) => 1,
        }
    }
}

/// How the daemon is told to end or to reload.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// End.
    pub shutdown: CancellationToken,
    /// Read the catalog anew, each time it is notified.
    pub reload: Arc<tokio::sync::Notify>,
}

/// Runs the daemon until it is told to end. Call it inside an actix system.
///
/// # Errors
/// [`DaemonError`] when it can't start, or when the store or a part of it has failed.
pub async fn run(config: Config, signals: Signals) -> Result<(), DaemonError> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    crate::spawn::keep_descriptors()
        .and_then(|()| crate::spawn::expect_children())
        .map_err(|source| DaemonError::Io { what: "prepare for children", source })?;
    let _lock = prepare_state(&config.state_dir)?;
    let store =
        Store::open(&config.state_dir.join("deployd.redb"), &Integrity::Child(config.binary.clone()))?;
    let host = tokio::runtime::Builder::new_multi_thread()
        .thread_name("host")
        .enable_all()
        .build()
        .map_err(|source| DaemonError::Io { what: "start threads", source })?;
    let ended = serve(&config, &signals, &store, host.handle()).await;
    store.close();
    host.shutdown_background();
    ended
}

fn prepare_state(state: &Path) -> Result<StateLock, DaemonError> {
    let io = |what| move |source| DaemonError::Io { what, source };
    let parents: Vec<_> =
        state.ancestors().take_while(|path| !path.exists()).filter_map(Path::parent).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(state)
        .map_err(io("create the state directory (stateDir)"))?;
    // What can't be opened can't be synced, and is no reason not to start.
    for parent in parents.into_iter().filter_map(|parent| fs::File::open(parent).ok()) {
        parent.sync_all().map_err(io("sync the directory of the state directory"))?;
    }
    let lock = StateLock::acquire(state)?;
    // Everything that an earlier daemon had asked for either runs by now or was never started.
    Spawner::wait_for_predecessors(state, PREDECESSOR).map_err(io("take over from an earlier daemon"))?;
    Ok(lock)
}

async fn serve(
    config: &Config,
    signals: &Signals,
    store: &Store,
    host: &tokio::runtime::Handle,
) -> Result<(), DaemonError> {
    let hook = notify::hook::Hook::start(&config.notify, store, host);
    let claims = tasks::interrupt_what_was_active(store).await?;
    let catalog = catalog_dir::read(&config.services_dir, config.systemd.is_some())?;
    let (executor, runtime) = means::build_executor(config, store)?;
    let executor = Arc::new(executor);
    retention::prune_logs(store, &executor)?;
    let (catalog_sender, catalog) = watch::channel(Arc::new(catalog));
    let (held_sender, held) = watch::channel(Held::default());
    let means = means::means(config, &executor, host);
    look_around(host, &executor, &claims);
    let resumable: Vec<_> = claims.iter().filter(|claim| claim.1).map(|claim| claim.0.task).collect();
    let claims = claims.into_iter().map(|claim| claim.0);
    let (retention, logs) = (config.retention, Logs::new(runtime));
    let housekeeping = Housekeeping { store, executor: executor.clone(), retention, logs };
    let supervisor = PlanSupervisor::new(store.clone(), means, catalog_sender, claims, held_sender);
    let (crash, crashed) = watch::channel(None);
    let tell = move |told: ChildCrashed| drop(crash.send_replace(Some(told.panic)));
    let supervisor = guard::start("the plan supervisor".into(), tell, supervisor);
    let draining = Arc::new(AtomicBool::new(false));
    let (services_dir, has_systemd) = (config.services_dir.clone(), config.systemd.is_some());
    let commander = Arc::new(Supervised {
        supervisor: supervisor.clone(),
        store: store.clone(),
        executor,
        host: host.clone(),
        catalog,
        held: held.clone(),
        read_catalog: Box::new(move || catalog_dir::read(&services_dir, has_systemd).map_err(refused)),
        draining: draining.clone(),
    });
    let end_of_control = CancellationToken::new();
    let state = control_state(config, store, commander.clone());
    let mut control = open_control(&config.socket, state, end_of_control.clone())?;
    host_event(store, HostEvent::DaemonStarted { version: env!("CARGO_PKG_VERSION").into() }).await?;
    tracing::info!(socket = %config.socket.display(), "deployd is ready");
    notify::ready();
    actix_rt::spawn(notify::watch(supervisor.clone()));
    commander.sweep_containers();
    if config.resume_on_start {
        tasks::resume_all(&commander, resumable).await;
    }
    let told = until_told(signals, housekeeping, crashed.clone(), held.clone(), &commander);
    let ended = tokio::select! {
        ended = told => ended,
        failed = until_deaf(&mut control) => Err(failed),
    };
    draining.store(true, Ordering::Relaxed);
    // Without the store or the supervisor nothing that still ends could be recorded: no grace.
    let grace = if ended.is_ok() { config.shutdown_grace } else { Duration::ZERO };
    notify::stopping(grace + PREDECESSOR);
    tasks::shut_down(grace, store, &supervisor, held).await;
    hook.finish().await;
    end_of_control.cancel();
    if !control.is_finished() {
        control.await.ok();
    }
    control::listen::remove(&config.socket);
    // It may have crashed over the shutdown itself.
    let crash = crashed.borrow().clone();
    ended.and_then(|()| crash.map_or(Ok(()), |panic| Err(DaemonError::Supervisor(panic))))
}

/// What the start does not wait for.
fn look_around(host: &tokio::runtime::Handle, executor: &Arc<Executor>, claims: &[(Claim, bool)]) {
    // Builds and hooks outlive the daemon; those of tasks that never go on have nobody who would join them.
    let open: HashSet<_> = claims.iter().map(|claim| claim.0.task).collect();
    let executor = executor.clone();
    host.spawn(async move { executor.end_commands_of(|task| !open.contains(&task)).await });
    // The first look at the host's processes looks into each: not only when the first container is stopped.
    host.spawn(crate::spawn::look::look(Instant::now()));
}

fn refused(error: CatalogError) -> Refused {
    match error {
        CatalogError::Invalid(mistakes) => Refused::CatalogInvalid(mistakes),
        error @ CatalogError::Read { .. } => Refused::Host(error.to_string()),
    }
}

fn open_control(
    socket: &Path,
    state: ControlState,
    end: CancellationToken,
) -> Result<JoinHandle<io::Result<()>>, DaemonError> {
    let listener = control::listen::bind(socket)?;
    Ok(actix_rt::spawn(control::serve(listener, state, end)))
}

/// Resolves when nobody can talk to the daemon any more.
async fn until_deaf(control: &mut JoinHandle<io::Result<()>>) -> DaemonError {
    let why = match control.await {
        Ok(Ok(())) => "it has ended".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    DaemonError::Control(why)
}

fn control_state(config: &Config, store: &Store, commander: Arc<dyn Commander>) -> ControlState {
    ControlState {
        commander,
        store: store.clone(),
        access: Access { operators: config.operators.clone(), viewers: config.viewers.clone() },
        state_dir: config.state_dir.clone(),
        tasks_dir: config.state_dir.join("tasks"),
        started: clock::now(),
        runtimes: {
            let config = config.clone();
            Box::new(move || config.runtimes())
        },
        up_since: Instant::now(),
    }
}

async fn host_event(store: &Store, event: HostEvent) -> Result<(), StoreError> {
    store.commit(vec![Change::Host { at: clock::now(), event }]).await.map(|_| ())
}

/// What is done now and then.
struct Housekeeping<'a> {
    store: &'a Store,
    executor: Arc<Executor>,
    retention: Retention,
    logs: Logs,
}

impl Housekeeping<'_> {
    async fn run(&self) {
        match retention::prune_tasks(self.store, &self.executor, self.retention).await {
            Ok(0) => {}
            Ok(tasks) => tracing::info!(tasks, "old tasks were forgotten (retention)"),
            Err(error) => tracing::error!(%error, "cannot forget old tasks"),
        }
        retention::prune_artifacts(self.store, &self.executor).await;
    }
}

/// Waits for the end, reloading and tidying up meanwhile.
async fn until_told(
    signals: &Signals,
    mut housekeeping: Housekeeping<'_>,
    mut crashed: watch::Receiver<Option<String>>,
    mut held: watch::Receiver<Held>,
    commander: &Arc<Supervised>,
) -> Result<(), DaemonError> {
    let mut failed = housekeeping.store.failed();
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    loop {
        notify::status(&notify::summary(&held.borrow_and_update(), commander.catalog().services().len()));
        tokio::select! {
            () = signals.shutdown.cancelled() => return Ok(()),
            _ = failed.wait_for(|failed| *failed) => {
                return Err(StoreError::CommitUnknown("a commit failed".into()).into());
            }
            crash = crashed.wait_for(Option::is_some) => {
                let panic = crash.ok().and_then(|panic| panic.clone());
                return Err(DaemonError::Supervisor(panic.unwrap_or_default()));
            }
            () = signals.reload.notified() => reload(commander).await,
            // A supervisor that is gone is seen above.
            Ok(()) = held.changed() => {}
            _ = tick.tick() => housekeeping.run().await,
            () = housekeeping.logs.due() => housekeeping.logs.look().await,
        }
    }
}

async fn reload(commander: &Arc<Supervised>) {
    notify::reloading();
    match commander.reload(None).await {
        Ok(reloaded) => tracing::info!(services = reloaded.services, "the catalog was reloaded"),
        Err(error) => tracing::error!(%error, "the catalog was not reloaded"),
    }
    notify::ready();
}
