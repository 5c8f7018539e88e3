//! The catalog: the services of this host, one YAML file each.
//!
//! `parse` reads the files with positions, `check` turns them into a
//! [`Catalog`] or into all the mistakes at once. A task keeps the definitions
//! with which it started, so a [`Service`] is shared and never changed.

pub mod check;
pub mod keys;
pub mod parse;

pub use parse::expand;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;

/// The id of a service: 1 … 2^63-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(u64);

impl ServiceId {
    /// `None` when `id` is zero or beyond 2^63-1.
    pub const fn new(id: u64) -> Option<Self> {
        if id == 0 || id > i64::MAX as u64 { None } else { Some(Self(id)) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A label of a container. Never empty, no comma, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(pub String);

/// All services of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    services: BTreeMap<ServiceId, Arc<Service>>,
}

impl Catalog {
    /// A catalog of services whose ids differ (`check` sees to it).
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self { services: services.into_iter().map(|s| (s.id, Arc::new(s))).collect() }
    }

    /// The service with this id.
    pub fn get(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// The service with this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.values().find(|s| s.name == name)
    }

    /// All services, by id.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.services.values()
    }
}

/// A service: something that is released as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its name: `[a-z0-9][a-z0-9-]{0,62}`, unique.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What its containers are, technically (`auto` is already resolved).
    pub runtime: RuntimeKind,
    /// At least one; the order matters for SEQUENTIAL.
    pub containers: Vec<Container>,
    /// How a container is run; `None` when every container names a unit.
    pub run: Option<Run>,
    /// When a started container counts as up.
    pub health: Health,
    /// How COMPILE_DEPLOY builds it.
    pub build: Option<Build>,
    /// Commands around a deployment.
    pub hooks: Hooks,
    /// Directories that outlive releases, relative to the release.
    pub shared_paths: Vec<String>,
    /// How many releases are kept beside the current ones.
    pub keep_releases: u32,
    /// How many leading folders of a package are dropped.
    pub strip_components: u32,
}

impl Service {
    /// The containers that any of these labels chooses, in order; without labels all of them.
    pub fn chosen(&self, labels: &[Label]) -> Vec<&Container> {
        let has_one = |c: &&Container| labels.is_empty() || labels.iter().any(|label| c.has(label));
        self.containers.iter().filter(has_one).collect()
    }

    /// The container with this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }
}

/// What a container is, technically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// A supervised process.
    Process,
    /// A systemd unit.
    Systemd,
    /// A container that an engine runs from an image.
    Engine(Engine),
}

impl RuntimeKind {
    /// As the catalog spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Systemd => "systemd",
            Self::Engine(engine) => engine.name(),
        }
    }
}

/// What runs containers from images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Podman.
    Podman,
    /// Docker.
    Docker,
}

impl Engine {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Podman, Self::Docker];

    /// As the catalog spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }

    /// The engine that is spelt so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }
}

/// One running instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Unique in the service; the same form as a service's name.
    pub name: String,
    /// What plans choose it by.
    pub labels: Vec<Label>,
    /// Its own variables; they win over `run.environment`.
    pub environment: BTreeMap<String, String>,
    /// The unit that exists already and is driven as it is; `None`: one is generated, where the runtime is systemd.
    pub unit: Option<String>,
}

/// What a container's generated unit, or an engine's container, is called.
pub fn generated_name(service: &str, container: &str) -> String {
    format!("deployd-{service}-{container}")
}

impl Container {
    /// Whether a label chooses it. Its name is a label of it, too, so that each can be chosen alone.
    pub fn has(&self, label: &Label) -> bool {
        self.name == label.0 || self.labels.contains(label)
    }
}

/// How a container is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// argv, no shell; `${VAR}` comes from the container's environment.
    pub command: Vec<String>,
    /// As whom; `None` is the daemon's own user.
    pub user: Option<String>,
    /// Variables of all containers.
    pub environment: BTreeMap<String, String>,
    /// A file of `KEY=value` lines, read at each start.
    pub environment_file: Option<String>,
    /// The signal's name, as `SIGTERM`.
    pub stop_signal: String,
    /// After it comes SIGKILL to the whole group.
    pub stop_timeout: Duration,
    /// What it may use.
    pub limits: Limits,
    /// The image that an engine runs the command in.
    pub image: Option<String>,
}

impl Run {
    /// Whether the command lies in the release, so that it can't run without one.
    pub fn needs_release(&self) -> bool {
        self.command.first().is_some_and(|program| !program.starts_with('/') && program.contains('/'))
    }
}

/// What a container or a build may use; `None` is no limit of ours. All but `open_files` need a runtime with cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_max: Option<u64>,
    /// Percent of one processor.
    pub cpu_quota: Option<u32>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
    /// RLIMIT_NOFILE.
    pub open_files: Option<u64>,
}

/// When a started container counts as up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked; `None`: alive after `settle`.
    pub probe: Option<Probe>,
    /// Between two questions.
    pub interval: Duration,
    /// Until it must be healthy.
    pub timeout: Duration,
    /// How long it must stay alive after it was started (and healthy).
    pub settle: Duration,
}

/// What a health check asks. `${VAR}` comes from the container's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET this URL: 2xx and 3xx are healthy.
    Http(Address),
    /// `host:port` accepts a connection.
    Tcp(Address),
    /// This command, as the container's user, in its release, exits 0.
    Command(Vec<String>),
}

/// How COMPILE_DEPLOY builds a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// argv, in a clean checkout.
    pub command: Vec<String>,
    /// As whom; `None`: deployd-build, else nobody (the daemon's own user when it isn't root).
    pub user: Option<String>,
    /// File or directory that becomes the artifact, relative to the checkout.
    pub output: String,
    /// Then the whole process tree is ended.
    pub timeout: Duration,
    /// Its variables.
    pub environment: BTreeMap<String, String>,
    /// It may use the network, where a sandbox would take it from it.
    pub network: bool,
    /// What it may use, where that can be limited.
    pub limits: Limits,
}

/// Commands around a deployment, with `DEPLOYD_*` in the environment, run as
/// the service's user in its newest release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// When it fails, nothing was touched.
    pub pre_deploy: Option<Vec<String>>,
    /// When it fails, the deployment fails.
    pub post_deploy: Option<Vec<String>>,
}
