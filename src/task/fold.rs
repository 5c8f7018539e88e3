//! A task is the fold of its events.
//!
//! The same function serves the running task and the reading of the journal. An event that is
//! illegal in the state it meets is refused: in a running task it is a command that came too late,
//! in the journal it means that the journal is corrupt.

use super::decide::{Decision, decide};
use super::deployment::{Deployment, DeploymentState, DeploymentStep};
use super::event::{Definition, Event};
use super::operation::{Done, Operation, OperationEnd, OperationState};
use super::standing::Standing;
use super::state::{Refusal, TaskState, Transition};
use super::{Batch, Caller, Reason, Task, TaskId, Timestamp};

/// An event that can't happen in the state it met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The task's state forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A deployment or an operation is not in the state that the event needs.
    #[error("cannot apply event {event} to {what}: it is {state}")]
    OutOfOrder {
        /// The event.
        event: &'static str,
        /// "deployment 3" or "operation 1 of deployment 3".
        what: String,
        /// The state it is in.
        state: &'static str,
    },
    /// The event names a deployment or an operation that the task does not have.
    #[error("cannot apply event {0}: the task has no such deployment or operation")]
    Unknown(&'static str),
    /// A task begins with exactly one `task.started`.
    #[error("cannot apply event {0}: a task begins with task.started, once")]
    NotStarted(&'static str),
}

impl Task {
    /// The task after its first event.
    ///
    /// # Errors
    /// When the event is not [`Event::Started`].
    pub fn begin(id: TaskId, event: &Event, at: Timestamp) -> Result<Self, Illegal> {
        match event {
            Event::Started { by, definition } => Ok(Self::started(id, by, definition, at)),
            other => Err(Illegal::NotStarted(other.name())),
        }
    }

    fn started(id: TaskId, by: &Caller, definition: &Definition, at: Timestamp) -> Self {
        let deployments: Vec<_> = definition.deployments.iter().cloned().map(Deployment::pending).collect();
        let mut batches: Vec<Batch> = Vec::new();
        for (index, deployment) in deployments.iter().enumerate() {
            match batches.last_mut() {
                Some(batch) if batch.priority == deployment.spec.priority => {
                    batch.deployments.end = index + 1;
                }
                _ => {
                    batches.push(Batch { priority: deployment.spec.priority, deployments: index..index + 1 });
                }
            }
        }
        let standing = Standing::of(&batches, &deployments);
        Self {
            id,
            plan: definition.plan.clone(),
            revision: definition.revision,
            comment: definition.comment.clone(),
            state: TaskState::Running,
            reason: None,
            created_by: by.clone(),
            started_at: at,
            finished_at: None,
            changed_at: at,
            batches,
            deployments,
            standing,
        }
    }

    /// The task after one more event. On an error nothing has changed.
    ///
    /// # Errors
    /// [`Illegal`] when the event can't happen now.
    pub fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), Illegal> {
        match event {
            Event::Started { .. } => Err(Illegal::NotStarted(event.name())),
            Event::StopRequested { .. } => self.move_to(Transition::Stop, Some(Reason::StoppedByUser), at),
            // Stopping has to be asked for first: this only says how.
            Event::CutRequested { .. } if self.state == TaskState::Stopping => Ok(()),
            Event::CutRequested { .. } => {
                Err(Refusal { state: self.state, asked: Transition::Stop.name() }.into())
            }
            Event::PauseRequested { .. } => self.move_to(Transition::Pause, Some(Reason::PausedByUser), at),
            Event::Resumed { .. } => {
                let reason = self.has_failed().then_some(Reason::Failing);
                self.move_to(Transition::Resume, reason, at)
            }
            Event::Interrupted { reason } => self.interrupt(*reason, at),
            Event::Completed | Event::Failed | Event::Drained => self.rest(event, at),
            Event::OperationBegun { .. } | Event::OperationEnded { .. } => self.apply_operation(event, at),
            _ => self.apply_deployment(event, at),
        }
    }

    fn move_to(
        &mut self,
        transition: Transition,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<(), Illegal> {
        self.state = self.state.next(transition)?;
        self.reason = reason;
        self.changed_at = at;
        self.finished_at = (!self.state.is_active()).then_some(at);
        if self.state.is_final() {
            self.hold_back();
        }
        Ok(())
    }

    /// A task comes to rest by the one event that its deployments decide for.
    fn rest(&mut self, event: &Event, at: Timestamp) -> Result<(), Illegal> {
        let (transition, reason) = match event {
            Event::Completed => (Transition::Complete, None),
            Event::Failed => (Transition::Fail, Some(Reason::DeploymentFailed)),
            _ => (Transition::Drain, self.reason),
        };
        self.state.next(transition)?;
        if !matches!(decide(self), Decision::Rest(decided) if decided == *event) {
            return Err(out_of_order(event, "the task".into(), self.state.name()));
        }
        self.move_to(transition, reason, at)
    }

    /// What has not begun when a task ends is held back for good, also in a deployment that was cut.
    fn hold_back(&mut self) {
        for deployment in &mut self.deployments {
            if deployment.state == DeploymentState::Pending {
                deployment.state = DeploymentState::Skipped;
            }
            skip_pending(deployment);
        }
        self.standing = Standing::of(&self.batches, &self.deployments);
    }

    fn interrupt(&mut self, reason: Reason, at: Timestamp) -> Result<(), Illegal> {
        self.move_to(Transition::Fault, Some(reason), at)?;
        for deployment in &mut self.deployments {
            deployment.cut();
        }
        self.standing = Standing::of(&self.batches, &self.deployments);
        Ok(())
    }

    fn apply_deployment(&mut self, event: &Event, at: Timestamp) -> Result<(), Illegal> {
        let active = self.state.is_active();
        let (Event::DeploymentBegun { deployment: index }
        | Event::CommitPinned { deployment: index, .. }
        | Event::ArtifactPinned { deployment: index, .. }
        | Event::ReleasePrepared { deployment: index, .. }
        | Event::HookDone { deployment: index, .. }
        | Event::Noted { deployment: index, .. }
        | Event::DeploymentCut { deployment: index }
        | Event::DeploymentEnded { deployment: index, .. }) = event
        else {
            return Err(Illegal::Unknown(event.name()));
        };
        let may_begin = self.may_begin(*index);
        let deployment = self.deployments.get_mut(*index).ok_or(Illegal::Unknown(event.name()))?;
        let legal = match event {
            Event::DeploymentBegun { .. } => may_begin,
            // What is pinned is pinned once; it may be before the deployment's turn.
            Event::CommitPinned { .. } | Event::ArtifactPinned { .. } | Event::ReleasePrepared { .. } => {
                let in_time = matches!(deployment.state, DeploymentState::Pending | DeploymentState::Running);
                active && in_time && is_result_of(event, &deployment.next_step())
            }
            _ if !active || deployment.state != DeploymentState::Running => false,
            Event::DeploymentCut { .. } => self.state == TaskState::Stopping,
            Event::DeploymentEnded { result: Ok(()), .. } => {
                deployment.next_step() == DeploymentStep::Succeed
            }
            Event::DeploymentEnded { .. } => !deployment.is_operating(),
            _ => true,
        };
        if !legal {
            return Err(out_of_order(event, format!("deployment {index}"), deployment.state.name()));
        }
        let before = deployment.state;
        match event {
            Event::DeploymentBegun { .. } => {
                deployment.state = DeploymentState::Running;
                deployment.started_at.get_or_insert(at);
            }
            Event::CommitPinned { commit, .. } => deployment.commit = Some(commit.clone()),
            Event::ArtifactPinned { pin, .. } => deployment.pin = Some(pin.clone()),
            Event::ReleasePrepared { release, .. } => deployment.release = Some(release.clone()),
            Event::HookDone { hook, .. } => deployment.hooks_done.push(*hook),
            Event::Noted { note, .. } => deployment.notes.push(note.clone()),
            Event::DeploymentCut { .. } => deployment.cut(),
            Event::DeploymentEnded { result, .. } => {
                deployment.end(result, at);
                if result.is_err() && self.state == TaskState::Running {
                    self.reason = Some(Reason::Failing);
                }
            }
            _ => return Err(Illegal::Unknown(event.name())),
        }
        self.standing.moved(*index, before, &self.batches, &self.deployments);
        Ok(())
    }

    fn apply_operation(&mut self, event: &Event, at: Timestamp) -> Result<(), Illegal> {
        let (Event::OperationBegun { deployment: d, operation: o, .. }
        | Event::OperationEnded { deployment: d, operation: o, .. }) = event
        else {
            return Err(Illegal::Unknown(event.name()));
        };
        let deployment = self.deployments.get_mut(*d).ok_or(Illegal::Unknown(event.name()))?;
        let going_on = self.state.is_active() && deployment.state == DeploymentState::Running;
        let in_turn = deployment.is_in_turn(*o);
        let operation = deployment.operations.get_mut(*o).ok_or(Illegal::Unknown(event.name()))?;
        let legal = going_on
            && match event {
                Event::OperationBegun { .. } => in_turn && operation.state.is_open(),
                _ => operation.state == OperationState::Running,
            };
        if !legal {
            let what = format!("operation {o} of deployment {d}");
            return Err(out_of_order(event, what, operation.state.name()));
        }
        let before = operation.state;
        match event {
            Event::OperationBegun { evidence, to_release, .. } => {
                operation.state = OperationState::Running;
                operation.started_at.get_or_insert(at);
                // What a crash left behind is no longer what was there before: the first look counts.
                operation.evidence.get_or_insert_with(|| evidence.clone());
                operation.to_release.clone_from(to_release);
            }
            Event::OperationEnded { end, .. } => operation.end(end, at),
            _ => return Err(Illegal::Unknown(event.name())),
        }
        self.standing.operated(before, operation.state);
        deployment.note_end(*o);
        Ok(())
    }

    /// Whether this deployment may begin now: as [`decide`] says, without looking at its siblings.
    fn may_begin(&self, deployment: usize) -> bool {
        let open = match self.deployments.get(deployment).map(|deployment| deployment.state) {
            Some(DeploymentState::Interrupted) => true,
            Some(DeploymentState::Pending) => !self.has_failed(),
            _ => false,
        };
        self.state == TaskState::Running && open && self.batch_number_of(deployment) <= self.standing.batch
    }

    /// Whether something that has not begun may begin, sooner or later.
    pub fn goes_forward(&self) -> bool {
        self.state == TaskState::Running && !self.has_failed()
    }
}

/// Whether an event says that this step of a preparation is done.
const fn is_result_of(event: &Event, step: &DeploymentStep) -> bool {
    matches!(
        (event, step),
        (Event::CommitPinned { .. }, DeploymentStep::ResolveCommit)
            | (Event::ArtifactPinned { .. }, DeploymentStep::ObtainArtifact)
            | (Event::ReleasePrepared { .. }, DeploymentStep::PrepareRelease)
    )
}

impl Deployment {
    /// What was going on is in doubt.
    fn cut(&mut self) {
        if self.state == DeploymentState::Running {
            self.state = DeploymentState::Interrupted;
            self.was_cut = true;
        }
        for operation in &mut self.operations {
            if operation.state == OperationState::Running {
                operation.state = OperationState::Interrupted;
            }
        }
    }

    fn end(&mut self, result: &Result<(), super::Failure>, at: Timestamp) {
        self.finished_at = Some(at);
        match result {
            Ok(()) => self.state = DeploymentState::Succeeded,
            Err(failure) => {
                self.state = DeploymentState::Failed;
                self.error = Some(failure.clone());
                skip_pending(self);
            }
        }
    }
}

impl Deployment {
    /// Keeps along what [`Deployment::next_step`] asks for, after something has happened to this operation.
    fn note_end(&mut self, operation: usize) {
        if self.operations[operation].error.is_some() {
            self.failed = Some(self.failed.map_or(operation, |failed| failed.min(operation)));
        }
        while self.operations.get(self.done).is_some_and(|operation| operation.state.is_done()) {
            self.done += 1;
        }
    }
}

impl Operation {
    fn end(&mut self, end: &OperationEnd, at: Timestamp) {
        self.finished_at = Some(at);
        self.detail.clone_from(&end.detail);
        self.settled = end.settled;
        match &end.result {
            Ok(Done::Unchanged) => self.state = OperationState::Unchanged,
            Ok(Done::Changed(incarnation)) => {
                self.state = OperationState::Succeeded;
                self.incarnation.clone_from(incarnation);
            }
            Err(failure) => {
                self.state = OperationState::Failed;
                self.error = Some(failure.clone());
            }
        }
    }
}

fn skip_pending(deployment: &mut Deployment) {
    for operation in &mut deployment.operations {
        if operation.state == OperationState::Pending {
            operation.state = OperationState::Skipped;
        }
    }
}

fn out_of_order(event: &Event, what: String, state: &'static str) -> Illegal {
    Illegal::OutOfOrder { event: event.name(), what, state }
}
