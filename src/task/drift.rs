//! The drift guard: what is no longer as a task left or found it, before the task is resumed.
//!
//! Containers that the task has dealt with are compared with what it left; those that it still has to
//! deal with, with what the last task before had left there, as far as that is known. A container whose
//! operation is in doubt is not compared: resume settles it by looking. Nor is what a reboot has ended, nor a
//! run that systemd has begun by itself after the one before had failed: it is of the same start.

use std::collections::BTreeMap;

use super::operation::{Incarnation, Operation, OperationState};
use super::record::ContainerChange;
use super::{Task, TaskId};
use crate::catalog::ServiceId;
use crate::plan::Way;

/// Which container.
pub type Place = (ServiceId, String);

/// A container, its service's name, and what the task does to it.
type Touched<'a> = (Place, &'a str, Vec<(&'a Way, &'a Operation)>);

/// What a look at a container showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The release to which it points.
    pub release: Option<String>,
    /// What runs.
    pub incarnation: Option<Incarnation>,
    /// What ran has ended with the machine.
    pub rebooted: bool,
    /// What runs was begun by the runtime itself, after a failure.
    pub restarted: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: String,
    /// The container.
    pub container: String,
    /// `release`, `incarnation` or `runState`.
    pub what: &'static str,
    /// As it was left or found.
    pub expected: String,
    /// As it is.
    pub found: String,
    /// The task that changed it, and who executed that; `None`: nobody of deployd, so by hand.
    pub by: Option<(TaskId, String)>,
}

/// What a container is expected to be.
struct Expected {
    release: Option<String>,
    /// `None`: it is not known whether it should run.
    running: Option<Option<Incarnation>>,
    /// That it has ended is no difference.
    may_have_ended: bool,
}

/// Compares all containers of `task`, whose last event is entry `last` of the journal. `changes` are
/// those of its services, newest first.
pub fn drift(
    task: &Task,
    last: u64,
    changes: &[(u64, ContainerChange)],
    seen: &BTreeMap<Place, Seen>,
) -> Vec<Drift> {
    let mut found = Vec::new();
    for (place, name, operations) in containers(task) {
        let Some(seen) = seen.get(&place) else { continue };
        let of_place =
            |change: &&(u64, ContainerChange)| change.1.service == place.0 && change.1.container == place.1;
        let mut later = changes.iter().filter(of_place).filter(|change| change.0 > last);
        let by = later.next().map(|(_, change)| (change.task, change.user.clone()));
        let before = || changes.iter().filter(of_place).find(|change| change.0 <= last);
        let Some(expected) = left(&operations).unwrap_or_else(|| before().map(|it| as_found(&it.1))) else {
            continue;
        };
        // Since another task has started it, it is another start.
        let restarted = seen.restarted && by.is_none();
        for (what, expected, actual) in differences(&expected, seen, restarted) {
            let (service, container) = place.clone();
            let by = by.clone();
            found.push(Drift { service, name: name.into(), container, what, expected, found: actual, by });
        }
    }
    found
}

/// Each container of a task with its operations, in their order.
fn containers(task: &Task) -> Vec<Touched<'_>> {
    let mut all: Vec<Touched<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for deployment in &task.deployments {
        let service = &deployment.spec.service;
        for operation in &deployment.operations {
            let place = (service.id, operation.container.clone());
            let index = *places.entry(place.clone()).or_insert_with(|| {
                all.push((place, &service.name, Vec::new()));
                all.len() - 1
            });
            all[index].2.push((&deployment.spec.way, operation));
        }
    }
    all
}

/// What the task left of a container: `None` when it has not touched it yet, `Some(None)` when that
/// is in doubt.
fn left(operations: &[(&Way, &Operation)]) -> Option<Option<Expected>> {
    let begun = |it: &&(&Way, &Operation)| it.1.state != OperationState::Pending;
    let &(way, operation) = operations.iter().rev().find(begun)?;
    if !operation.state.is_done() {
        return Some(None);
    }
    let before = operation.evidence.as_ref();
    let running = match (way, operation.state) {
        (Way::Stop, _) => None,
        (_, OperationState::Unchanged) => before.and_then(|evidence| evidence.incarnation.clone()),
        _ => operation.incarnation.clone(),
    };
    let release = operation.to_release.as_deref().or(operation.from_release()).map(str::to_string);
    Some(Some(Expected { release, running: Some(running), may_have_ended: false }))
}

/// What the last task before had left. That it has ended since says nothing: it may have before.
fn as_found(change: &ContainerChange) -> Expected {
    let running = change.incarnation.clone().filter(|_| change.done);
    Expected { release: change.release.clone(), running: running.map(Some), may_have_ended: true }
}

/// A unit that runs again since the machine was started: that is what it is enabled for. Likewise a
/// container that its engine has started again: who changes it by hand makes another one.
fn came_back(before: &Incarnation, now: &Incarnation) -> bool {
    if let (Incarnation::Engine { id: before, .. }, Incarnation::Engine { id: now, .. }) = (before, now) {
        return before == now;
    }
    let boot = |incarnation: &Incarnation| match incarnation {
        Incarnation::Unit { boot_id, .. } => Some(boot_id.clone()),
        Incarnation::Process { .. } | Incarnation::Engine { .. } => None,
    };
    matches!((boot(before), boot(now)), (Some(before), Some(now)) if before != now)
}

fn differences(expected: &Expected, seen: &Seen, restarted: bool) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let release = |release: &Option<String>| release.clone().unwrap_or_else(|| "none".into());
    if expected.release != seen.release {
        all.push(("release", release(&expected.release), release(&seen.release)));
    }
    match (&expected.running, &seen.incarnation) {
        (Some(Some(before)), Some(now)) if before != now && !restarted && !came_back(before, now) => {
            all.push(("incarnation", before.to_string(), now.to_string()));
        }
        (Some(Some(before)), None) if !seen.rebooted && !expected.may_have_ended => {
            all.push(("runState", format!("running, {before}"), "not running".into()));
        }
        (Some(None), Some(now)) => all.push(("runState", "stopped".into(), format!("running, {now}"))),
        _ => {}
    }
    all
}
