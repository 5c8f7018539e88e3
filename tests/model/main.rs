//! The state machine of a task, explored: whatever users, failures and crashes do, in whatever order,
//! nothing is done twice, nothing is left out, the order holds, and an end can be reached.
//!
//! What is explored is the project's own code: [`deployd::task`] decides, folds, judges and admits;
//! only what surrounds it is modelled ([`state`]). `DEPLOYD_TEST_SCALE` above 1 explores larger plans.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "these are tests, helpers included"
)]

mod acts;
mod after;
mod key;
mod plan;
mod random;
mod rules;
mod search;
mod state;

use std::collections::BTreeSet;

use deployd::plan::Way;
use deployd::task::command::{Command, Verdict};
use deployd::task::state::{Refusal, TaskState};

use plan::{Item, Scenario};
use rules::Row;

fn scenario(name: &'static str, plans: Vec<Vec<Item>>) -> Scenario {
    let unsynced = if scale() == 1 { 2 } else { usize::MAX };
    Scenario {
        name,
        plans,
        unsynced,
        crashes: 0,
        panics: false,
        failures: 0,
        deaths: 0,
        prefetch: false,
        commands: false,
    }
}

/// `DEPLOYD_TEST_SCALE`
fn scale() -> u64 {
    std::env::var("DEPLOYD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

fn explored(scenario: &Scenario) -> usize {
    let begun = std::time::Instant::now();
    let found = search::explore(scenario);
    println!("{}: {found:?} in {:.1} s", scenario.name, begun.elapsed().as_secs_f64());
    found.states
}

#[test]
fn three_batches_of_up_to_three_services_with_two_containers_and_three_crashes() {
    let batch = |first: u64, count: u64, priority: i64, way: &Way, parallel: bool| {
        let item = move |service| Item { parallel, ..Item::new(service, priority, 2, way.clone()) };
        (first..first + count).map(item).collect::<Vec<_>>()
    };
    let plan = [
        batch(1, 1, 3, &Way::Stop, false),
        batch(2, 3, 2, &Way::Restart, false),
        batch(5, scale().min(2), 1, &Way::Start, true),
    ];
    let three = Scenario { crashes: 3, ..scenario("three batches, killed", vec![plan.concat()]) };
    assert!(explored(&three) >= 100_000);
}

#[test]
fn commands_failures_and_crashes_in_any_order() {
    let items = |second: Item| {
        vec![
            Item::new(1, 2, 1, Way::Restart),
            Item::new(2, 2, 1, Way::Stop),
            second,
            Item::new(4, 0, 1, Way::Start),
        ]
    };
    let second = Item::new(3, 1, 2, Way::Restart).parallel();
    let mut seen = BTreeSet::new();
    let disturbed = scenario("commands and crashes", vec![items(second)]);
    explored(&Scenario { crashes: 2, panics: true, failures: 1, commands: true, ..disturbed });
    seen.extend(rules::rows());
    assert_eq!(seen, BTreeSet::from(TABLE), "what was seen is not the table of the contract");
}

#[test]
fn artifacts_and_hooks_are_steps_like_others() {
    let item = |service, way| Item { hooks: true, ..Item::new(service, 1, 1, way) };
    let upload = item(1, Way::HttpUpload { uri: "https://example.org/p".into(), sha256: None });
    let repository = "https://example.org/r".to_string();
    let compile = item(2, Way::Compile { repository, branch: "main".into(), commit: None });
    let steps = scenario("artifacts and hooks", vec![vec![upload, compile]]);
    explored(&Scenario { crashes: 1, failures: 1, panics: true, commands: true, ..steps });
}

#[test]
fn what_later_batches_need_is_prepared_in_advance() {
    let upload = || Way::HttpUpload { uri: "https://example.org/p".into(), sha256: None };
    let repository = "https://example.org/r".to_string();
    let compile = Way::Compile { repository, branch: "main".into(), commit: None };
    let plan = vec![
        Item::new(1, 2, 1, Way::Restart),
        Item::new(2, 1, 1, upload()),
        Item::new(3, 1, 1, compile),
        Item::new(1, 0, 1, upload()),
    ];
    let ahead = Scenario { prefetch: true, ..scenario("prefetch", vec![plan]) };
    explored(&Scenario { crashes: 1, failures: 1, panics: true, commands: true, ..ahead });
}

#[test]
fn containers_that_end_by_themselves() {
    let plan =
        vec![Item::new(1, 1, 2, Way::Restart), Item::new(2, 1, 1, Way::Start), Item::new(3, 0, 1, Way::Stop)];
    explored(&Scenario { crashes: 2, panics: true, deaths: 1, ..scenario("deaths", vec![plan]) });
}

#[test]
fn a_service_that_is_stopped_first_and_released_later() {
    let plan =
        vec![Item::new(1, 2, 2, Way::Stop), Item::new(2, 1, 1, Way::Restart), Item::new(1, 0, 2, Way::Start)];
    let twice = scenario("twice in a plan", vec![plan]);
    explored(&Scenario { crashes: 3, panics: true, commands: true, ..twice });
}

#[test]
fn two_tasks_that_share_a_service() {
    let first = vec![Item::new(1, 1, 1, Way::Restart), Item::new(2, 0, 1, Way::Restart)];
    let second = vec![Item::new(2, 1, 1, Way::Restart), Item::new(3, 0, 1, Way::Start)];
    let two = scenario("two tasks", vec![first, second]);
    explored(&Scenario { crashes: 1, panics: true, failures: 1, commands: true, ..two });
}

/// What each command comes to in each state: done, already so, or refused.
#[test]
fn every_command_in_every_state_is_done_or_already_so_or_refused() {
    let expected = [
        (TaskState::Running, ["done", "done", "so", "refused"]),
        (TaskState::Stopping, ["so", "refused", "refused", "refused"]),
        (TaskState::Pausing, ["done", "so", "refused", "refused"]),
        (TaskState::Succeeded, ["refused", "refused", "refused", "done"]),
        (TaskState::Failed, ["refused", "refused", "refused", "done"]),
        (TaskState::Stopped, ["so", "refused", "refused", "done"]),
        (TaskState::Paused, ["done", "so", "done", "done"]),
        (TaskState::Interrupted, ["done", "refused", "done", "done"]),
    ];
    let commands =
        [Command::Stop { now: false }, Command::Pause, Command::Resume { force: false }, Command::Delete];
    assert_eq!(expected.map(|(state, _)| state), TaskState::ALL);
    for (state, said) in expected {
        let judged = commands.map(|command| match command.judge(state, plan::by()) {
            Ok(Verdict::Record(_) | Verdict::Cut(_) | Verdict::Delete) => "done",
            Ok(Verdict::Already) => "so",
            Err(refusal) => {
                assert_eq!(refusal, Refusal { state, asked: command.name() });
                "refused"
            }
        });
        assert_eq!(judged, said, "{state}");
        let possible: Vec<_> = commands
            .into_iter()
            .zip(said)
            .filter(|(_, said)| *said == "done")
            .map(|(c, _)| c.name())
            .collect();
        let told: BTreeSet<_> = state.possible().iter().copied().collect();
        assert_eq!(told, BTreeSet::from_iter(possible), "{state}");
    }
}

/// The table of the contract, row by row.
const TABLE: [Row; 24] = [
    ("STOPPING", "task.cutRequested", "STOPPING"),
    ("RUNNING", "task.succeeded", "SUCCEEDED"),
    ("RUNNING", "task.failed", "FAILED"),
    ("STOPPING", "task.failed", "FAILED"),
    ("PAUSING", "task.failed", "FAILED"),
    ("RUNNING", "task.stopRequested", "STOPPING"),
    ("RUNNING", "task.pauseRequested", "PAUSING"),
    ("PAUSING", "task.stopRequested", "STOPPING"),
    ("STOPPING", "task.drained", "STOPPED"),
    ("PAUSING", "task.drained", "PAUSED"),
    ("STOPPING", "task.succeeded", "SUCCEEDED"),
    ("PAUSING", "task.succeeded", "SUCCEEDED"),
    ("RUNNING", "task.interrupted", "INTERRUPTED"),
    ("STOPPING", "task.interrupted", "INTERRUPTED"),
    ("PAUSING", "task.interrupted", "INTERRUPTED"),
    ("PAUSED", "task.resumed", "RUNNING"),
    ("INTERRUPTED", "task.resumed", "RUNNING"),
    ("PAUSED", "task.stopRequested", "STOPPED"),
    ("INTERRUPTED", "task.stopRequested", "STOPPED"),
    ("PAUSED", "delete", "gone"),
    ("INTERRUPTED", "delete", "gone"),
    ("SUCCEEDED", "delete", "gone"),
    ("FAILED", "delete", "gone"),
    ("STOPPED", "delete", "gone"),
];
