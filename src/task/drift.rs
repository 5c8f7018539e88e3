//! The drift guard: what changed since a task came to rest, before the task is resumed.
//!
//! `resume` is refused as long as a container of the task is not as the task left or found it. One function
//! compares ([`drift`]), and this table is what it compares; the tests hold it to each row.
//!
//! - *Begun* is the task's last operation on the container that has begun.
//! - *Touched*: a later task began an operation there that may have changed something. It may have ended well,
//!   failed, been interrupted, or be in doubt itself, and its task may be deleted since. What never began touches
//!   nothing, nor does START where something runs.
//!
//! | begun | the container now | drift |
//! |---|---|---|
//! | ended well | as the operation left it | no |
//! | ended well | started again by its runtime, or by the machine | no |
//! | ended well | ended with the machine | no |
//! | ended well | another run, or on another release | yes |
//! | ended well | down, and it was left running; or the reverse | yes |
//! | ended well | touched, and not the very run that was left | yes |
//! | none | as the task before left it | no |
//! | none | down: it may have ended before this task | no |
//! | none | never touched by a task that is known, nor since | no |
//! | none | another run, or on another release, than the task before left | yes |
//! | none | touched, and not the very run that the task before left | yes |
//! | failed | anything: the task does nothing more to it | no |
//! | in doubt | runs by this operation, on the release that it was to have | no |
//! | in doubt | ran by this operation, and ended | no |
//! | in doubt | runs by this operation, on another release | yes |
//! | in doubt | the run from before, on the release from before: nothing was done yet | no |
//! | in doubt | the run from before, started again by its runtime, or by the machine | no |
//! | in doubt | restarting again and again, by its runtime, on the release from before | no |
//! | in doubt | the run from before, on another release | yes |
//! | in doubt | any other run, by another task, by hand, by nobody known | yes |
//! | in doubt | down and touched | yes |
//! | in doubt | down, on a release that it had neither before nor was to have | yes |
//! | in doubt: STOP, RESTART, deploys | down: the operation stopped it | no |
//! | in doubt: START | down, and so it was before | no |
//! | in doubt: START | down, and it ran before: START ends nothing | yes |
//!
//! Nobody can tell who restarted an engine's container (it stays the same one), nor who restarted a generated unit
//! after this operation had started it (it carries this operation's id): neither is drift.
//!
//! An operation in doubt that goes on despite drift gets a new id ([`Doubt::renewal`]). So no id is started twice.

use std::collections::BTreeMap;

use super::evidence::{Deeds, Observed, deeds};
use super::operation::{Incarnation, Operation, OperationState};
use super::record::{ContainerChange, Touch, touches};
use super::{Task, TaskId};
use crate::catalog::ServiceId;
use crate::plan::Way;

mod seen;
#[cfg(test)]
mod tests;

pub use seen::Seen;

/// Which container.
pub type Place = (ServiceId, String);

/// A difference: what, as it was left or found, as it is.
type Difference = (&'static str, String, String);

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

/// What the store knows of the containers of a task.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// The place of the task's last event in the journal.
    pub last: u64,
    /// The changes of the task's services, newest first, each with its place in the journal.
    pub changes: &'a [(u64, ContainerChange)],
    /// The last touch of each container, with its place in the journal.
    pub touches: &'a BTreeMap<Place, (u64, Touch)>,
}

impl Past<'_> {
    fn of<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a (u64, ContainerChange)> + 'a {
        let is_here =
            |change: &&(u64, ContainerChange)| change.1.service == place.0 && change.1.container == place.1;
        self.changes.iter().filter(is_here)
    }

    /// Who touched a container after `task` did, or, if that did not, after it came to rest.
    fn later(&self, task: TaskId, place: &Place, has_touched: bool) -> Option<(TaskId, String)> {
        let touch = self.touches.get(place).filter(|(seq, touch)| {
            // The beginning of the task's own operation was the last touch then.
            touch.task != task && (has_touched || *seq > self.last)
        });
        let touch = touch.map(|(_, touch)| (touch.task, touch.user.clone()));
        // Earlier versions noted no touches.
        let changed = || self.of(place).find(|(seq, change)| *seq > self.last && change.task != task);
        touch.or_else(|| changed().map(|(_, change)| (change.task, change.user.clone())))
    }
}

/// Compares all containers of `task`; `ids` knows the ids of its operations, by deployment and operation.
pub fn drift(
    task: &Task,
    ids: impl Fn(usize, usize) -> String,
    past: Past<'_>,
    seen: &BTreeMap<Place, Seen>,
) -> Vec<Drift> {
    let mut found = Vec::new();
    for (place, deployment, begun) in containers(task) {
        let Some(seen) = seen.get(&place) else { continue };
        let spec = &task.deployments[deployment].spec;
        let operation = begun.map(|index| &task.deployments[deployment].operations[index]);
        let has_touched = operation.is_some_and(|it| touches(&spec.way, it));
        let by = past.later(task.id, &place, has_touched);
        let all = match operation {
            None => {
                let before = past.of(&place).find(|change| change.0 <= past.last);
                Expected::of_untouched(before.map(|change| &change.1)).differences(seen, by.is_some())
            }
            Some(it) if it.state.is_done() => {
                Expected::left_by(&spec.way, it).differences(seen, by.is_some())
            }
            Some(it) if it.state == OperationState::Failed => Vec::new(),
            Some(it) => {
                let id = ids(deployment, begun.unwrap_or_default());
                Doubt::of(&spec.way, &id, it).differences(seen, by.is_some())
            }
        };
        for (what, expected, actual) in all {
            let (service, container, name) = (place.0, place.1.clone(), spec.service.name.clone());
            found.push(Drift { service, name, container, what, expected, found: actual, by: by.clone() });
        }
    }
    found
}

/// Each container of a task, once, with the last operation on it that has begun: in which deployment, and which.
fn containers(task: &Task) -> Vec<(Place, usize, Option<usize>)> {
    let mut all: Vec<(Place, usize, Option<usize>)> = Vec::new();
    let mut indices = BTreeMap::new();
    for (d, deployment) in task.deployments.iter().enumerate() {
        for (o, operation) in deployment.operations.iter().enumerate() {
            let place = (deployment.spec.service.id, operation.container.clone());
            // What is held back for good changes nothing any more.
            if operation.state == OperationState::Skipped {
                continue;
            }
            let index = *indices.entry(place.clone()).or_insert_with(|| {
                all.push((place, d, None));
                all.len() - 1
            });
            if operation.state != OperationState::Pending {
                (all[index].1, all[index].2) = (d, Some(o));
            }
        }
    }
    all
}

/// What a container is expected to be.
#[derive(Debug, Default)]
struct Expected {
    /// `None`: it is not known which.
    release: Option<Option<String>>,
    /// `None`: it is not known whether it should run.
    running: Option<Option<Incarnation>>,
    /// That it ended is no difference.
    may_have_ended: bool,
}

impl Expected {
    /// What the task left by an operation that ended well.
    fn left_by(way: &Way, operation: &Operation) -> Self {
        let before = operation.evidence.as_ref();
        let running = match (way, operation.state) {
            (Way::Stop, _) => None,
            (_, OperationState::Unchanged) => before.and_then(|evidence| evidence.incarnation.clone()),
            _ => operation.incarnation.clone(),
        };
        let release = operation.to_release.as_deref().or(operation.from_release()).map(str::to_string);
        Self { release: Some(release), running: Some(running), may_have_ended: false }
    }

    /// What the last task before left. That it ended since says nothing: it may have before.
    fn of_untouched(change: Option<&ContainerChange>) -> Self {
        let Some(change) = change else { return Self::default() };
        let running = change.incarnation.clone().filter(|_| change.done).map(Some);
        Self { release: Some(change.release.clone()), running, may_have_ended: true }
    }

    fn differences(&self, seen: &Seen, touched: bool) -> Vec<Difference> {
        let mut all = Vec::new();
        let is_release = self.release.as_ref().is_none_or(|release| *release == seen.release);
        if let Some(release) = self.release.as_ref().filter(|_| !is_release) {
            all.push(("release", named(release.as_deref()), named(seen.release.as_deref())));
        }
        match (&self.running, &seen.incarnation) {
            (Some(Some(before)), Some(now)) if !is_same_start(before, now, seen, touched) => {
                all.push(("incarnation", before.to_string(), now.to_string()));
            }
            (Some(Some(before)), None) if !seen.rebooted && !self.may_have_ended => {
                all.push(("runState", format!("running, {before}"), seen.run_state()));
            }
            (Some(None), Some(now)) => all.push(("runState", "stopped".into(), format!("running, {now}"))),
            _ => {}
        }
        let before = self.running.iter().flatten().next();
        let is_very_run = before.zip(seen.incarnation.as_ref()).is_some_and(|(it, now)| is_very_run(it, now));
        if touched && all.is_empty() && !is_very_run {
            all.push(touched_since(seen));
        }
        all
    }
}

/// An operation in doubt: it began, and how it ended is not recorded.
#[derive(Debug, Clone, Copy)]
pub struct Doubt<'a> {
    way: &'a Way,
    id: &'a str,
    before: Option<&'a Incarnation>,
    from: Option<&'a str>,
    to: Option<&'a str>,
}

/// Why an operation in doubt needs a new id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Whether that is drift.
    pub forced: bool,
    /// For people.
    pub why: String,
}

impl<'a> Doubt<'a> {
    /// Operation `id`, as it began.
    pub fn of(way: &'a Way, id: &'a str, operation: &'a Operation) -> Self {
        let evidence = operation.evidence.as_ref();
        let before = evidence.and_then(|evidence| evidence.incarnation.as_ref());
        Self { way, id, before, from: operation.from_release(), to: operation.to_release.as_deref() }
    }

    /// Why the operation must not go on under its id; `None`: it may. `by`: who touched the container since.
    pub fn renewal(&self, seen: &Seen, by: Option<TaskId>) -> Option<Cause> {
        let differences = self.differences(seen, by.is_some());
        if let Some((what, expected, found)) = differences.first() {
            let whom = by.map_or_else(|| "by hand".into(), |task| format!("by task {task}"));
            let why = format!("its container changed {whom} ({what}: expected {expected}, found {found})");
            return Some(Cause { forced: true, why });
        }
        // It came back with the machine, or its runtime restarted it: what this operation started may be gone.
        let starts = matches!(deeds(self.way, self.id, &seen.observed), Deeds::Start { .. });
        let why = match seen.run() {
            run @ Some(_) if run == self.before => return None,
            Some(now) => format!("its runtime restarted its container ({now})"),
            None if seen.rebooted && self.is_mine(seen) => "its container ended with the machine".into(),
            None => return None,
        };
        starts.then_some(Cause { forced: false, why })
    }

    fn is_mine(&self, seen: &Seen) -> bool {
        seen.operation() == Some(self.id)
    }

    fn differences(&self, seen: &Seen, touched: bool) -> Vec<Difference> {
        let is_mine = self.is_mine(seen);
        let after = self.to.or(self.from);
        let is_restarting = matches!(seen.observed, Observed::Restarting { .. });
        let (run, releases) = match seen.run() {
            Some(_) if is_mine => (None, vec![after]),
            // Its runtime does that, whatever it was that began it.
            Some(_) if is_restarting && !touched => (None, vec![self.from]),
            Some(now) if self.before.is_some_and(|before| is_same_start(before, now, seen, touched)) => {
                (None, vec![self.from])
            }
            Some(_) => (Some(self.other_run(seen)), vec![self.from, after]),
            // Whoever touches it clears away what says which operation started what ended.
            None if touched && !is_mine => (Some(touched_since(seen)), vec![self.from, after]),
            None => {
                let may_have_ended = *self.way != Way::Start || seen.rebooted || is_mine;
                let ended = self.before.filter(|_| !may_have_ended);
                let ended = ended.map(|before| ("runState", format!("running, {before}"), seen.run_state()));
                (ended, vec![self.from, after])
            }
        };
        let mut all = Vec::new();
        if !releases.contains(&seen.release.as_deref()) {
            let mut names: Vec<_> = releases.into_iter().map(named).collect();
            names.dedup();
            all.push(("release", names.join(" or "), named(seen.release.as_deref())));
        }
        all.extend(run);
        all
    }

    /// It runs, and neither did so before nor was it started by this operation.
    fn other_run(&self, seen: &Seen) -> Difference {
        let or_mine = if *self.way == Way::Stop { "" } else { ", or a run of this operation" };
        match self.before {
            Some(before) => ("incarnation", format!("{before}{or_mine}"), seen.run_state()),
            None => ("runState", format!("stopped{or_mine}"), seen.run_state()),
        }
    }
}

/// Whether what runs is the run of before, or what its runtime made of it by itself. Once another task has touched
/// the container, only the very same run, or the same container of an engine, is known to be that.
fn is_same_start(before: &Incarnation, now: &Incarnation, seen: &Seen, touched: bool) -> bool {
    match (before, now) {
        _ if is_very_run(before, now) => true,
        _ if touched => false,
        // A unit that runs again since the machine was started: that is what it is enabled for.
        (Incarnation::Unit { boot_id: before, .. }, Incarnation::Unit { boot_id: now, .. }) => {
            before != now || seen.restarted
        }
        _ => false,
    }
}

/// An engine may restart a container; deployd makes a new one for each start.
fn is_very_run(before: &Incarnation, now: &Incarnation) -> bool {
    match (before, now) {
        (Incarnation::Engine { id: before, .. }, Incarnation::Engine { id: now, .. }) => before == now,
        _ => before == now,
    }
}

/// Nothing else shows that another task was there.
fn touched_since(seen: &Seen) -> Difference {
    let what = if seen.incarnation.is_some() { "incarnation" } else { "runState" };
    (what, "untouched by later tasks".into(), seen.run_state())
}

fn named(release: Option<&str>) -> String {
    release.unwrap_or("none").into()
}
