//! Services and ways of release, as a task keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};

use super::RowError;
use crate::catalog::{
    Build, Container, Engine, Health, Hooks, Label, Limits, Probe, Run, RuntimeKind, Service, ServiceId,
};
use crate::plan::{ContainerOrder, Way};
use crate::task::deployment::DeploymentSpec;

#[derive(Debug, Encode, Decode)]
pub struct SpecV1 {
    service: ServiceV1,
    priority: i64,
    way: WayV1,
    parallel: bool,
    labels: Vec<String>,
    containers: Vec<String>,
}

#[derive(Debug, Encode, Decode)]
pub enum WayV1 {
    Start,
    Stop,
    Restart,
    HttpUpload { uri: String, sha256: Option<String> },
    Compile { repository: String, branch: String, commit: Option<String> },
}

#[derive(Debug, Encode, Decode)]
struct ServiceV1 {
    id: u64,
    name: String,
    description: Option<String>,
    runtime: RuntimeV1,
    containers: Vec<ContainerV1>,
    run: Option<RunV1>,
    health: HealthV1,
    build: Option<BuildV1>,
    pre_deploy: Option<Vec<String>>,
    post_deploy: Option<Vec<String>>,
    shared_paths: Vec<String>,
    keep_releases: u32,
    strip_components: u32,
}

#[derive(Debug, Encode, Decode)]
enum RuntimeV1 {
    Process,
    Systemd,
    Podman,
    Docker,
}

#[derive(Debug, Encode, Decode)]
struct ContainerV1 {
    name: String,
    labels: Vec<String>,
    environment: BTreeMap<String, String>,
    unit: Option<String>,
}

#[derive(Debug, Encode, Decode)]
struct RunV1 {
    command: Vec<String>,
    user: Option<String>,
    environment: BTreeMap<String, String>,
    environment_file: Option<String>,
    stop_signal: String,
    stop_timeout: Duration,
    limits: LimitsV1,
    image: Option<String>,
}

#[derive(Debug, Encode, Decode)]
struct LimitsV1 {
    memory_max: Option<u64>,
    cpu_quota: Option<u32>,
    tasks_max: Option<u64>,
    open_files: Option<u64>,
}

#[derive(Debug, Encode, Decode)]
struct HealthV1 {
    probe: Option<ProbeV1>,
    interval: Duration,
    timeout: Duration,
    settle: Duration,
}

#[derive(Debug, Encode, Decode)]
enum ProbeV1 {
    Http(String),
    Tcp(String),
    Command(Vec<String>),
}

#[derive(Debug, Encode, Decode)]
struct BuildV1 {
    command: Vec<String>,
    user: Option<String>,
    output: String,
    timeout: Duration,
    environment: BTreeMap<String, String>,
    network: bool,
    limits: LimitsV1,
}

impl From<&DeploymentSpec> for SpecV1 {
    fn from(spec: &DeploymentSpec) -> Self {
        Self {
            service: (&*spec.service).into(),
            priority: spec.priority,
            way: (&spec.way).into(),
            parallel: spec.order == ContainerOrder::Parallel,
            labels: texts(&spec.labels),
            containers: spec.containers.clone(),
        }
    }
}

impl TryFrom<SpecV1> for DeploymentSpec {
    type Error = RowError;

    fn try_from(row: SpecV1) -> Result<Self, RowError> {
        Ok(Self {
            service: Arc::new(row.service.try_into()?),
            priority: row.priority,
            way: row.way.into(),
            order: if row.parallel { ContainerOrder::Parallel } else { ContainerOrder::Sequential },
            labels: labels(row.labels),
            containers: row.containers,
        })
    }
}

impl From<&Way> for WayV1 {
    fn from(way: &Way) -> Self {
        match way.clone() {
            Way::Start => Self::Start,
            Way::Stop => Self::Stop,
            Way::Restart => Self::Restart,
            Way::HttpUpload { uri, sha256 } => Self::HttpUpload { uri: uri.reveal().into(), sha256 },
            Way::Compile { repository, branch, commit } => {
                Self::Compile { repository: repository.reveal().into(), branch, commit }
            }
        }
    }
}

impl From<WayV1> for Way {
    fn from(row: WayV1) -> Self {
        match row {
            WayV1::Start => Self::Start,
            WayV1::Stop => Self::Stop,
            WayV1::Restart => Self::Restart,
            WayV1::HttpUpload { uri, sha256 } => Self::HttpUpload { uri: uri.into(), sha256 },
            WayV1::Compile { repository, branch, commit } => {
                Self::Compile { repository: repository.into(), branch, commit }
            }
        }
    }
}

impl From<&Service> for ServiceV1 {
    fn from(service: &Service) -> Self {
        let service = service.clone();
        Self {
            id: service.id.get(),
            name: service.name,
            description: service.description,
            runtime: match service.runtime {
                RuntimeKind::Process => RuntimeV1::Process,
                RuntimeKind::Systemd => RuntimeV1::Systemd,
                RuntimeKind::Engine(Engine::Podman) => RuntimeV1::Podman,
                RuntimeKind::Engine(Engine::Docker) => RuntimeV1::Docker,
            },
            containers: service.containers.iter().map(Into::into).collect(),
            run: service.run.map(Into::into),
            health: service.health.into(),
            build: service.build.map(Into::into),
            pre_deploy: service.hooks.pre_deploy,
            post_deploy: service.hooks.post_deploy,
            shared_paths: service.shared_paths,
            keep_releases: service.keep_releases,
            strip_components: service.strip_components,
        }
    }
}

impl TryFrom<ServiceV1> for Service {
    type Error = RowError;

    fn try_from(row: ServiceV1) -> Result<Self, RowError> {
        Ok(Self {
            id: service_id(row.id)?,
            name: row.name,
            description: row.description,
            runtime: match row.runtime {
                RuntimeV1::Process => RuntimeKind::Process,
                RuntimeV1::Systemd => RuntimeKind::Systemd,
                RuntimeV1::Podman => RuntimeKind::Engine(Engine::Podman),
                RuntimeV1::Docker => RuntimeKind::Engine(Engine::Docker),
            },
            containers: row.containers.into_iter().map(Into::into).collect(),
            run: row.run.map(Into::into),
            health: row.health.into(),
            build: row.build.map(Into::into),
            hooks: Hooks { pre_deploy: row.pre_deploy, post_deploy: row.post_deploy },
            shared_paths: row.shared_paths,
            keep_releases: row.keep_releases,
            strip_components: row.strip_components,
        })
    }
}

impl From<&Container> for ContainerV1 {
    fn from(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            labels: texts(&container.labels),
            environment: container.environment.clone(),
            unit: container.unit.clone(),
        }
    }
}

impl From<ContainerV1> for Container {
    fn from(row: ContainerV1) -> Self {
        Self { name: row.name, labels: labels(row.labels), environment: row.environment, unit: row.unit }
    }
}

impl From<Run> for RunV1 {
    fn from(run: Run) -> Self {
        let Run { command, user, environment, environment_file, stop_signal, stop_timeout, limits, image } =
            run;
        let limits = limits.into();
        Self { command, user, environment, environment_file, stop_signal, stop_timeout, limits, image }
    }
}

impl From<RunV1> for Run {
    fn from(row: RunV1) -> Self {
        let RunV1 { command, user, environment, environment_file, stop_signal, stop_timeout, limits, image } =
            row;
        let limits = limits.into();
        Self { command, user, environment, environment_file, stop_signal, stop_timeout, limits, image }
    }
}

impl From<Limits> for LimitsV1 {
    fn from(limits: Limits) -> Self {
        let Limits { memory_max, cpu_quota, tasks_max, open_files } = limits;
        Self { memory_max, cpu_quota, tasks_max, open_files }
    }
}

impl From<LimitsV1> for Limits {
    fn from(row: LimitsV1) -> Self {
        let LimitsV1 { memory_max, cpu_quota, tasks_max, open_files } = row;
        Self { memory_max, cpu_quota, tasks_max, open_files }
    }
}

impl From<Health> for HealthV1 {
    fn from(health: Health) -> Self {
        let probe = health.probe.map(|probe| match probe {
            Probe::Http(url) => ProbeV1::Http(url.reveal().into()),
            Probe::Tcp(address) => ProbeV1::Tcp(address.reveal().into()),
            Probe::Command(command) => ProbeV1::Command(command),
        });
        Self { probe, interval: health.interval, timeout: health.timeout, settle: health.settle }
    }
}

impl From<HealthV1> for Health {
    fn from(row: HealthV1) -> Self {
        let probe = row.probe.map(|probe| match probe {
            ProbeV1::Http(url) => Probe::Http(url.into()),
            ProbeV1::Tcp(address) => Probe::Tcp(address.into()),
            ProbeV1::Command(command) => Probe::Command(command),
        });
        Self { probe, interval: row.interval, timeout: row.timeout, settle: row.settle }
    }
}

impl From<Build> for BuildV1 {
    fn from(build: Build) -> Self {
        let Build { command, user, output, timeout, environment, network, limits } = build;
        Self { command, user, output, timeout, environment, network, limits: limits.into() }
    }
}

impl From<BuildV1> for Build {
    fn from(row: BuildV1) -> Self {
        let BuildV1 { command, user, output, timeout, environment, network, limits } = row;
        Self { command, user, output, timeout, environment, network, limits: limits.into() }
    }
}

/// A service's id out of a row.
pub fn service_id(id: u64) -> Result<ServiceId, RowError> {
    ServiceId::new(id).ok_or_else(|| RowError::Decode(format!("{id} is no service id")))
}

fn texts(labels: &[Label]) -> Vec<String> {
    labels.iter().map(|label| label.0.clone()).collect()
}

fn labels(texts: Vec<String>) -> Vec<Label> {
    texts.into_iter().map(Label).collect()
}
