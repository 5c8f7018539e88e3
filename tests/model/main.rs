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
mod key;
mod plan;
mod rules;
mod search;
mod state;

use deployd::plan::Way;

use plan::{Item, Scenario};

fn scenario(name: &'static str, plans: Vec<Vec<Item>>) -> Scenario {
    Scenario { name, plans, crashes: 0, panics: false, failures: 0, deaths: 0, commands: false }
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
        batch(2, 2, 2, &Way::Restart, false),
        batch(5, 1, 1, &Way::Start, true),
    ];
    let three = Scenario { crashes: 3, ..scenario("three batches", vec![plan.concat()]) };
    assert!(explored(&three) >= 10_000);
}
