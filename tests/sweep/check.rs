//! What has to be true when all is over: the containers' own records, the processes and the reports agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use deployd::task::{Task, TaskId};

use crate::harness::Start;
use crate::stage::Stage;

/// Checks a stage after `lives` lives of its daemon.
pub fn check(stage: &Stage, what: &str, lives: usize) {
    let told = || format!("{what}\n{}", stage.daemon.log());
    let starts = stage.daemon.witness();
    let stops = stage.daemon.written("stops");
    let mut operations = BTreeMap::<&str, usize>::new();
    for start in &starts {
        *operations.entry(&start.operation).or_default() += 1;
    }
    let twice: Vec<_> = operations.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "carried out more than once: {twice:?}: {}", told());
    let of = |list: &[Start], name: &str| -> Vec<i32> {
        list.iter().filter(|line| line.container == name).map(|line| line.pid).collect()
    };
    for (name, fate) in &stage.fates {
        let (started, stopped) = (of(&starts, name), of(&stops, name));
        let (least, most) = fate.starts;
        assert!(
            (least..=most).contains(&started.len()),
            "{name} was started {} times: {}",
            started.len(),
            told()
        );
        let up = started.last().is_some_and(|pid| is_up(*pid));
        if let Some(wanted) = fate.up {
            assert_eq!(up, wanted, "{name} runs: {}", told());
        }
        // Each process but the one that runs was told to end, once.
        let ended: Vec<_> = started.iter().take(started.len() - usize::from(up)).copied().collect();
        assert_eq!(stopped, ended, "{name} was stopped: {}", told());
    }
    let strangers: BTreeSet<_> =
        starts.iter().map(|start| &*start.container).filter(|name| !stage.fates.contains_key(name)).collect();
    assert!(strangers.is_empty(), "{strangers:?}: {}", told());
    for (name, count) in &stage.marks {
        let marks = marks(stage, name);
        // What was going on when the daemon died is begun anew; what was done is not.
        assert!((*count..*count + lives).contains(&marks), "{name} was done {marks} times: {}", told());
    }
    for (path, count) in &stage.fetched {
        let fetched = stage.server.count(path);
        assert!(
            (*count..*count + lives).contains(&fetched),
            "{path} was fetched {fetched} times: {}",
            told()
        );
    }
    reports(stage, &operations, &told());
    leftovers(stage, &told());
}

pub fn is_up(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn marks(stage: &Stage, name: &str) -> usize {
    let marks = fs::read_dir(stage.daemon.path("marks")).unwrap();
    marks.filter(|mark| mark.as_ref().unwrap().file_name().to_str().unwrap().starts_with(name)).count()
}

/// What a report calls done was done, and what it calls held back was not.
fn reports(stage: &Stage, carried_out: &BTreeMap<&str, usize>, told: &str) {
    let (_, tasks) = stage.daemon.call("GET", "/v1/tasks", "");
    for task in tasks["tasks"].as_array().unwrap() {
        let report = stage.daemon.report(task["id"].as_u64().unwrap());
        let events = report["events"].as_array().unwrap();
        let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}: {told}");
        for (d, deployment) in report["deployments"].as_array().unwrap().iter().enumerate() {
            let starts = deployment["deployment"] != "STOP";
            for (o, operation) in deployment["operations"].as_array().unwrap().iter().enumerate() {
                // An operation's id begins with that of the store.
                let id = Task::operation_id("", TaskId(task["id"].as_u64().unwrap()), d, o);
                let done = carried_out.iter().filter(|(full, _)| full.ends_with(&id)).count();
                let right = match operation["state"].as_str().unwrap() {
                    "SUCCEEDED" => done == usize::from(starts),
                    "PENDING" | "SKIPPED" | "UNCHANGED" => done == 0,
                    _ => done <= 1,
                };
                assert!(right, "{operation:#} was carried out {done} times: {told}");
            }
        }
    }
}

/// Nothing unfinished is left in the state directory.
fn leftovers(stage: &Stage, told: &str) {
    let mut left = Vec::new();
    let mut directories = vec![stage.daemon.path("state")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
            if name.contains(".tmp") || name.contains(".part") {
                left.push(entry.path());
            }
        }
    }
    assert!(left.is_empty(), "{left:?}: {told}");
    let (_, tasks) = stage.daemon.call("GET", "/v1/tasks", "");
    let known: BTreeSet<_> =
        tasks["tasks"].as_array().unwrap().iter().map(|task| task["id"].to_string()).collect();
    for log in fs::read_dir(stage.daemon.path("state/tasks")).into_iter().flatten() {
        let id = log.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&id), "a log of task {id}, which is gone: {told}");
    }
}
