//! All states that can be reached, each once; and whether an end can be reached from each of them.

use std::collections::{HashMap, VecDeque};

use crate::acts::{Act, acts};
use crate::after::after;
use crate::key::key;
use crate::plan::Scenario;
use crate::rules;
use crate::state::{Slot, State};

/// What was found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Acts that were tried.
    pub acts: usize,
    /// The longest shortest way to a state.
    pub depth: usize,
}

struct Search<'a> {
    scenario: &'a Scenario,
    numbers: HashMap<u64, u32>,
    /// How each state was reached first.
    ways: Vec<(u32, Option<Act>)>,
    /// The daemon's ways to the end, backwards.
    before: Vec<Vec<u32>>,
    ends: Vec<u32>,
}

/// Explores a scenario to its end.
pub fn explore(scenario: &Scenario) -> Found {
    let mut search =
        Search { scenario, numbers: HashMap::new(), ways: Vec::new(), before: Vec::new(), ends: Vec::new() };
    let first = State::new(scenario);
    let mut frontier = VecDeque::from([(search.number(&first, 0, None).0, 0, first)]);
    let mut found = Found::default();
    while let Some((number, depth, state)) = frontier.pop_front() {
        found.depth = depth;
        if is_over(&state) {
            search.ends.push(number);
        }
        for act in acts(scenario, &state) {
            found.acts += 1;
            let broken = |rule, search: &Search| -> ! {
                panic!("{}: {rule}\n{}", scenario.name, search.way(number, act))
            };
            let next = after(scenario, &state, act).unwrap_or_else(|rule| broken(rule, &search));
            let (reached, is_new) = search.number(&next, number, Some(act));
            if is_new {
                rules::check(scenario, &next).unwrap_or_else(|rule| broken(rule, &search));
            }
            if act.is_progress() {
                search.before[reached as usize].push(number);
            }
            if is_new {
                frontier.push_back((reached, depth + 1, next));
            }
        }
    }
    search.every_state_reaches_an_end();
    found.states = search.ways.len();
    found
}

/// Nothing goes on, nothing rests for a while, and all of that is on disk.
pub fn is_over(state: &State) -> bool {
    let over = |slot: &Slot| slot.memory().is_none_or(|task| task.state.is_final());
    state.queue.is_empty() && state.going.is_empty() && state.slots.iter().all(over)
}

impl Search<'_> {
    fn number(&mut self, state: &State, from: u32, by: Option<Act>) -> (u32, bool) {
        let next = u32::try_from(self.ways.len()).unwrap();
        let number = *self.numbers.entry(key(self.scenario, state)).or_insert(next);
        if number == next {
            self.ways.push((from, by));
            self.before.push(Vec::new());
        }
        (number, number == next)
    }

    fn way(&self, mut number: u32, last: Act) -> String {
        let mut way = vec![format!("{last:?}")];
        while let (from, Some(act)) = self.ways[number as usize] {
            way.push(format!("{act:?}"));
            number = from;
        }
        way.reverse();
        way.join(", ")
    }

    fn every_state_reaches_an_end(&self) {
        let mut reaches = vec![false; self.ways.len()];
        let mut left = self.ends.clone();
        while let Some(number) = left.pop() {
            if !std::mem::replace(&mut reaches[number as usize], true) {
                left.extend(&self.before[number as usize]);
            }
        }
        if let Some(stuck) = reaches.iter().position(|reaches| !reaches) {
            let way = self.way(u32::try_from(stuck).unwrap(), Act::Commit);
            panic!("{}: no end can be reached after {way}", self.scenario.name);
        }
    }
}
