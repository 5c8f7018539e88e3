//! What a look at a container comes to, and what a journal can't say. (The whole state machine is
//! explored by `tests/model`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deployment::DeploymentSpec;
use super::event::{Definition, Event};
use super::evidence::{Deeds, Observed, deeds};
use super::operation::{Done, Evidence, Incarnation, OperationEnd};
use super::state::TaskState;
use super::{Caller, Failure, Task, TaskId, Timestamp};
use crate::catalog::{Container, Health, Hooks, RuntimeKind, Service, ServiceId};
use crate::plan::{ContainerOrder, Way};

/// One deployment of a generated plan: priority, containers, PARALLEL, which way.
type Shape = (i64, usize, bool, u8);

fn spec(index: usize, shape: Shape) -> DeploymentSpec {
    let (priority, containers, parallel, way) = shape;
    let containers: Vec<String> = (0..containers).map(|number| format!("c{number}")).collect();
    let container = |name: &String| Container {
        name: name.clone(),
        labels: Vec::new(),
        environment: BTreeMap::new(),
        unit: None,
    };
    let service = Service {
        id: ServiceId::new(index as u64 + 1).unwrap(),
        name: format!("s{index}"),
        description: None,
        runtime: RuntimeKind::Process,
        containers: containers.iter().map(container).collect(),
        run: None,
        health: Health {
            probe: None,
            interval: std::time::Duration::ZERO,
            timeout: std::time::Duration::ZERO,
            settle: std::time::Duration::ZERO,
        },
        build: None,
        hooks: Hooks::default(),
        shared_paths: Vec::new(),
        keep_releases: 1,
        strip_components: 0,
    };
    DeploymentSpec {
        service: Arc::new(service),
        priority,
        way: [Way::Start, Way::Stop, Way::Restart][usize::from(way % 3)].clone(),
        order: if parallel { ContainerOrder::Parallel } else { ContainerOrder::Sequential },
        labels: Vec::new(),
        containers,
    }
}

fn by() -> Caller {
    Caller { uid: 0, user: "u".into(), pid: None, program: None }
}

fn task(shapes: &[Shape]) -> Task {
    let deployments = shapes.iter().enumerate().map(|(index, shape)| spec(index, *shape)).collect();
    let definition = Definition { plan: "p".into(), revision: 1, comment: None, deployments };
    Task::begin(TaskId(1), &Event::Started { by: by(), definition }, Timestamp(0)).unwrap()
}

fn begun(deployment: usize, operation: usize) -> Event {
    Event::OperationBegun { deployment, operation, evidence: Evidence::default(), to_release: None }
}

fn ended(deployment: usize, operation: usize) -> Event {
    let end = OperationEnd { result: Ok(Done::Unchanged), detail: String::new(), settled: None };
    Event::OperationEnded { deployment, operation, end }
}

fn failed() -> Failure {
    Failure { code: "f".into(), message: "f".into(), log: Vec::new() }
}

#[test]
fn what_remains_to_be_done_is_told_by_what_is_there() {
    let up = |operation: &str| Observed::Up {
        incarnation: Incarnation::Process { boot_id: "b".into(), pid: 1, start_ticks: 1 },
        operation: operation.into(),
    };
    let down = |ended: Option<&str>| Observed::Down { ended: ended.map(str::to_string) };
    let package = Way::HttpUpload { uri: "http://x".into(), sha256: None };
    let cases = [
        (Way::Start, up("other"), Deeds::Leave),
        (Way::Start, up("me"), Deeds::AwaitHealth),
        (Way::Start, down(None), Deeds::Start { stop_first: false }),
        (Way::Start, down(Some("other")), Deeds::Start { stop_first: false }),
        (Way::Start, down(Some("me")), Deeds::Died),
        (Way::Stop, up("other"), Deeds::Stop { running: true }),
        (Way::Stop, down(Some("other")), Deeds::Stop { running: false }),
        (Way::Restart, up("other"), Deeds::Start { stop_first: true }),
        (Way::Restart, up("me"), Deeds::AwaitHealth),
        (Way::Restart, down(None), Deeds::Start { stop_first: false }),
        (package.clone(), up("other"), Deeds::Start { stop_first: true }),
        (package.clone(), up("me"), Deeds::AwaitHealth),
        (package, down(Some("me")), Deeds::Died),
    ];
    for (way, observed, expected) in cases {
        assert_eq!(deeds(&way, "me", &observed), expected, "{way:?} {observed:?}");
    }
}

/// What a journal may say next, and what it may not: that is refused, and changes nothing.
#[test]
fn events_that_can_not_be_change_nothing() {
    let mut task = task(&[(1, 2, false, 0), (1, 1, false, 0), (0, 1, false, 0)]);
    let succeeded = |deployment| Event::DeploymentEnded { deployment, result: Ok(()) };
    let ended_badly = |deployment| Event::DeploymentEnded { deployment, result: Err(failed()) };
    let begin = |deployment| Event::DeploymentBegun { deployment };
    // Each event that happens, and before it those that can't.
    let story: [(Vec<Event>, Event); 7] = [
        (vec![begin(2), begin(7), begun(0, 0), succeeded(0), Event::Completed, Event::Failed], begin(0)),
        (vec![begin(0), begun(0, 1), ended(0, 0), succeeded(0), Event::Drained], begun(0, 0)),
        (vec![begun(0, 0), begun(0, 1), succeeded(0), ended_badly(0), Event::Completed], ended(0, 0)),
        (vec![ended(0, 0), begun(0, 0), succeeded(0)], begun(0, 1)),
        (vec![begin(0)], ended(0, 1)),
        (vec![begin(2), Event::Completed, Event::Failed, Event::Drained], ended_badly(0)),
        (
            vec![begin(1), begin(2), begun(0, 0), succeeded(0), Event::Completed, Event::Drained],
            Event::Failed,
        ),
    ];
    for (illegal, event) in story {
        for event in illegal {
            let before = task.clone();
            task.apply(&event, Timestamp(1)).unwrap_err();
            assert_eq!(task, before, "{event:?}");
        }
        task.apply(&event, Timestamp(1)).unwrap();
    }
    assert_eq!(task.state, TaskState::Failed);
    let started = Event::Started {
        by: by(),
        definition: Definition { plan: "p".into(), revision: 1, comment: None, deployments: Vec::new() },
    };
    task.apply(&started, Timestamp(1)).unwrap_err();
    assert!(Task::begin(TaskId(1), &Event::Completed, Timestamp(0)).is_err());
}
