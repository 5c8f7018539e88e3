//! What can happen next.

use deployd::catalog::ServiceId;
use deployd::task::Task;
use deployd::task::admission::{Claim, Services, admit};
use deployd::task::command::{Command, Verdict};
use deployd::task::decide::{Decision, decide, may_begin};
use deployd::task::deployment::{DeploymentState, DeploymentStep};
use deployd::task::event::Event;
use deployd::task::evidence::Deeds;

use crate::plan::{Scenario, by};
use crate::state::{Going, Slot, State, deployment_of, id};

/// Something that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The oldest event that is not on disk gets there.
    Commit,
    /// A deployment begins, or goes on.
    Begin(usize, usize),
    /// A deployment takes its next step.
    Step(usize, usize),
    /// A deployment whose turn has not come takes the next step of its preparation.
    Prepare(usize, usize),
    /// A task comes to rest.
    Rest(usize),
    /// An operation that is going on looks, does its next deed, or records its end.
    Proceed(usize),
    /// An operation that is going on fails.
    Fail(usize),
    /// The next step of a deployment fails.
    FailStep(usize, usize),
    /// What an actor had asked for had not begun when it died, and is dropped.
    Drop(usize),
    /// A user has cut what goes on: an operation that has not begun, or awaits health, ends so.
    Cut(usize),
    /// As above: the next step of a deployment.
    CutStep(usize, usize),
    /// The daemon is killed, and started again.
    Crash,
    /// An actor of a task panics.
    Panic(usize),
    /// A container ends by itself.
    Dies(usize, usize),
    /// A user asks something of a task.
    Ask(usize, Command),
    /// A user executes a plan.
    Execute(usize),
}

impl Act {
    /// Whether it is part of the daemon's way to the end, when nothing disturbs it.
    pub fn is_progress(self) -> bool {
        use Act::{Ask, Begin, Commit, Drop, Proceed, Rest, Step};
        matches!(self, Commit | Begin(..) | Step(..) | Rest(_) | Proceed(_) | Drop(_))
            || matches!(self, Ask(_, Command::Resume { .. }))
    }
}

const RESUME: Command = Command::Resume { force: false };
const CUT: Command = Command::Stop { now: true };

/// All that can happen.
pub fn acts(scenario: &Scenario, state: &State) -> Vec<Act> {
    let mut acts = Vec::new();
    acts.extend((!state.queue.is_empty()).then_some(Act::Commit));
    if state.crashes > 0 {
        acts.push(Act::Crash);
        let active = tasks(state).filter(|(_, task)| task.state.is_active() && scenario.panics);
        acts.extend(active.map(|(slot, _)| Act::Panic(slot)));
    }
    if state.queue.len() >= scenario.unsynced {
        return acts;
    }
    for (slot, task) in tasks(state).filter(|(slot, task)| task.state.is_active() && runs(state, *slot)) {
        deployments(state, slot, task, &mut acts);
        // Also while it drains: what was under way may still come to its end.
        let ahead = |d: &usize| task.deployments[*d].is_to_be_prepared() && !state.awaits_disk(slot, *d);
        let ahead = (0..task.deployments.len()).filter(|_| scenario.prefetch).filter(ahead);
        acts.extend(ahead.map(|d| Act::Prepare(slot, d)));
    }
    for (index, going) in state.going.iter().enumerate() {
        if going.orphan {
            acts.push(Act::Proceed(index));
            acts.extend((!has_touched(going)).then_some(Act::Drop(index)));
        } else if going.deeds.is_none() {
            acts.extend((!is_occupied(state, going)).then_some(Act::Proceed(index)));
        } else if !state.intent_awaits_disk(going.place) {
            acts.push(Act::Proceed(index));
            acts.extend((state.failures > 0).then_some(Act::Fail(index)));
            let waits = !has_touched(going) || !(going.stop || going.start);
            acts.extend((waits && state.cutting.contains(&going.place.0)).then_some(Act::Cut(index)));
        }
    }
    if state.deaths > 0 {
        for (service, containers) in state.world.iter().enumerate() {
            let up = containers.iter().enumerate().filter(|(_, container)| container.up);
            acts.extend(up.map(|(container, _)| Act::Dies(service, container)));
        }
    }
    if !is_busy(state) {
        commands(scenario, state, &mut acts);
    }
    acts
}

fn deployments(state: &State, slot: usize, task: &Task, acts: &mut Vec<Act>) {
    let going_on = |d: usize| {
        state.going.iter().any(|going| (going.place.0, going.place.1) == (slot, d) && !going.orphan)
    };
    match decide(task) {
        Decision::Begin(_) => acts.extend(may_begin(task).map(|d| Act::Begin(slot, d))),
        Decision::Rest(_) if !(0..task.deployments.len()).any(|d| state.awaits_disk(slot, d)) => {
            acts.push(Act::Rest(slot));
        }
        _ => {}
    }
    for (d, deployment) in task.deployments.iter().enumerate() {
        let idle =
            deployment.state == DeploymentState::Running && !going_on(d) && !state.awaits_disk(slot, d);
        if idle {
            acts.push(Act::Step(slot, d));
            let may_fail = !state.cut.contains(&(slot, d))
                && !matches!(
                    deployment.next_step(),
                    DeploymentStep::Operate(_) | DeploymentStep::Succeed | DeploymentStep::Fail(_)
                );
            acts.extend((may_fail && state.failures > 0).then_some(Act::FailStep(slot, d)));
            let is_cut = may_fail && state.cutting.contains(&slot);
            acts.extend(is_cut.then_some(Act::CutStep(slot, d)));
        }
    }
}

fn commands(scenario: &Scenario, state: &State, acts: &mut Vec<Act>) {
    for (slot, task) in tasks(state) {
        let wanted: &[Command] = if scenario.commands {
            &[Command::Stop { now: false }, CUT, Command::Pause, RESUME, Command::Delete]
        } else {
            &[RESUME]
        };
        for &command in wanted {
            match command.judge(task.state, by()) {
                Ok(Verdict::Record(_))
                    if command == RESUME && !is_admitted(state, Some(slot), &task.services().collect()) => {}
                Ok(Verdict::Cut(_)) if state.cutting.contains(&slot) => {}
                Ok(Verdict::Record(_) | Verdict::Cut(_) | Verdict::Delete) => {
                    acts.push(Act::Ask(slot, command));
                }
                Ok(Verdict::Already) | Err(_) => {}
            }
        }
    }
    for (plan, slot) in state.slots.iter().enumerate() {
        let Slot::Absent = slot else { continue };
        let services = scenario.plans[plan].iter().filter_map(|item| ServiceId::new(item.service)).collect();
        acts.extend(is_admitted(state, None, &services).then_some(Act::Execute(plan)));
    }
}

fn is_admitted(state: &State, slot: Option<usize>, services: &Services) -> bool {
    let claims: Vec<Claim> = tasks(state).map(|(_, task)| Claim::from(task)).collect();
    admit(slot.map(id), services, &claims).conflicts.is_empty()
}

pub fn tasks(state: &State) -> impl Iterator<Item = (usize, &Task)> {
    state.slots.iter().enumerate().filter_map(|(slot, task)| Some((slot, task.memory()?)))
}

/// The supervisor handles nothing else while a command, or a fault, is not on disk.
fn is_busy(state: &State) -> bool {
    state.queue.iter().any(|(_, event)| {
        deployment_of(event).is_none()
            && !matches!(**event, Event::Completed | Event::Failed | Event::Drained)
    })
}

/// A task's actors run when its resume is on disk.
fn runs(state: &State, slot: usize) -> bool {
    !state.queue.iter().any(|(of, event)| *of == slot && matches!(**event, Event::Resumed { .. }))
}

/// Whether an orphan has begun: from there on it can't be cut.
fn has_touched(going: &Going) -> bool {
    let first = match going.deeds {
        Some(Deeds::Stop { running }) => (running, false),
        Some(Deeds::Start { stop_first }) => (stop_first, true),
        _ => (false, false),
    };
    (going.stop, going.start) != first
}

/// One deed at a time for each container: who looks waits for what was begun.
pub fn is_occupied(state: &State, looking: &Going) -> bool {
    let container = state.container_of(looking.place);
    state.going.iter().any(|other| other.orphan && state.container_of(other.place) == container)
}
