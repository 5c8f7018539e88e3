//! A store that was restored or copied goes on with numbers that it has never given out, and says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, items};
use crate::put;

const STORE: &str = "state/deployd.redb";

/// What a daemon has given out: tasks, entries of the journal, operations.
#[derive(Debug, Default)]
struct Given {
    tasks: BTreeSet<u64>,
    events: BTreeSet<u64>,
    operations: BTreeSet<String>,
}

impl Given {
    /// Everything until now, after entry `after`.
    fn by(daemon: &Daemon, after: u64) -> Self {
        let mut given = Self::default();
        let mut events = daemon.events(&format!("follow=false&after={after}"));
        while let Some(event) = events.next() {
            given.events.insert(event["seq"].as_u64().unwrap());
            given.tasks.extend(event["task"].as_u64());
        }
        given.operations = daemon.witness().into_iter().map(|start| start.operation).collect();
        given
    }

    fn shares_nothing_with(&self, other: &Self) {
        assert!(self.tasks.is_disjoint(&other.tasks), "{:?} {:?}", self.tasks, other.tasks);
        assert!(self.events.is_disjoint(&other.events), "{:?} {:?}", self.events, other.events);
    }
}

/// A daemon with a service that has one container, and a plan that starts it anew.
fn daemon() -> Daemon {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    daemon
}

fn restart(daemon: &Daemon) -> u64 {
    daemon.executed("restart", &items(&[(1, 0, "RESTART", "")]), "SUCCEEDED")
}

fn info(daemon: &Daemon) -> Value {
    daemon.call("GET", "/v1/info", "").1
}

/// The last entry of the journal.
fn last(daemon: &Daemon) -> u64 {
    let mut events = daemon.events("follow=false");
    std::iter::from_fn(|| events.next()).last().unwrap()["seq"].as_u64().unwrap()
}

/// The entries that say that a history was restored.
fn restored(daemon: &Daemon) -> Vec<Value> {
    let mut events = daemon.events("follow=false");
    std::iter::from_fn(|| events.next()).filter(|event| event["type"] == "history.restored").collect()
}

fn restore(daemon: &mut Daemon, backup: &str) {
    daemon.terminate();
    put(&daemon.path(STORE), &fs::read(daemon.path(backup)).unwrap());
    daemon.launch();
}

#[test]
fn a_store_restored_again_and_again_gives_out_no_number_twice() {
    let mut daemon = daemon();
    restart(&daemon);
    daemon.ctl_ends(0, &["backup", "backup"]);
    let shared = last(&daemon);
    let mut before: Vec<Given> = Vec::new();
    for round in 0..3_u64 {
        // More tasks than a clock has numbers for in that time.
        for _ in 0..12 {
            restart(&daemon);
        }
        let given = Given::by(&daemon, shared);
        for other in &before {
            given.shares_nothing_with(other);
        }
        before.push(given);
        assert_eq!(info(&daemon)["epoch"], round + 1);
        restore(&mut daemon, "backup");
        let said = restored(&daemon);
        assert_eq!(said.len(), 1, "what the backup does not have is forgotten: {said:#?}");
        let (event, last) = (&said[0], before.last().unwrap().events.last().unwrap());
        assert_eq!((&event["cause"], &event["epoch"]), (&"backup".into(), &(round + 2).into()));
        assert_eq!((event["last"].as_u64().unwrap(), &event["first"]), (shared, &event["seq"]));
        assert!(event["seq"].as_u64().unwrap() > *last);
        assert!(daemon.log().contains("was restored"), "{}", daemon.log());
    }
    // Each task was really carried out, none "found done" by the number of a lost one.
    let operations: Vec<_> = daemon.witness().into_iter().map(|start| start.operation).collect();
    assert_eq!((operations.len(), operations.iter().collect::<BTreeSet<_>>().len()), (37, 37));
    // All of it is below what JSON has exact numbers for.
    assert!(last(&daemon) < 1 << 53);
}

#[test]
fn a_task_after_a_restore_is_not_found_done_by_the_number_of_a_lost_one() {
    let mut daemon = daemon();
    daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    daemon.ctl_ends(0, &["backup", "backup"]);
    let lost = restart(&daemon);
    restore(&mut daemon, "backup");
    // What runs has an operation that this history does not know: a START leaves it, a RESTART replaces it.
    let left = daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let state = |id| daemon.report(id)["deployments"][0]["operations"][0]["state"].clone();
    assert_eq!((state(left), daemon.witness().len()), ("UNCHANGED".into(), 2));
    let again = restart(&daemon);
    assert!(again > lost);
    assert_eq!((state(again), daemon.witness().len()), ("SUCCEEDED".into(), 3));
}

#[test]
fn a_reader_behind_a_restore_is_told_where_to_go_on() {
    let mut daemon = daemon();
    restart(&daemon);
    let shared = last(&daemon);
    daemon.ctl_ends(0, &["backup", "backup"]);
    restart(&daemon);
    let lost = last(&daemon);
    let gone = |daemon: &Daemon, query: &str, headers: &str| {
        let (status, _, body) = daemon.http("GET", &format!("/v1/events?follow=false{query}"), headers, "");
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        (status == 410).then(|| {
            assert_eq!(problem["code"], "historyRestored", "{body}");
            problem["first"].as_u64().unwrap()
        })
    };
    assert_eq!(gone(&daemon, &format!("&after={lost}"), ""), None);
    assert_eq!(gone(&daemon, &format!("&after={}", lost + 1), ""), Some(1), "it is beyond the end");
    restore(&mut daemon, "backup");
    let first = restored(&daemon)[0]["seq"].as_u64().unwrap();
    for position in [shared + 1, lost, lost + 1, first - 2] {
        assert_eq!(gone(&daemon, &format!("&after={position}"), ""), Some(first), "{position}");
        assert_eq!(gone(&daemon, "", &format!("Last-Event-ID: {position}\r\n")), Some(first), "{position}");
        assert_eq!(gone(&daemon, &format!("&task=1&after={position}"), ""), Some(first), "{position}");
    }
    assert_eq!(gone(&daemon, &format!("&after={}", u64::MAX), ""), Some(first));
    // Whoever knows the history that both have, or goes on as told, misses nothing and hears of it.
    for position in [0, shared - 1, shared, first - 1] {
        assert_eq!(gone(&daemon, &format!("&after={position}"), ""), None, "{position}");
        let mut events = daemon.events(&format!("follow=false&after={position}"));
        let kinds: Vec<_> = std::iter::from_fn(|| events.next())
            .map(|event| event["type"].as_str().unwrap().to_string())
            .collect();
        assert!(kinds.contains(&"history.restored".to_string()), "{position}: {kinds:?}");
    }
    // The command line says so, and goes on.
    let said = daemon.ctl_ends(0, &["events", "--after", &lost.to_string()]);
    assert!(said.contains("history.restored") && said.contains("the store was restored"), "{said}");
    let said = daemon.ctl_ends(0, &["info"]);
    assert!(said.contains("epoch 2"), "{said}");
}

/// A way to put an older history in the place of the present one.
type Rollback = (&'static str, &'static str, fn(&Path));

fn sh(directory: &Path, script: &str) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(directory).status().unwrap();
    assert!(done.success(), "{script}");
}

#[test]
fn every_way_to_put_an_older_history_back_is_noticed() {
    let ways: [Rollback; 7] = [
        ("copy", "the file, as it was", |at| sh(at, "cp old/deployd.redb state/deployd.redb")),
        ("copy", "another file", |at| sh(at, "cp -a old/deployd.redb x; mv x state/deployd.redb")),
        ("copy", "all files, over the present ones", |at| sh(at, "cp -a old/. state/")),
        ("copy", "all files, and the newer ones removed", |at| {
            sh(at, "cd old; for f in ../state/deployd.redb*; do rm $f; done; cp -a deployd.redb* ../state");
        }),
        ("replacedDirectory", "the directory", |at| sh(at, "rm -r state; cp -a old state")),
        ("replacedDirectory", "the directory, moved", |at| sh(at, "mv state gone; mv old state")),
        ("requested", "a snapshot, and somebody says so", |at| sh(at, "touch state/deployd.redb.restored")),
    ];
    for (cause, how, put_back) in ways {
        let mut daemon = daemon();
        restart(&daemon);
        daemon.terminate();
        sh(&daemon.path(""), "cp -a state old");
        daemon.launch();
        let identity = info(&daemon)["instance"].clone();
        let task = restart(&daemon);
        let lost = last(&daemon);
        daemon.terminate();
        put_back(&daemon.path(""));
        daemon.launch();
        let said = restored(&daemon);
        assert_eq!(said.len(), 1, "{how}: {}", daemon.log());
        assert_eq!(said[0]["cause"], cause, "{how}");
        assert!(said[0]["seq"].as_u64().unwrap() > lost && restart(&daemon) > task, "{how}");
        // What runs stays this daemon's own.
        assert_eq!(info(&daemon)["instance"], identity, "{how}");
        assert_eq!(daemon.json(&["service", "show", "s1"])["containers"][0]["state"], "running", "{how}");
        // It is noticed once.
        daemon.terminate();
        daemon.launch();
        daemon.kill_9();
        daemon.launch();
        assert_eq!((restored(&daemon).len(), &info(&daemon)["epoch"]), (1, &2.into()), "{how}");
    }
}

#[test]
fn a_copy_of_a_session_put_back_within_it_is_noticed() {
    let mut daemon = daemon();
    restart(&daemon);
    // As a hasty administrator would, while the daemon works.
    sh(&daemon.path(""), "cp state/deployd.redb copy");
    let task = restart(&daemon);
    let lost = last(&daemon);
    daemon.kill_9();
    sh(&daemon.path(""), "cp copy state/deployd.redb");
    daemon.launch();
    let said = restored(&daemon);
    assert_eq!((said.len(), &said[0]["cause"]), (1, &"copy".into()));
    assert!(said[0]["seq"].as_u64().unwrap() > lost && restart(&daemon) > task);
}

#[test]
fn neither_shutdown_nor_kill_nor_move_begins_an_epoch() {
    let mut daemon = daemon();
    let mut task = restart(&daemon);
    for round in 0..6 {
        match round % 3 {
            0 => drop(daemon.terminate()),
            1 => daemon.kill_9(),
            _ => {
                daemon.terminate();
                sh(
                    &daemon.path(""),
                    "mv state elsewhere; mkdir x; mv elsewhere x/state; mv x/state state; rmdir x",
                );
            }
        }
        daemon.launch();
        let next = restart(&daemon);
        assert_eq!((next, &info(&daemon)["epoch"]), (task + 1, &1.into()));
        task = next;
    }
    assert!(restored(&daemon).is_empty());
}
