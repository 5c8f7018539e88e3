//! `/metrics`: that it can be read, and says what was done.

#![allow(clippy::float_cmp, reason = "counts are whole, and nothing is exactly 0")]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Daemon, items, skip};

/// Each sample with its value, after what the format asks for was checked: every line is a sample of a
/// family that was declared once before, and the end is marked.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end:\n{text}"));
    let (mut family, mut kind, mut families, mut found) = (String::new(), "", Vec::new(), BTreeMap::new());
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&what), "{line}");
            if name != family {
                assert!(!families.contains(&name), "{name} is declared twice");
                families.push(name);
                family = name.to_string();
            }
            match what {
                "TYPE" => kind = rest,
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => {}
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let allowed: &[&str] = match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("{other} is no type that is used here"),
        };
        assert!(allowed.contains(&suffix), "{line}");
        assert!(
            found.insert(sample.to_string(), value.parse().unwrap()).is_none(),
            "{sample} is there twice"
        );
    }
    found
}

/// What reads it elsewhere; `None` when it is not installed. (`.ci/run` puts it beside schemathesis.)
fn read_by_another(text: &str) -> Option<String> {
    let paths = std::env::var_os("PATH")?;
    let pythons = std::env::split_paths(&paths).map(|folder| folder.join("python3"));
    let works = |python: &std::path::PathBuf| {
        let try_it =
            Command::new(python).args(["-c", "import prometheus_client.openmetrics.parser"]).output();
        try_it.is_ok_and(|output| output.status.success())
    };
    let python = pythons.filter(|python| python.exists()).find(works)?;
    let program = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                   print(*sorted(family.name for family in read(sys.stdin.read())))";
    let mut child = Command::new(python)
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn scrape(daemon: &Daemon) -> String {
    let (status, head, body) = daemon.http("GET", "/metrics", "", "");
    assert_eq!(status, 200, "{body}");
    assert!(head.to_lowercase().contains("application/openmetrics-text; version=1.0.0"), "{head}");
    body
}

#[test]
fn what_was_done_is_counted() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", ""), ("c2", "")], "");
    let sick = "health: { command: [/bin/false], interval: 10ms, timeout: 100ms }";
    daemon.add(2, &[("d1", "")], sick);
    daemon.launch();
    let before = samples(&scrape(&daemon));
    assert_eq!(before["deployd_tasks{state=\"SUCCEEDED\"}"], 0.0);
    assert_eq!(before["deployd_oldest_drain_seconds"], 0.0);
    daemon.executed("good", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    daemon.executed("again", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    daemon.executed("bad", &items(&[(2, 0, "RESTART", "")]), "FAILED");
    let text = scrape(&daemon);
    let seen = samples(&text);
    let expected = [
        ("deployd_tasks{state=\"SUCCEEDED\"}", 2.0),
        ("deployd_tasks{state=\"FAILED\"}", 1.0),
        ("deployd_tasks{state=\"RUNNING\"}", 0.0),
        ("deployd_tasks_active", 0.0),
        ("deployd_deployments_total{way=\"START\",outcome=\"SUCCEEDED\"}", 2.0),
        ("deployd_deployments_total{way=\"RESTART\",outcome=\"FAILED\"}", 1.0),
        ("deployd_operations_total{way=\"START\",outcome=\"SUCCEEDED\"}", 2.0),
        ("deployd_operations_total{way=\"START\",outcome=\"UNCHANGED\"}", 2.0),
        ("deployd_operations_total{way=\"RESTART\",outcome=\"FAILED\"}", 1.0),
        ("deployd_deployment_duration_seconds_count{way=\"START\"}", 2.0),
        ("deployd_operation_duration_seconds_count{way=\"RESTART\"}", 1.0),
        ("deployd_operation_duration_seconds_bucket{le=\"+Inf\",way=\"START\"}", 4.0),
        ("deployd_artifact_bytes", 0.0),
    ];
    for (sample, value) in expected {
        assert_eq!(seen.get(sample), Some(&value), "{sample}\n{text}");
    }
    assert!(seen["deployd_store_commit_seconds_count"] >= 3.0, "{text}");
    match read_by_another(&text) {
        Some(families) => assert!(families.contains("deployd_deployment_duration_seconds"), "{families}"),
        None => skip("no Python with prometheus_client (pip install prometheus_client)"),
    }
}

#[test]
fn a_drain_grows_older_until_it_ends() {
    let daemon = Daemon::gated(1);
    let id = daemon.execute("p", &items(&[(1, 0, "START", "")]));
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    let first = samples(&scrape(&daemon));
    assert_eq!(first["deployd_tasks{state=\"PAUSING\"}"], 1.0);
    assert_eq!(first["deployd_tasks_active"], 1.0);
    let second = samples(&scrape(&daemon));
    let age = |seen: &BTreeMap<String, f64>| seen["deployd_oldest_drain_seconds"];
    assert!(age(&second) > age(&first) && age(&first) > 0.0);
    daemon.release("c1");
    daemon.until_state(id, "SUCCEEDED");
    assert_eq!(age(&samples(&scrape(&daemon))), 0.0);
}
