//! What has to hold: of each deed, each record, each state. And which rows of the table were seen.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use deployd::plan::Way;
use deployd::task::Task;
use deployd::task::command::{Command, Verdict};
use deployd::task::deployment::{Deployment, DeploymentState};
use deployd::task::event::Event;
use deployd::task::operation::OperationState;
use deployd::task::state::{Refusal, TaskState};

use crate::acts::tasks;
use crate::plan::{Scenario, by};
use crate::state::{Carried, Place, State};

/// A row of the table of states: from, on, to.
pub type Row = (&'static str, &'static str, &'static str);

thread_local! {
    static ROWS: RefCell<BTreeSet<Row>> = const { RefCell::new(BTreeSet::new()) };
    static JUDGED: RefCell<BTreeSet<(TaskState, bool)>> = const { RefCell::new(BTreeSet::new()) };
}

/// The rows that were seen since this was asked last.
pub fn rows() -> BTreeSet<Row> {
    ROWS.with_borrow_mut(std::mem::take)
}

/// An event took a task from one state to another.
pub fn row(from: TaskState, event: &Event, to: TaskState) {
    if crate::state::deployment_of(event).is_none() {
        ROWS.with_borrow_mut(|rows| rows.insert((from.name(), event.name(), to.name())));
    }
}

/// A task was deleted.
pub fn deleted(from: TaskState) {
    ROWS.with_borrow_mut(|rows| rows.insert((from.name(), "delete", "gone")));
}

/// A container is about to be stopped, or started.
pub fn deed(scenario: &Scenario, state: &mut State, place: Place, stop: bool) -> Result<(), String> {
    let (slot, deployment, operation) = place;
    if let Some(task) = state.slots[slot].durable() {
        let begun = &task.deployments[deployment].operations[operation];
        if begun.evidence.is_none() {
            return Err(format!("{place:?} touches its container before its intent is on disk"));
        }
        let earlier = &task.deployments[..task.batch_of(deployment).start];
        if !earlier.iter().all(|earlier| earlier.state == DeploymentState::Succeeded) {
            return Err(format!("{place:?} touches its container before its batch's turn"));
        }
    }
    let container = state.container_of(place);
    let mut carried = state.carried.clone();
    let all = Rc::make_mut(&mut carried);
    for plan in (0..scenario.plans.len()).filter(|plan| *plan != slot) {
        for (d, deployment) in all[plan].iter_mut().enumerate() {
            for (o, carried) in deployment.iter_mut().enumerate() {
                // What another task has released since has to be dealt with once more: the user was warned.
                if state.container_of((plan, d, o)) == container {
                    *carried = Carried::default();
                }
            }
        }
    }
    let mine = &mut all[slot][deployment][operation];
    let count = if stop { &mut mine.stops } else { &mut mine.starts };
    *count += 1;
    if *count > 1 {
        return Err(format!("{place:?} {} its container twice", if stop { "stops" } else { "starts" }));
    }
    state.carried = carried;
    Ok(())
}

/// An event was recorded: what it says has been done.
pub fn recorded(state: &State, slot: usize, event: &Event) -> Result<(), String> {
    let Some(task) = state.slots[slot].memory() else { return Ok(()) };
    match event {
        Event::OperationEnded { deployment, operation, end } if end.result.is_ok() => {
            let place = (slot, *deployment, *operation);
            let way = &task.deployments[*deployment].spec.way;
            if is_as_wanted(state, way, place) {
                return Ok(());
            }
            Err(format!("{place:?} is recorded as done, and is not: {way:?}"))
        }
        Event::DeploymentEnded { deployment, result: Ok(()) } => {
            let done = |deployment: &Deployment| deployment.operations.iter().all(|op| op.state.is_done());
            if done(&task.deployments[*deployment]) {
                return Ok(());
            }
            Err(format!("deployment {deployment} succeeds with something left to do"))
        }
        _ => Ok(()),
    }
}

fn is_as_wanted(state: &State, way: &Way, place: Place) -> bool {
    let (service, container) = state.container_of(place);
    let container = state.world[service][container];
    let wanted = match way {
        Way::Stop => !container.up,
        Way::Start => container.up,
        Way::Restart | Way::HttpUpload { .. } | Way::Compile { .. } => {
            container.up && container.by == Some(place)
        }
    };
    wanted || container.died
}

/// What holds in each state.
pub fn check(scenario: &Scenario, state: &State) -> Result<(), String> {
    for (slot, task) in tasks(state) {
        tally(task)?;
        order(task)?;
        untouched(state, slot)?;
        counted(task)?;
        commands(task)?;
        if task.state == TaskState::Succeeded
            && !task.deployments.iter().all(|deployment| deployment.state == DeploymentState::Succeeded)
        {
            return Err("it succeeded with something left to do".into());
        }
    }
    for going in state.going.iter().filter(|going| !going.orphan) {
        let task = state.slots[going.place.0].memory();
        let running = task.is_some_and(|task| {
            task.state.is_active() && task.deployments[going.place.1].state == DeploymentState::Running
        });
        if !running {
            return Err(format!("{going:?} goes on, and its deployment does not"));
        }
    }
    alone(scenario, state)
}

/// One active task for each service.
fn alone(scenario: &Scenario, state: &State) -> Result<(), String> {
    let mut held = BTreeSet::new();
    for (slot, task) in tasks(state).filter(|(_, task)| task.state.is_active()) {
        let services: BTreeSet<u64> = scenario.plans[slot].iter().map(|item| item.service).collect();
        if !services.into_iter().all(|service| held.insert(service)) {
            return Err(format!("task {} is active beside another one over the same service", task.id));
        }
    }
    Ok(())
}

/// The counts are those of the deployments, counted anew.
fn tally(task: &Task) -> Result<(), String> {
    let of = |state: DeploymentState| {
        task.deployments.iter().filter(|deployment| deployment.state == state).count() as u32
    };
    let progress = task.progress();
    let counted = [
        of(DeploymentState::Pending),
        of(DeploymentState::Running),
        of(DeploymentState::Succeeded),
        of(DeploymentState::Failed),
        of(DeploymentState::Skipped),
        of(DeploymentState::Interrupted),
    ];
    let told = [
        progress.pending,
        progress.running,
        progress.succeeded,
        progress.failed,
        progress.skipped,
        progress.interrupted,
    ];
    let operations: usize = task.deployments.iter().map(|deployment| deployment.operations.len()).sum();
    let all = (task.deployments.len(), operations);
    if told != counted || (progress.total as usize, progress.operations as usize) != all {
        return Err(format!("the tally is {progress:?}, counted: {counted:?}"));
    }
    let ends = [DeploymentState::Pending, DeploymentState::Running];
    if task.state.is_final() && ends.into_iter().any(|state| of(state) > 0) {
        return Err("it is over, and a deployment is not".into());
    }
    if !task.state.is_active() && of(DeploymentState::Running) > 0 {
        return Err("it rests, and a deployment does not".into());
    }
    Ok(())
}

/// No deployment begins before those of the batches before have succeeded.
fn order(task: &Task) -> Result<(), String> {
    let mut earlier_over = true;
    for batch in &task.batches {
        let deployments = &task.deployments[batch.deployments.clone()];
        let untouched = |deployment: &Deployment| {
            matches!(deployment.state, DeploymentState::Pending | DeploymentState::Skipped)
        };
        if !earlier_over && !deployments.iter().all(untouched) {
            return Err("a batch began before the one before it had succeeded".into());
        }
        earlier_over &= deployments.iter().all(|deployment| deployment.state == DeploymentState::Succeeded);
    }
    Ok(())
}

/// What the fold counts along is what counting gives.
fn counted(task: &Task) -> Result<(), String> {
    if task.is_counted_right() { Ok(()) } else { Err(format!("{:?} is counted wrongly", task.progress())) }
}

/// What is held back was not touched.
fn untouched(state: &State, slot: usize) -> Result<(), String> {
    let Some(task) = state.slots[slot].durable() else { return Ok(()) };
    for (d, deployment) in task.deployments.iter().enumerate() {
        for (o, operation) in deployment.operations.iter().enumerate() {
            let untouched = matches!(operation.state, OperationState::Pending | OperationState::Skipped);
            if untouched && state.carried[slot][d][o] != Carried::default() {
                return Err(format!("{:?} is {:?} and was carried out", (slot, d, o), operation.state));
            }
        }
    }
    Ok(())
}

/// What is said to be possible is what is accepted, and every refusal says what was asked, and where.
fn commands(task: &Task) -> Result<(), String> {
    let kind = (task.state, task.has_failed());
    if !JUDGED.with_borrow_mut(|judged| judged.insert(kind)) {
        return Ok(());
    }
    let state = task.state;
    let (stop, cut) = (Command::Stop { now: false }, Command::Stop { now: true });
    for command in [stop, cut, Command::Pause, Command::Resume { force: false }, Command::Delete] {
        let possible = state.possible().contains(&command.name());
        let judged = command.judge(state, by());
        let accepted = match &judged {
            Ok(Verdict::Cut(events)) => {
                let mut task = task.clone();
                for event in events {
                    task.apply(event, task.changed_at).map_err(|error| error.to_string())?;
                }
                true
            }
            Ok(Verdict::Record(event)) => {
                task.clone().apply(event, task.changed_at).map_err(|error| error.to_string())?;
                true
            }
            Ok(Verdict::Delete) => true,
            Ok(Verdict::Already) => false,
            Err(refusal) if *refusal == (Refusal { state, asked: command.name() }) => false,
            Err(refusal) => return Err(format!("{command:?} in {state}: {refusal:?}")),
        };
        // Also a task that is stopping already can be cut.
        if accepted != possible && !matches!(judged, Ok(Verdict::Cut(_))) {
            return Err(format!("{command:?} in {state} is possible: {possible}, and judged {judged:?}"));
        }
    }
    Ok(())
}
