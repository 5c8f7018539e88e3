//! From the domain to the wire, by exhaustive matches.

mod event;
mod preview;

use std::collections::BTreeMap;

use deployctl::wire;
use deployctl::wire::report::{Artifact, Deployment, Failure, Operation, Report};
use deployctl::wire::task::{
    Batch, DeploymentCounts, OperationCounts, OperationWait, Progress, Task, TaskStatus, Usual, Waiting,
};

use crate::actors::{ContainerView, Preparation, Wait};
use crate::address::{Shown, mask_text};
use crate::catalog::Service;
use crate::store::StoredEvent;
use crate::task::deployment::{self, DeploymentState, DeploymentStep};
use crate::task::forecast::{self, Forecast};
use crate::task::operation::{self, OperationState, Settled};
use crate::task::state::TaskState;
use crate::task::summary::TaskSummary;
use crate::task::{self, Caller, TaskId, Timestamp};
pub use preview::dry_run;

pub use event::Names;

/// RFC 3339 in UTC, with microseconds.
pub fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0).map(|at| format!("{at:.6}")).unwrap_or_default()
}

/// A caller.
pub fn caller(caller: Caller) -> wire::Caller {
    wire::Caller { uid: caller.uid, user: caller.user, pid: caller.pid, program: caller.program }
}

/// What lists show of a task.
pub fn task(summary: TaskSummary) -> Task {
    let p = summary.progress;
    Task {
        id: summary.id.0,
        plan: summary.plan,
        revision: summary.revision,
        comment: summary.comment,
        state: summary.state.name().into(),
        reason: summary.reason.map(|reason| reason.name().into()),
        created_by: caller(summary.created_by),
        started_at: time(summary.started_at),
        finished_at: summary.finished_at.map(time),
        since: time(summary.changed_at),
        progress: Progress {
            deployments: DeploymentCounts {
                total: p.total,
                pending: p.pending,
                running: p.running,
                succeeded: p.succeeded,
                failed: p.failed,
                skipped: p.skipped,
                interrupted: p.interrupted,
            },
            operations: OperationCounts { total: p.operations, done: p.operations_done },
        },
        possible: summary.state.possible().iter().map(|verb| (*verb).into()).collect(),
        idempotency_key: None,
        warnings: Vec::new(),
    }
}

/// A task and what it waits for; `usual` knows how long deployments take, `preparations` how far they
/// are, by their index, and `waits` what their operations wait for.
pub fn status(
    task_: &task::Task,
    usual: impl Fn(&deployment::DeploymentSpec) -> Option<Forecast>,
    preparations: &BTreeMap<usize, Preparation>,
    waits: &[Wait],
) -> TaskStatus {
    let batches = task_.batches.iter().map(|batch| {
        let mut counts = DeploymentCounts::default();
        for deployment in &task_.deployments[batch.deployments.clone()] {
            counts.total += 1;
            *match deployment.state {
                DeploymentState::Pending => &mut counts.pending,
                DeploymentState::Running => &mut counts.running,
                DeploymentState::Succeeded => &mut counts.succeeded,
                DeploymentState::Failed => &mut counts.failed,
                DeploymentState::Skipped => &mut counts.skipped,
                DeploymentState::Interrupted => &mut counts.interrupted,
            } += 1;
        }
        Batch { priority: batch.priority, deployments: counts }
    });
    let going_on = task_.deployments.iter().enumerate();
    let going_on = going_on.filter(|(_, deployment)| deployment.state == DeploymentState::Running);
    let going_on: Vec<_> = going_on.map(|(index, it)| (index, it, usual(&it.spec))).collect();
    let begun = |it: &deployment::Deployment| it.started_at.unwrap_or(task_.started_at);
    let drains = matches!(task_.state, TaskState::Stopping | TaskState::Pausing)
        || task_.reason == Some(task::Reason::Failing);
    let ends = going_on.iter().map(|(_, deployment, usual)| (begun(deployment), *usual));
    let quiet = forecast::quiet(ends).filter(|_| drains);
    TaskStatus {
        task: task(TaskSummary::of(task_, 0)),
        batches: batches.collect(),
        waiting_for: going_on
            .iter()
            .map(|(index, it, usual)| {
                let theirs = waits.iter().filter(|wait| wait.deployment == *index);
                let operations = theirs.map(operation_wait).collect();
                Waiting { operations, ..waiting(it, *usual, preparations.get(index)) }
            })
            .collect(),
        quiet_at: quiet.map(|quiet| time(quiet.0)),
        quiet_by: quiet.map(|quiet| time(quiet.1)),
    }
}

fn waiting(
    deployment: &deployment::Deployment,
    usual: Option<Forecast>,
    preparation: Option<&Preparation>,
) -> Waiting {
    let running = deployment.operations.iter().filter(|operation| operation.state == OperationState::Running);
    let containers: Vec<&str> = running.map(|operation| &*operation.container).collect();
    let doing = match deployment.next_step() {
        _ if !containers.is_empty() => containers.join(", "),
        DeploymentStep::ResolveCommit => "resolving the branch".into(),
        DeploymentStep::ObtainArtifact => "obtaining the artifact".into(),
        DeploymentStep::PrepareRelease => "making the release".into(),
        DeploymentStep::RunHook(hook) => format!("hook {}", hook.name()),
        DeploymentStep::Operate(_) => "looking at its containers".into(),
        DeploymentStep::Succeed | DeploymentStep::Fail(_) => "ending".into(),
    };
    Waiting {
        service_id: deployment.spec.service.id.get(),
        service: deployment.spec.service.name.clone(),
        deployment: deployment.spec.way.name().into(),
        doing,
        since: deployment.started_at.map(time).unwrap_or_default(),
        usual: usual.map(usual_time),
        preparation: preparation.map(|it| wire::task::Preparation {
            stage: it.stage.name().into(),
            since: time(it.since),
            bytes: it.bytes,
            total: it.total,
            line: it.line.clone(),
        }),
        operations: Vec::new(),
    }
}

fn operation_wait(wait: &Wait) -> OperationWait {
    OperationWait {
        container: wait.container.clone(),
        doing: wait.doing.name().into(),
        since: time(wait.since),
        unit: wait.standing.clone().map(|it| wire::task::UnitStanding {
            name: it.name,
            active_state: it.active,
            sub_state: it.sub,
            status_text: it.text,
            waiting_job: it.job,
        }),
    }
}

fn usual_time(usual: Forecast) -> Usual {
    Usual { p50: usual.p50 / 1000, p90: usual.p90 / 1000, samples: usual.samples as u64 }
}

/// The report of a task; `usual` knows how long deployments took before it began.
pub fn report(
    task_: &task::Task,
    events: &[StoredEvent],
    usual: impl Fn(&deployment::DeploymentSpec) -> Option<Forecast>,
) -> Report {
    let mut names = Names::of(task_);
    Report {
        task: task(TaskSummary::of(task_, events.len() as u64)),
        deployments: task_.deployments.iter().map(|it| deployment(it, usual(&it.spec))).collect(),
        events: events.iter().map(|event| names.known(event)).collect(),
    }
}

fn deployment(deployment: &deployment::Deployment, usual: Option<Forecast>) -> Deployment {
    let spec = &deployment.spec;
    Deployment {
        service_id: spec.service.id.get(),
        service: spec.service.name.clone(),
        priority: spec.priority,
        deployment: spec.way.name().into(),
        container_exec_method: spec.order.name().into(),
        labels: spec.labels.iter().map(|label| label.0.clone()).collect(),
        state: deployment.state.name().into(),
        started_at: deployment.started_at.map(time),
        finished_at: deployment.finished_at.map(time),
        usual: usual.map(usual_time),
        artifact: deployment.pin.as_ref().map(artifact),
        release: deployment.release.clone(),
        operations: deployment.operations.iter().map(operation).collect(),
        notes: deployment.notes.iter().map(|note| mask_text(note)).collect(),
        error: deployment.error.as_ref().map(failure),
    }
}

fn artifact(pin: &deployment::Pin) -> Artifact {
    Artifact {
        source: Shown::of(&pin.source).into(),
        sha256: pin.sha256.clone(),
        bytes: pin.bytes,
        commit: pin.commit.clone(),
    }
}

fn operation(operation: &operation::Operation) -> Operation {
    Operation {
        container: operation.container.clone(),
        state: operation.state.name().into(),
        started_at: operation.started_at.map(time),
        finished_at: operation.finished_at.map(time),
        from_release: operation.from_release().map(str::to_string),
        to_release: operation.to_release.clone(),
        detail: mask_text(&detail(operation)),
        settled: operation.settled.map(|settled| settled_name(settled).into()),
        forced: operation.renewals.iter().any(|renewal| renewal.forced),
        earlier_ids: operation.renewals.iter().map(|renewal| renewal.earlier.clone()).collect(),
        operation_id: operation.renewals.last().map(|renewal| renewal.id.clone()),
        error: operation.error.as_ref().map(failure),
    }
}

/// What it came to, and why it began anew.
fn detail(operation: &operation::Operation) -> String {
    let anew = operation.renewals.iter().map(|renewal| {
        let how = if renewal.forced { "forced" } else { "begun anew" };
        format!("{how}: {}", renewal.why)
    });
    let said = Some(operation.detail.clone()).filter(|detail| !detail.is_empty());
    said.into_iter().chain(anew).collect::<Vec<_>>().join("; ")
}

/// How doubt was settled.
pub const fn settled_name(settled: Settled) -> &'static str {
    match settled {
        Settled::FoundDone => "foundDone",
        Settled::Completed => "completed",
    }
}

/// Why something failed. What an earlier version has recorded may hold the secrets of addresses.
pub fn failure(failure: &task::Failure) -> Failure {
    Failure { code: failure.code.clone(), message: mask_text(&failure.message), log: failure.log.clone() }
}

/// A service and its containers.
pub fn service(
    service: &Service,
    containers: Vec<ContainerView>,
    task: Option<TaskId>,
) -> wire::service::Service {
    let containers = containers.into_iter().map(|view| wire::service::Container {
        name: view.name,
        labels: view.labels,
        state: view.state.into(),
        pid: view.pid,
        since: view.since.map(time),
        release: view.release,
        running_release: view.running_release,
        detail: view.detail,
    });
    wire::service::Service {
        service_id: service.id.get(),
        name: service.name.clone(),
        description: service.description.clone(),
        runtime: service.runtime.name().into(),
        containers: containers.collect(),
        task: task.map(|task| task.0),
    }
}
