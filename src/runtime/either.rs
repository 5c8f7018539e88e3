//! The runtime that the executor sees: for each container the one that its catalog entry asks for.
//!
//! A container may still run as what an earlier catalog said. It is found there, too, and stopped there.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::engine::EngineRuntime;
use super::process::ProcessRuntime;
use super::unit::UnitRuntime;
use super::{ContainerRef, Form, Observation, Runtime, RuntimeError, StartSpec, StopReport};
use crate::catalog::Engine;
use crate::spawn::ExitStatus;
use crate::task::operation::Incarnation;

/// Processes, where systemd runs units, and what engines run.
pub struct EitherRuntime {
    /// Where they live.
    services: PathBuf,
    processes: Arc<ProcessRuntime>,
    units: Option<UnitRuntime>,
    podman: EngineRuntime,
    docker: EngineRuntime,
}

impl EitherRuntime {
    /// All runtimes as one; the sockets are Podman's and Docker's.
    ///
    /// # Errors
    /// When a client of an engine can't be set up.
    pub fn new(
        services: PathBuf,
        processes: Arc<ProcessRuntime>,
        units: Option<UnitRuntime>,
        [podman, docker]: [&PathBuf; 2],
    ) -> Result<Self, String> {
        let podman = EngineRuntime::new(Engine::Podman, podman, services.clone())?;
        let docker = EngineRuntime::new(Engine::Docker, docker, services.clone())?;
        Ok(Self { services, processes, units, podman, docker })
    }

    const fn engine(&self, engine: Engine) -> &EngineRuntime {
        match engine {
            Engine::Podman => &self.podman,
            Engine::Docker => &self.docker,
        }
    }

    fn units(&self) -> Result<&UnitRuntime, RuntimeError> {
        self.units.as_ref().ok_or(RuntimeError::NoSystemd)
    }

    fn main(&self, container: &ContainerRef) -> Result<&dyn Runtime, RuntimeError> {
        match container.form {
            Form::Process => Ok(&*self.processes),
            Form::GeneratedUnit | Form::Unit(_) => Ok(self.units()?),
            Form::Engine(engine) => Ok(self.engine(engine)),
        }
    }

    /// What was seen of a container, unless it runs as what it was before.
    async fn or_former(
        &self,
        container: &ContainerRef,
        observed: Observation,
    ) -> Result<Observation, RuntimeError> {
        if matches!(observed, Observation::Running { .. }) {
            return Ok(observed);
        }
        for (runtime, former) in self.others(container) {
            let former = runtime.observe(&former).await?;
            if matches!(former, Observation::Running { .. }) {
                return Ok(former);
            }
        }
        Ok(observed)
    }

    /// What the container may have been before, each as a container of its own.
    fn others(&self, container: &ContainerRef) -> Vec<(&dyn Runtime, ContainerRef)> {
        let mut others: Vec<(&dyn Runtime, ContainerRef)> = Vec::new();
        if container.form != Form::Process {
            others.push((&*self.processes, ContainerRef { form: Form::Process, ..container.clone() }));
        }
        if let Some(units) = &self.units
            && container.form != Form::GeneratedUnit
            && units.has_generated(container)
        {
            others.push((units, ContainerRef { form: Form::GeneratedUnit, ..container.clone() }));
        }
        let engine = EngineRuntime::noted(&self.services, container);
        if let Some(engine) = engine.filter(|engine| container.form != Form::Engine(*engine)) {
            others.push((
                self.engine(engine),
                ContainerRef { form: Form::Engine(engine), ..container.clone() },
            ));
        }
        others
    }
}

#[async_trait]
impl Runtime for EitherRuntime {
    async fn observe(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let observed = self.main(container)?.observe(container).await?;
        self.or_former(container, observed).await
    }

    async fn observe_settled(&self, container: &ContainerRef) -> Result<Observation, RuntimeError> {
        let observed = self.main(container)?.observe_settled(container).await?;
        self.or_former(container, observed).await
    }

    async fn clear(
        &self,
        container: &ContainerRef,
        signal: &str,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        for (runtime, former) in self.others(container) {
            runtime.stop(&former, signal, timeout).await?;
        }
        self.main(container)?.clear(container, signal, timeout).await
    }

    async fn ready(&self, spec: &StartSpec) -> Result<(), RuntimeError> {
        self.main(&spec.container)?.ready(spec).await
    }

    async fn start(&self, spec: StartSpec) -> Result<Incarnation, RuntimeError> {
        self.main(&spec.container)?.start(spec).await
    }

    async fn stop(
        &self,
        container: &ContainerRef,
        signal: &str,
        timeout: Duration,
    ) -> Result<StopReport, RuntimeError> {
        let mut report = StopReport { killed: false, took: Duration::ZERO };
        // The mark of a process and that of a unit are two files: each runtime removes its own.
        for (runtime, former) in self.others(container) {
            let stopped = runtime.stop(&former, signal, timeout).await?;
            report.killed |= stopped.killed;
            report.took += stopped.took;
        }
        let stopped = self.main(container)?.stop(container, signal, timeout).await?;
        Ok(StopReport { killed: report.killed | stopped.killed, took: report.took + stopped.took })
    }

    async fn sweep(&self, keep: &HashSet<ContainerRef>) -> Result<(), RuntimeError> {
        match &self.units {
            Some(units) => units.sweep(keep).await,
            None => Ok(()),
        }
    }

    async fn exited(&self, container: &ContainerRef, incarnation: &Incarnation) -> Option<ExitStatus> {
        match self.main(container) {
            Ok(runtime) => runtime.exited(container, incarnation).await,
            Err(_) => None,
        }
    }

    async fn last_lines(&self, container: &ContainerRef, lines: usize) -> Vec<String> {
        match self.main(container) {
            Ok(runtime) => runtime.last_lines(container, lines).await,
            Err(_) => Vec::new(),
        }
    }

    async fn run_inside(
        &self,
        container: &ContainerRef,
        argv: &[String],
        time: Duration,
    ) -> Result<(i64, String), RuntimeError> {
        self.main(container)?.run_inside(container, argv, time).await
    }
}
