//! What is after something has happened.

use std::rc::Rc;

use deployd::task::command::{Command, Verdict};
use deployd::task::decide::{Decision, decide};
use deployd::task::deployment::{DeploymentStep, Pin};
use deployd::task::event::Event;
use deployd::task::evidence::{Deeds, deeds};
use deployd::task::operation::{Done, Evidence, Incarnation, OperationEnd};
use deployd::task::state::TaskState;
use deployd::task::{Failure, Reason, Task, Timestamp};

use crate::acts::{Act, is_occupied};
use crate::plan::{Scenario, by};
use crate::rules;
use crate::state::{Container, Going, Slot, State, created, operation_id};

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
        Act::Step(slot, deployment) | Act::Prepare(slot, deployment) => {
            step(scenario, &mut state, slot, deployment)?;
        }
        Act::Rest(slot) => {
            let Decision::Rest(event) = decide(memory(&state, slot)) else { return Err("no rest".into()) };
            record(&mut state, slot, event)?;
            state.cutting.remove(&slot);
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
        Act::Cut(index) => {
            let (slot, deployment, _) = state.going.remove(index).place;
            state.cut.insert((slot, deployment));
        }
        Act::CutStep(slot, deployment) => record(&mut state, slot, Event::DeploymentCut { deployment })?,
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
    fold(durable, &event)?;
    let is_stopping = state.slots[slot].memory().is_some_and(|task| task.state == TaskState::Stopping);
    if matches!(*event, Event::CutRequested { .. }) && is_stopping {
        state.cutting.insert(slot);
    }
    Ok(())
}

fn flush(state: &mut State) -> Result<(), String> {
    while !state.queue.is_empty() {
        commit(state)?;
    }
    Ok(())
}

fn step(scenario: &Scenario, state: &mut State, slot: usize, deployment: usize) -> Result<(), String> {
    let text = || "x".to_string();
    if state.cut.remove(&(slot, deployment)) {
        return record(state, slot, Event::DeploymentCut { deployment });
    }
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
    state.cut.clear();
    state.cutting.clear();
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
    state.cutting.remove(&slot);
    state.cut.retain(|(of, _)| *of != slot);
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
        Ok(Verdict::Cut(events)) => events.into_iter().try_for_each(|event| record(state, slot, event)),
        Ok(Verdict::Delete) => {
            flush(state)?;
            rules::deleted(memory(state, slot).state);
            state.slots[slot] = Slot::Deleted;
            Ok(())
        }
        other => Err(format!("{command:?} is not possible: {other:?}")),
    }
}
