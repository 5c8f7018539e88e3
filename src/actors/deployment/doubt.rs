//! An operation in doubt whose container changed since: it goes on under a new id.

use super::{Course, Stopped};
use crate::executor::{Looked, Target};
use crate::random;
use crate::store::{Snapshot, StoreError};
use crate::task::drift::Doubt;
use crate::task::event::Event;
use crate::task::nonce::Nonce;
use crate::task::operation::{OperationState, Renewal};
use crate::task::record::touches;
use crate::task::{Failure, Task, TaskId};

impl Course {
    /// Gives an operation in doubt a new id, when what it did may be gone: by hand, or by another task. Its beginning
    /// under that id follows in the journal, and is on disk before anything is done.
    pub(super) fn renew(
        &self,
        operation: usize,
        target: &mut Target,
        looked: &mut Looked,
    ) -> Result<(), Stopped> {
        let index = self.subject.deployment;
        let in_doubt = self.deployment(|deployment| {
            let it = &deployment.operations[operation];
            (it.state == OperationState::Interrupted).then(|| it.clone())
        });
        let Some(in_doubt) = in_doubt else { return Ok(()) };
        let way = &self.subject.way;
        let by = if touches(way, &in_doubt) {
            self.touched_since(&target.container.name).map_err(Stopped::Store)?
        } else {
            None
        };
        let Some(cause) = Doubt::of(way, &target.id, &in_doubt).renewal(&looked.seen, by) else {
            return Ok(());
        };
        let nonce = random::number().map_err(|error| no_number(&error))?;
        let id = Task::operation_id(
            &self.executor.instance,
            self.subject.task,
            Some(Nonce(nonce)),
            index,
            operation,
        );
        let earlier = std::mem::replace(&mut target.id, id.clone());
        target.in_doubt = None;
        *looked = Looked::of(looked.seen.clone(), way, &id);
        let renewal =
            Renewal { earlier, id, forced: cause.forced, why: cause.why, evidence: looked.evidence(way) };
        self.note(Event::OperationRenewed { deployment: index, operation, renewal })
    }

    /// The other task that touched a container after this one: its operation noted its own touch when it began.
    fn touched_since(&self, container: &str) -> Result<Option<TaskId>, StoreError> {
        let (me, service) = (self.subject.task, self.subject.service.id);
        let snapshot = self.ledger.snapshot()?;
        let by = match snapshot.touch(service, container)? {
            Some((_, touch)) => Some(touch.task),
            None => changed_after(&snapshot, me, service, container)?,
        };
        Ok(by.filter(|by| *by != me))
    }
}

/// Earlier versions noted no touches: only the changes that ended.
fn changed_after(
    snapshot: &Snapshot,
    task: TaskId,
    service: crate::catalog::ServiceId,
    container: &str,
) -> Result<Option<TaskId>, StoreError> {
    let changes = snapshot.changes(service)?;
    Ok(changes
        .iter()
        .map(|(_, it)| it)
        .find(|it| it.container == container && it.task > task)
        .map(|it| it.task))
}

fn no_number(error: &std::io::Error) -> Stopped {
    let message = format!("cannot draw a random number for the operation: {error}; check /dev/urandom");
    Stopped::Failed(Failure { code: "internal".into(), message, log: Vec::new() })
}
