//! Beyond what can be explored: larger plans, and whatever happens to them, at random and shrunk.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use deployd::plan::Way;
use deployd::task::state::TaskState;

use crate::acts::{Act, acts, tasks};
use crate::after::after;
use crate::plan::{Item, Scenario};
use crate::search::is_over;
use crate::state::State;
use crate::{rules, scale};

fn way() -> impl Strategy<Value = Way> {
    let text = || "https://example.org/x".to_string();
    prop_oneof![
        3 => Just(Way::Start),
        3 => Just(Way::Stop),
        3 => Just(Way::Restart),
        1 => Just(Way::HttpUpload { uri: text(), sha256: None }),
        1 => Just(Way::Compile { repository: text(), branch: "main".into(), commit: None }),
    ]
}

/// The items of a plan; no service stands twice in a batch.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (1_u64..6, 0_i64..4, 1_usize..4, any::<bool>(), way(), prop::bool::weighted(0.2)).prop_map(
        |(service, priority, containers, parallel, way, hooks)| Item {
            parallel,
            hooks,
            ..Item::new(service, priority, containers, way)
        },
    );
    prop::collection::vec(item, 1..8).prop_map(|mut items| {
        items.sort_by_key(|item| (item.service, item.priority));
        items.dedup_by_key(|item| (item.service, item.priority));
        // A service has as many containers as it has, whatever plan it is in.
        for item in &mut items {
            item.containers = usize::try_from(item.service % 3).unwrap() + 1;
        }
        items
    })
}

/// Which act comes next: at first among all, then among those that disturb.
type Choice = (u8, u16);

fn run(scenario: &Scenario, script: &[Choice]) -> Result<(), String> {
    let mut state = State::new(scenario);
    let mut way = Vec::new();
    let mut take = |state: &mut State, act: Act| {
        way.push(act);
        let next = after(scenario, state, act).and_then(|next| rules::check(scenario, &next).map(|()| next));
        *state = next.map_err(|rule| format!("{rule}\n{way:?}"))?;
        Ok::<(), String>(())
    };
    for &(kind, which) in script {
        let all = acts(scenario, &state);
        let (progress, disturbance): (Vec<Act>, Vec<Act>) =
            all.into_iter().partition(|act| act.is_progress());
        let among = if kind < 230 || disturbance.is_empty() { progress } else { disturbance };
        if let Some(&act) = among.get(usize::from(which) % among.len().max(1)) {
            take(&mut state, act)?;
        }
    }
    // Undisturbed from here on, and resumed where that is needed, every task comes to an end.
    for step in 0..10_000_usize {
        if is_over(&state) {
            break;
        }
        let progress: Vec<Act> = acts(scenario, &state).into_iter().filter(|act| act.is_progress()).collect();
        let act = progress.get(step % progress.len().max(1)).ok_or("nothing can go on")?;
        take(&mut state, *act)?;
    }
    if !is_over(&state) {
        return Err("it never comes to an end".into());
    }
    for (slot, task) in tasks(&state) {
        if state.slots[slot].durable() != Some(task) {
            return Err("what is in memory is not what is on disk".into());
        }
        let progress = task.progress();
        if task.state == TaskState::Succeeded && progress.operations_done != progress.operations {
            return Err("it succeeded with something left to do".into());
        }
    }
    Ok(())
}

#[test]
fn whatever_happens_to_larger_plans() {
    let plans = prop::collection::vec(items(), 1..4);
    let wrong = (0_u8..6, 0_u8..4, 0_u8..4);
    let script = prop::collection::vec(any::<Choice>(), 0..400);
    let cases = 400 * u32::try_from(scale()).unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let ran = runner.run(&(plans, wrong, script), |(plans, (crashes, failures, deaths), script)| {
        let scenario = Scenario {
            name: "at random",
            plans,
            unsynced: usize::MAX,
            crashes,
            panics: true,
            failures,
            deaths,
            prefetch: true,
            commands: true,
        };
        run(&scenario, &script).map_err(TestCaseError::fail)
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}
