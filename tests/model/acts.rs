//! What can happen next, and what is then.

use std::rc::Rc;

use deployd::catalog::ServiceId;
use deployd::task::admission::{Claim, Services, admit};
use deployd::task::command::{Command, Verdict};
use deployd::task::decide::{Decision, decide};
use deployd::task::deployment::{DeploymentState, DeploymentStep, Pin};
use deployd::task::event::Event;
use deployd::task::evidence::{Deeds, deeds};
use deployd::task::operation::{Done, Evidence, Incarnation, OperationEnd};
use deployd::task::{Failure, Reason, Task, Timestamp};

use crate::plan::{Scenario, by};
use crate::rules;
use crate::state::{Container, Going, Slot, State, created, deployment_of, id, operation_id};

/// Something that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The oldest event that is not on disk gets there.
    Commit,
    /// A deployment begins, or goes on.
    Begin(usize, usize),
    /// A deployment takes its next step.
    Step(usize, usize),
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
        Decision::Begin(due) => acts.extend(due.into_iter().map(|d| Act::Begin(slot, d))),
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
            let may_fail = !matches!(
                deployment.next_step(),
                DeploymentStep::Operate(_) | DeploymentStep::Succeed | DeploymentStep::Fail(_)
            );
            acts.extend((may_fail && state.failures > 0).then_some(Act::FailStep(slot, d)));
        }
    }
}

fn commands(scenario: &Scenario, state: &State, acts: &mut Vec<Act>) {
    for (slot, task) in tasks(state) {
        let wanted: &[Command] = if scenario.commands {
            &[Command::Stop { now: false }, Command::Pause, RESUME, Command::Delete]
        } else {
            &[RESUME]
        };
        for &command in wanted {
            match command.judge(task.state, by()) {
                Ok(Verdict::Record(_))
                    if command == RESUME && !is_admitted(state, Some(slot), &task.services().collect()) => {}
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
fn is_occupied(state: &State, looking: &Going) -> bool {
    let container = state.container_of(looking.place);
    state.going.iter().any(|other| other.orphan && state.container_of(other.place) == container)
}

fn failure() -> Failure {
    Failure { code: "f".into(), message: "f".into(), log: Vec::new() }
}

/// What is after `act`.
///
/// # Errors
/// The rule that it breaks.
pub fn after(scenario: &Scenario, before: &State, act: Act) -> Result<State, String> {
    let mut state = before.clone();
    match act {
        Act::Commit => commit(&mut state)?,
        Act::Begin(slot, deployment) => record(&mut state, slot, Event::DeploymentBegun { deployment })?,
        Act::Step(slot, deployment) => step(scenario, &mut state, slot, deployment)?,
        Act::Rest(slot) => {
            let Decision::Rest(event) = decide(memory(&state, slot)) else { return Err("no rest".into()) };
            record(&mut state, slot, event)?;
        }
        Act::Proceed(index) => proceed(scenario, &mut state, index)?,
        Act::Fail(index) => {
            state.failures -= 1;
            end(&mut state, index, Err(failure()))?;
        }
        Act::FailStep(slot, deployment) => {
            state.failures -= 1;
            record(&mut state, slot, Event::DeploymentEnded { deployment, result: Err(failure()) })?;
        }
        Act::Drop(index) => drop(state.going.remove(index)),
        Act::Crash => crash(&mut state)?,
        Act::Panic(slot) => panic_of(&mut state, slot)?,
        Act::Dies(service, container) => {
            state.deaths -= 1;
            let container = &mut Rc::make_mut(&mut state.world)[service][container];
            (container.up, container.died) = (false, true);
        }
        Act::Ask(slot, command) => ask(&mut state, slot, command)?,
        Act::Execute(plan) => {
            flush(&mut state)?;
            state.slots[plan] = created(scenario, plan);
        }
    }
    Ok(state)
}

fn memory(state: &State, slot: usize) -> &Task {
    state.slots[slot].memory().expect("the act is about a task that is there")
}

fn fold(task: &mut Rc<Task>, event: &Event) -> Result<(), String> {
    let before = task.state;
    Rc::make_mut(task).apply(event, Timestamp(0)).map_err(|error| format!("the daemon may not: {error}"))?;
    rules::row(before, event, task.state);
    Ok(())
}

/// Records an event: it is so from now on, and gets to the disk later.
fn record(state: &mut State, slot: usize, event: Event) -> Result<(), String> {
    let Slot::Task { memory, .. } = &mut state.slots[slot] else { return Err("no task".into()) };
    fold(memory, &event)?;
    rules::recorded(state, slot, &event)?;
    state.queue.push_back((slot, Rc::new(event)));
    Ok(())
}

fn commit(state: &mut State) -> Result<(), String> {
    let (slot, event) = state.queue.pop_front().expect("there is something to commit");
    let Slot::Task { durable, .. } = &mut state.slots[slot] else { return Err("no task".into()) };
    fold(durable, &event)
}

fn flush(state: &mut State) -> Result<(), String> {
    while !state.queue.is_empty() {
        commit(state)?;
    }
    Ok(())
}

fn step(scenario: &Scenario, state: &mut State, slot: usize, deployment: usize) -> Result<(), String> {
    let text = || "x".to_string();
    let event = match memory(state, slot).deployments[deployment].next_step() {
        DeploymentStep::Operate(due) => {
            let going = |o| Going {
                place: (slot, deployment, o),
                deeds: None,
                stop: false,
                start: false,
                orphan: false,
            };
            let first = state.going.len();
            let alone = due.len() == 1;
            state.going.extend(due.into_iter().map(going));
            // Nobody comes between the step and the look of one operation alone.
            if alone && !is_occupied(state, &state.going[first]) {
                proceed(scenario, state, first)?;
            }
            return Ok(());
        }
        DeploymentStep::ResolveCommit => Event::CommitPinned { deployment, commit: text() },
        DeploymentStep::ObtainArtifact => {
            let pin = Pin { source: text(), sha256: text(), bytes: 1, commit: None };
            Event::ArtifactPinned { deployment, pin }
        }
        DeploymentStep::PrepareRelease => Event::ReleasePrepared { deployment, release: text() },
        DeploymentStep::RunHook(hook) => Event::HookDone { deployment, hook },
        DeploymentStep::Succeed => Event::DeploymentEnded { deployment, result: Ok(()) },
        DeploymentStep::Fail(failure) => Event::DeploymentEnded { deployment, result: Err(failure) },
    };
    record(state, slot, event)
}

/// Look and record the intent; then deed by deed; then record the end.
fn proceed(scenario: &Scenario, state: &mut State, index: usize) -> Result<(), String> {
    let Going { place, deeds: seen, stop, start, orphan } = state.going[index];
    let (service, container) = state.container_of(place);
    let Some(seen) = seen else {
        let (slot, deployment, operation) = place;
        let way = &memory(state, slot).deployments[deployment].spec.way;
        let seen = deeds(way, &operation_id(place), &state.observe((service, container)));
        let going = &mut state.going[index];
        going.deeds = Some(seen);
        (going.stop, going.start) = match seen {
            Deeds::Stop { running } => (running, false),
            Deeds::Start { stop_first } => (stop_first, true),
            Deeds::Leave | Deeds::AwaitHealth | Deeds::Died => (false, false),
        };
        let evidence = Evidence::default();
        return record(
            state,
            slot,
            Event::OperationBegun { deployment, operation, evidence, to_release: None },
        );
    };
    if stop || start {
        rules::deed(scenario, state, place, stop)?;
        let going = &mut state.going[index];
        let container = &mut Rc::make_mut(&mut state.world)[service][container];
        if stop {
            going.stop = false;
            container.up = false;
        } else {
            going.start = false;
            *container = Container { up: true, by: Some(place), died: false };
        }
        return Ok(());
    }
    if orphan {
        state.going.remove(index);
        return Ok(());
    }
    let incarnation = Incarnation::Process { boot_id: "b".into(), pid: 1, start_ticks: 1 };
    end(
        state,
        index,
        match seen {
            Deeds::Died => Err(failure()),
            Deeds::Leave | Deeds::Stop { running: false } => Ok(Done::Unchanged),
            _ => Ok(Done::Changed(Some(incarnation))),
        },
    )
}

fn end(state: &mut State, index: usize, result: Result<Done, Failure>) -> Result<(), String> {
    let (slot, deployment, operation) = state.going.remove(index).place;
    let end = OperationEnd { result, detail: String::new(), settled: None };
    record(state, slot, Event::OperationEnded { deployment, operation, end })
}

/// What was not on disk is lost, what was going on is cut; the next daemon interrupts what was active.
fn crash(state: &mut State) -> Result<(), String> {
    state.crashes -= 1;
    state.queue.clear();
    state.going.clear();
    for slot in &mut state.slots {
        let Slot::Task { durable, memory } = slot else { continue };
        if durable.state.is_active() {
            fold(durable, &Event::Interrupted { reason: Reason::DaemonDied })?;
        }
        *memory = durable.clone();
    }
    Ok(())
}

/// The task's actors are gone. What they had asked the host for goes on.
fn panic_of(state: &mut State, slot: usize) -> Result<(), String> {
    state.crashes -= 1;
    let queue = state.clone();
    state.going.retain_mut(|going| {
        if going.place.0 == slot && !going.orphan {
            going.orphan = true;
            return going.deeds.is_some() && !queue.intent_awaits_disk(going.place);
        }
        true
    });
    record(state, slot, Event::Interrupted { reason: Reason::ActorCrashed })
}

fn ask(state: &mut State, slot: usize, command: Command) -> Result<(), String> {
    match command.judge(memory(state, slot).state, by()) {
        Ok(Verdict::Record(event)) => record(state, slot, event),
        Ok(Verdict::Delete) => {
            flush(state)?;
            rules::deleted(memory(state, slot).state);
            state.slots[slot] = Slot::Deleted;
            Ok(())
        }
        other => Err(format!("{command:?} is not possible: {other:?}")),
    }
}
