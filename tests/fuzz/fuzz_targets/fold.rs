//! The journal's fold: any list of events leaves a task that adds up; what is illegal changes nothing.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deployd::catalog::{Container, Health, Hooks, RuntimeKind, Service, ServiceId};
use deployd::control::convert;
use deployd::plan::{ContainerOrder, Way};
use deployd::store::{JournalEvent, StoredEvent};
use deployd::task::decide::{Decision, decide};
use deployd::task::deployment::{DeploymentSpec, DeploymentState, Hook, Pin};
use deployd::task::event::{Definition, Event};
use deployd::task::operation::{Done, Evidence, Incarnation, OperationEnd, OperationState};
use deployd::task::{Caller, Failure, Reason, Task, TaskId, Timestamp};
use libfuzzer_sys::fuzz_target;

fn by() -> Caller {
    Caller { uid: 0, user: "u".into(), pid: None, program: None }
}

fn spec(index: u64, shape: u8, extras: u8) -> DeploymentSpec {
    let names: Vec<String> = (0..=shape >> 6).map(|number| format!("c{number}")).collect();
    let container =
        |name: &String| Container { name: name.clone(), labels: Vec::new(), environment: BTreeMap::new(), unit: None };
    let hook = |bit: u8| (extras & bit != 0).then(|| vec!["/bin/true".to_string()]);
    let (source, branch) = ("https://example.org/x".to_string(), "main".to_string());
    let service = Service {
        id: ServiceId::new(index + 1).expect("it is not zero"),
        name: format!("s{index}"),
        description: None,
        runtime: RuntimeKind::Process,
        containers: names.iter().map(container).collect(),
        run: None,
        health: Health { probe: None, interval: Duration::ZERO, timeout: Duration::ZERO, settle: Duration::ZERO },
        build: None,
        hooks: Hooks { pre_deploy: hook(1), post_deploy: hook(2) },
        shared_paths: Vec::new(),
        keep_releases: 1,
        strip_components: 0,
    };
    DeploymentSpec {
        service: Arc::new(service),
        priority: -i64::from(shape & 3),
        way: match shape >> 2 & 7 {
            0 => Way::Start,
            1 => Way::Stop,
            2 => Way::Restart,
            3 | 4 => Way::HttpUpload { uri: source, sha256: None },
            _ => Way::Compile { repository: source, branch, commit: None },
        },
        order: if shape & 32 == 0 { ContainerOrder::Sequential } else { ContainerOrder::Parallel },
        labels: Vec::new(),
        containers: names,
    }
}

fn definition(bytes: &mut impl Iterator<Item = u8>) -> Option<Definition> {
    let count = u64::from(bytes.next()? % 6) + 1;
    let shapes: Option<Vec<_>> = (0..count).map(|index| Some(spec(index, bytes.next()?, bytes.next()?))).collect();
    let mut deployments = shapes?;
    deployments.sort_by_key(|spec| std::cmp::Reverse(spec.priority));
    Some(Definition { plan: "p".into(), revision: 1, comment: None, deployments })
}

fn event(bytes: &mut impl Iterator<Item = u8>) -> Option<Event> {
    let (kind, which) = (bytes.next()?, bytes.next()?);
    let (deployment, operation) = (usize::from(which & 7), usize::from(which >> 3 & 7));
    let text = || "x".to_string();
    let failure = || Failure { code: "f".into(), message: "f".into(), log: Vec::new() };
    let incarnation = Incarnation::Process { boot_id: text(), pid: 1, start_ticks: 1 };
    let end = |result| OperationEnd { result, detail: String::new(), settled: None };
    Some(match kind % 26 {
        0 => Event::StopRequested { by: by() },
        1 => Event::PauseRequested { by: by() },
        2 => Event::Resumed { by: by(), force: which & 1 == 1 },
        3 | 4 => Event::DeploymentBegun { deployment },
        5 => Event::CommitPinned { deployment, commit: text() },
        6 => {
            let pin = Pin { source: text(), sha256: text(), bytes: 1, commit: None };
            Event::ArtifactPinned { deployment, pin }
        }
        7 => Event::ReleasePrepared { deployment, release: text() },
        8 => Event::HookDone { deployment, hook: Hook::PreDeploy },
        9 => Event::HookDone { deployment, hook: Hook::PostDeploy },
        10 => Event::Noted { deployment, note: text() },
        11 | 12 => {
            Event::OperationBegun { deployment, operation, evidence: Evidence::default(), to_release: None }
        }
        13 => Event::OperationEnded { deployment, operation, end: end(Ok(Done::Changed(Some(incarnation)))) },
        14 => Event::OperationEnded { deployment, operation, end: end(Ok(Done::Unchanged)) },
        15 => Event::OperationEnded { deployment, operation, end: end(Err(failure())) },
        16 | 17 => Event::DeploymentEnded { deployment, result: Ok(()) },
        18 => Event::DeploymentEnded { deployment, result: Err(failure()) },
        19 => Event::Interrupted { reason: Reason::DaemonDied },
        20 => Event::Completed,
        21 => Event::Failed,
        22 => Event::Drained,
        23 => Event::CutRequested { by: by() },
        24 => Event::DeploymentCut { deployment },
        _ => Event::Started { by: by(), definition: definition(bytes)? },
    })
}

/// What holds of every task, whatever its journal says.
fn adds_up(task: &Task) {
    let progress = task.progress();
    let states = [
        progress.pending,
        progress.running,
        progress.succeeded,
        progress.failed,
        progress.skipped,
        progress.interrupted,
    ];
    assert_eq!(states.iter().sum::<u32>(), progress.total);
    assert_eq!(progress.total as usize, task.deployments.len());
    assert!(progress.operations_done <= progress.operations);
    assert!(task.is_counted_right(), "{task:?}");
    assert_eq!(task.finished_at.is_none(), task.state.is_active());
    let rests = matches!(decide(task), Decision::AtRest);
    assert_eq!(rests, !task.state.is_active());
    for deployment in &task.deployments {
        assert!(task.state.is_active() || deployment.state != DeploymentState::Running);
        assert!(!task.state.is_final() || deployment.state != DeploymentState::Pending);
        for operation in &deployment.operations {
            assert!(
                operation.state != OperationState::Running || deployment.state == DeploymentState::Running,
                "an operation goes on in a deployment that does not: {task:?}"
            );
        }
        deployment.next_step();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let bytes = &mut bytes.iter().copied();
    let Some(definition) = definition(bytes) else { return };
    let started = Event::Started { by: by(), definition };
    let mut task = Task::begin(TaskId(1), &started, Timestamp(0)).expect("it is the first event");
    let mut journal = vec![started];
    while let Some(event) = event(bytes) {
        let before = task.clone();
        match task.apply(&event, Timestamp(journal.len() as i64)) {
            Ok(()) => journal.push(event),
            Err(_) => assert_eq!(task, before, "{} was refused and changed something", event.name()),
        }
        adds_up(&task);
    }
    let mut folded = Task::begin(TaskId(1), &journal[0], Timestamp(0)).expect("it is the first event");
    for (at, event) in journal.iter().enumerate().skip(1) {
        folded.apply(event, Timestamp(at as i64)).expect("it was legal before");
    }
    assert_eq!(folded, task);
    let stored = journal.into_iter().enumerate().map(|(n, event)| StoredEvent {
        seq: n as u64 + 1,
        n: n as u64 + 1,
        task: Some(TaskId(1)),
        at: Timestamp(n as i64),
        event: JournalEvent::Task(event),
    });
    let stored: Vec<_> = stored.collect();
    assert_eq!(convert::report(&task, &stored, |_| None).events.len(), stored.len());
    convert::status(&task, |_| None, &BTreeMap::new());
});
