//! Each command as JSON and as YAML, for scripts.

use std::collections::BTreeSet;

use clap::Command as Definition;
use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Daemon, deployctl, items};
use crate::pty::Pty;

/// Commands whose result is no document, each with why.
const TEXT: [(&str, &str); 1] = [("completions", "a script for a shell")];
/// Commands that are tried elsewhere, each with where.
const ELSEWHERE: [(&str, &str); 1] = [("service import", "asks systemd; its own tests are in cli/import.rs")];

/// A command line that is tried, its exit code, and what its document has, by a JSON pointer.
struct Case(&'static [&'static str], i32, &'static str);

/// In this order: what comes later finds what came before. Task 1 has succeeded, 2 is paused.
const CASES: [Case; 31] = [
    Case(&[], 0, "/info/version"),
    Case(&["info"], 0, "/counts/services"),
    Case(&["plan", "check", "shop.yaml"], 0, "/valid"),
    Case(&["plan", "check", "broken.yaml"], 5, "/errors/0/line"),
    Case(&["plan", "new"], 0, "/text"),
    Case(&["plan", "create", "shop.yaml", "--name", "other"], 0, "/revision"),
    Case(&["plan", "list"], 0, "/plans/0/name"),
    Case(&["plan", "show", "other"], 0, "/text"),
    Case(&["plan", "schema"], 0, "/properties"),
    Case(&["plan", "delete", "other"], 0, "/deleted"),
    Case(&["execute", "shop", "--dry-run"], 0, "/batches/0/deployments/0/containers/0/action"),
    Case(&["execute", "shop"], 0, "/id"),
    Case(&["wait", "3"], 0, "/state"),
    Case(&["execute", "shop", "--wait"], 0, "/finishedAt"),
    Case(&["execute", "shop", "--watch"], 0, "/type"),
    Case(&["list"], 0, "/tasks/0/id"),
    Case(&["status", "2"], 0, "/batches/0/priority"),
    Case(&["watch", "1"], 0, "/seq"),
    Case(&["report", "1"], 0, "/deployments/0/service"),
    Case(&["logs", "1"], 0, "/line"),
    Case(&["events"], 0, "/seq"),
    Case(&["history"], 0, "/changes/0/service"),
    Case(&["rollback-plan", "1"], 0, "/text"),
    Case(&["resume", "2", "--wait"], 0, "/state"),
    Case(&["service", "list"], 0, "/services/0/name"),
    Case(&["service", "show", "s1"], 0, "/containers/0/name"),
    Case(&["service", "logs", "s1"], 0, "/line"),
    Case(&["service", "reload"], 0, "/services"),
    Case(&["repo", "create", "app"], 0, "/path"),
    Case(&["repo", "list"], 0, "/repositories/0/name"),
    Case(&["repo", "delete", "app"], 0, "/deleted"),
];

/// Those that need a task which is still going on, or was broken off.
const LATER: [Case; 5] = [
    Case(&["pause", "7"], 0, "/state"),
    Case(&["stop", "7", "--wait"], 11, "/state"),
    Case(&["retry-plan", "7"], 0, "/text"),
    Case(&["delete", "7"], 0, "/deleted"),
    Case(&["backup", "copy.redb"], 0, "/bytes"),
];

fn leaves(definition: &Definition, name: &str, found: &mut BTreeSet<String>) {
    let inner: Vec<_> = definition.get_subcommands().filter(|it| !it.is_hide_set()).collect();
    if inner.is_empty() {
        found.insert(name.trim().to_string());
    }
    for it in inner {
        leaves(it, &format!("{name} {}", it.get_name()), found);
    }
}

#[test]
fn every_command_is_in_the_table() {
    let mut all = BTreeSet::new();
    leaves(&deployd_ctl(), "", &mut all);
    let tried = |name: &str| {
        let words: Vec<_> = name.split(' ').collect();
        CASES.iter().chain(&LATER).any(|case| case.0.starts_with(&words))
    };
    let known = |name: &str| TEXT.iter().chain(&ELSEWHERE).any(|(known, _)| *known == name);
    let forgotten: Vec<_> = all.iter().filter(|name| !tried(name) && !known(name)).collect();
    assert!(forgotten.is_empty(), "-o json of these is not tried: {forgotten:?}");
}

fn deployd_ctl() -> Definition {
    deployctl::cli::definition()
}

/// A daemon with two services whose containers say something.
fn house() -> Daemon {
    let mut daemon = Daemon::new();
    let run = |text: &str| {
        format!("run:\n  command: [/bin/sh, -c, \"{text}; exec sleep 1000\"]\n{}", crate::harness::user())
    };
    daemon.add_running(1, &[("c1", "")], &run("echo a line"), "");
    daemon.add_running(2, &[("c2", "")], &run("echo another"), "");
    daemon.add(3, &[("c3", "")], &daemon.gate());
    daemon.write("shop.yaml", &items(&[(1, 1, "RESTART", "")]));
    daemon.write("broken.yaml", "deployPlanItems: [{serviceId: 77}]\n");
    daemon.launch();
    daemon.executed("shop", &items(&[(1, 1, "RESTART", "")]), "SUCCEEDED");
    let gated = items(&[(3, 2, "START", ""), (2, 1, "START", "")]);
    let paused = daemon.execute("gated", &gated);
    daemon.ctl_ends(0, &["pause", &paused.to_string()]);
    daemon.release("c3");
    daemon.until_state(paused, "PAUSED");
    daemon
}

/// All documents of an output: one, or a line each.
fn documents(text: &str, form: &str) -> Vec<Value> {
    if form == "yaml" {
        let all = serde_yaml::Deserializer::from_str(text);
        return all
            .map(|it| Value::deserialize(it).unwrap_or_else(|error| panic!("{error}: {text}")))
            .collect();
    }
    let all = serde_json::Deserializer::from_str(text).into_iter();
    all.map(|it| it.unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

fn holds(daemon: &Daemon, case: &Case, form: &str) {
    let Case(arguments, code, pointer) = case;
    let ran = daemon.ctl(&[arguments, &["-o", form][..]].concat());
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(*code), "{arguments:?} -o {form}: {out}{err}");
    let documents = documents(&out, form);
    assert!(!documents.is_empty(), "{arguments:?} -o {form}: {out}{err}");
    for document in &documents {
        assert!(document.pointer(pointer).is_some(), "{arguments:?} -o {form}: no {pointer} in {document:#}");
    }
}

#[test]
fn every_result_can_be_read_by_a_program() {
    for form in ["json", "yaml"] {
        let daemon = house();
        for case in &CASES {
            holds(&daemon, case, form);
        }
        std::fs::remove_file(daemon.path("open-c3")).unwrap();
        daemon.executed("off", &items(&[(3, 0, "STOP", "")]), "SUCCEEDED");
        assert_eq!(daemon.execute("gated", &items(&[(3, 2, "START", ""), (2, 1, "STOP", "")])), 7);
        daemon.until(7, |event| event["type"] == "operation.begun");
        holds(&daemon, &LATER[0], form);
        // It drains now; as soon as it may, it ends.
        daemon.release("c3");
        daemon.until_state(7, "PAUSED");
        for case in &LATER[1..] {
            holds(&daemon, case, form);
        }
    }
}

#[test]
fn events_are_a_line_each_and_nothing_else_is_printed() {
    let daemon = house();
    let ran = daemon.ctl(&["execute", "shop", "--watch", "-o", "json"]);
    let out = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.first().unwrap()["type"], "task.started");
    assert_eq!(lines.last().unwrap()["type"], "task.succeeded");
    let again = daemon.ctl(&["watch", "3", "-o", "json"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), out, "the same events, word for word");
    let resumed = daemon.ctl(&["resume", "2", "--watch", "-o", "json"]);
    let first = String::from_utf8(resumed.stdout).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["type"], "task.resumed");
}

#[test]
fn the_same_key_again_starts_nothing() {
    let daemon = house();
    let execute = ["execute", "shop", "--idempotency-key", "pipeline 7, run 3"];
    let first = daemon.ctl_ends(0, &execute);
    assert_eq!(first, daemon.ctl_ends(0, &execute));
    daemon.until_state(first.trim().parse().unwrap(), "SUCCEEDED");
    assert_eq!(first, daemon.ctl_ends(0, &execute));
    assert_eq!(daemon.json(&["list", "--limit", "100"])["tasks"].as_array().unwrap().len(), 3);
    daemon.ctl_ends(2, &["execute", "shop", "--dry-run", "--idempotency-key", "x"]);
}

#[test]
fn quiet_says_what_was_asked_for_and_the_socket_is_found() {
    let daemon = house();
    let said = |arguments: &[&str]| {
        let ran = daemon.ctl(arguments);
        assert!(ran.status.success(), "{arguments:?}");
        (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let (out, err) = said(&["execute", "gated"]);
    assert!(out == "3\n" && err.contains("warning: "), "{out}{err}");
    daemon.until_state(3, "SUCCEEDED");
    assert_eq!(said(&["execute", "gated", "--quiet"]), ("4\n".into(), String::new()));
    daemon.until_state(4, "SUCCEEDED");
    assert_eq!(said(&["delete", "4", "--quiet"]), (String::new(), String::new()));

    // The flag wins over the variable; the harness sets the latter.
    let elsewhere = daemon.path("nobody.sock");
    let ran = daemon.ctl(&["list", "--socket", elsewhere.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(6), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("nobody.sock"));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let daemon = house();
    let colored = |arguments: &[&str], variable: Option<&str>| {
        let mut command = std::process::Command::new(deployctl());
        command.env("DEPLOYD_SOCKET", daemon.socket()).args(arguments);
        if let Some(value) = variable {
            command.env("NO_COLOR", value);
        }
        let mut terminal = Pty::run(&command, 24, 80);
        assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.shown());
        String::from_utf8_lossy(&terminal.written).contains("\u{1b}[32m")
    };
    assert!(colored(&["status", "1"], None));
    assert!(colored(&["status", "1"], Some("")), "an empty NO_COLOR counts as none");
    assert!(!colored(&["status", "1"], Some("1")));
    assert!(!colored(&["status", "1", "--no-color"], None));
    assert!(!daemon.ctl_ends(0, &["status", "1"]).contains('\u{1b}'));
}
