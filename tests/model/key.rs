//! When two states are one: what differs only in which of several equal deployments is where.

use std::hash::{DefaultHasher, Hash, Hasher};

use deployd::task::Task;
use deployd::task::event::Event;
use deployd::task::operation::OperationState;

use crate::plan::Scenario;
use crate::state::{Going, Slot, State, deployment_of};

/// What tells a state from the others. (64 bits: of a million states two fall together once in 10^7 runs.)
pub fn key(scenario: &Scenario, state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (slot, task) in state.slots.iter().enumerate() {
        match task {
            Slot::Absent => 0_u8.hash(&mut hasher),
            Slot::Deleted => 1_u8.hash(&mut hasher),
            Slot::Task { durable, .. } => {
                (durable.state, durable.reason).hash(&mut hasher);
                let mut parts: Vec<(usize, Vec<u8>)> = (0..durable.deployments.len())
                    .map(|d| (kind(scenario, durable, d), deployment(state, durable, (slot, d))))
                    .collect();
                if scenario.is_symmetric() {
                    parts.sort_unstable();
                }
                parts.hash(&mut hasher);
            }
        }
    }
    for (at, (slot, event)) in state.queue.iter().enumerate() {
        if deployment_of(event).is_none() {
            (at, slot, event.name()).hash(&mut hasher);
        }
    }
    for going in state.going.iter().filter(|going| state.slots[going.place.0].durable().is_none()) {
        (going.place, progress(going)).hash(&mut hasher);
    }
    if !scenario.is_symmetric() {
        let world = state.world.iter().flatten();
        world.for_each(|container| (container.up, container.died, container.by).hash(&mut hasher));
    }
    (&state.cutting, state.crashes, state.failures, state.deaths).hash(&mut hasher);
    hasher.finish()
}

/// Deployments of one kind do the same to equal containers in the same batch.
fn kind(scenario: &Scenario, task: &Task, deployment: usize) -> usize {
    let spec = &task.deployments[deployment].spec;
    let same = |other: &deployd::task::deployment::Deployment| {
        other.spec.priority == spec.priority
            && other.spec.way == spec.way
            && other.spec.order == spec.order
            && other.spec.containers == spec.containers
            && other.spec.service.hooks == spec.service.hooks
    };
    if scenario.is_symmetric() { task.deployments.iter().position(same).unwrap() } else { deployment }
}

fn progress(going: &Going) -> (u8, bool, bool, bool) {
    let seen = going.deeds.map_or(0, |deeds| match deeds {
        deployd::task::evidence::Deeds::Leave => 1,
        deployd::task::evidence::Deeds::Stop { running } => 2 + u8::from(running),
        deployd::task::evidence::Deeds::Start { stop_first } => 4 + u8::from(stop_first),
        deployd::task::evidence::Deeds::AwaitHealth => 6,
        deployd::task::evidence::Deeds::Died => 7,
    });
    (seen, going.stop, going.start, going.orphan)
}

/// All about one deployment: as it is on disk, what of it is on the way there, what is being done, its world.
fn deployment(state: &State, task: &Task, (slot, d): (usize, usize)) -> Vec<u8> {
    let deployment = &task.deployments[d];
    let mut bytes = vec![
        u8::from(state.cut.contains(&(slot, d))),
        deployment.state as u8,
        deployment.hooks_done.len() as u8,
        u8::from(deployment.commit.is_some())
            + 2 * u8::from(deployment.pin.is_some())
            + 4 * u8::from(deployment.release.is_some()),
    ];
    for (o, operation) in deployment.operations.iter().enumerate() {
        let carried = state.carried[slot][d][o];
        let (service, container) = state.container_of((slot, d, o));
        let container = state.world[service][container];
        let mine = u8::from(container.by == Some((slot, d, o)));
        let begun = u8::from(operation.evidence.is_some());
        bytes.extend([operation.state as u8, begun, carried.starts, carried.stops]);
        bytes.extend([u8::from(container.up), u8::from(container.died), mine]);
    }
    for (at, (_, event)) in state
        .queue
        .iter()
        .enumerate()
        .filter(|(_, (of, event))| *of == slot && deployment_of(event) == Some(d))
    {
        bytes.extend([255, at as u8]);
        bytes.extend(code(event));
    }
    let mut going: Vec<_> = state
        .going
        .iter()
        .filter(|going| (going.place.0, going.place.1) == (slot, d))
        .map(|going| (going.place.2 as u8, progress(going)))
        .collect();
    going.sort_unstable();
    for (o, (seen, stop, start, orphan)) in going {
        bytes.extend([254, o, seen, u8::from(stop), u8::from(start), u8::from(orphan)]);
    }
    bytes
}

fn code(event: &Event) -> [u8; 3] {
    let name = Event::NAMES.iter().position(|name| *name == event.name()).unwrap() as u8;
    match event {
        Event::OperationBegun { operation, .. } => [name, *operation as u8, 0],
        Event::OperationEnded { operation, end, .. } => {
            let how = match &end.result {
                Ok(deployd::task::operation::Done::Unchanged) => OperationState::Unchanged,
                Ok(_) => OperationState::Succeeded,
                Err(_) => OperationState::Failed,
            };
            [name, *operation as u8, how as u8]
        }
        Event::DeploymentEnded { result, .. } => [name, u8::from(result.is_ok()), 0],
        Event::HookDone { hook, .. } => [name, *hook as u8, 0],
        _ => [name, 0, 0],
    }
}
