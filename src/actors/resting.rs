//! What a user should know who executes a plan over the services of tasks that are PAUSED or INTERRUPTED.

use super::Refused;
use super::stored_plan::unavailable;
use crate::store::{JournalEvent, Snapshot};
use crate::task::admission::{Claim, Services, admit};
use crate::task::event::Event;

/// What the user should know of such a task.
pub fn warning(claim: &Claim) -> String {
    let Claim { task, user, state, .. } = claim;
    format!(
        "task {task} of {user} over the same services is {state}; its resume will be refused without --force \
         once their containers changed: `deployctl resume {task}` first, or `deployctl stop {task}`"
    )
}

/// The warnings for a task over `services` that is yet to be, read from the store.
pub fn warnings(snapshot: &Snapshot, services: &Services) -> Result<Vec<String>, Refused> {
    let claims = claims(snapshot).map_err(|error| unavailable(&error))?;
    Ok(admit(None, services, &claims).resting.into_iter().map(warning).collect())
}

fn claims(snapshot: &Snapshot) -> Result<Vec<Claim>, crate::store::StoreError> {
    let mut claims = Vec::new();
    for summary in snapshot.open_summaries()? {
        let first = snapshot.task_events(summary.id, 0, 1)?.into_iter().next().map(|stored| stored.event);
        let Some(JournalEvent::Task(Event::Started { definition, .. })) = first else { continue };
        claims.push(Claim {
            task: summary.id,
            state: summary.state,
            user: summary.created_by.user,
            since: summary.started_at,
            services: definition.deployments.iter().map(|spec| spec.service.id).collect(),
        });
    }
    Ok(claims)
}
