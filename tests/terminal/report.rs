//! Reports: their forecasts, and the browser.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, deployctl, items};

#[test]
fn a_forecast_is_what_was_known_when_the_task_began() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    let plan = items(&[(1, 0, "RESTART", "")]);
    let usual = |id: u64| daemon.report(id)["deployments"][0]["usual"].clone();
    for before in 0..3 {
        let id = daemon.executed("shop", &plan, "SUCCEEDED");
        let seen = usual(id);
        assert_eq!(seen["samples"].as_u64().unwrap_or(0), before, "{seen}");
        let text = daemon.ctl_ends(0, &["report", &id.to_string()]);
        assert_eq!(text.contains("(usually "), before > 0, "{text}");
    }
    // What came later changes nothing about what was expected then; and another way is another matter.
    assert_eq!((usual(1), &usual(2)["samples"]), (Value::Null, &1.into()));
    let stopped = daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    assert_eq!(usual(stopped), Value::Null);
}

#[test]
fn a_report_is_opened_in_a_browser_or_says_where_it_is() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    daemon.executed("shop", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let (copy, pages) = (daemon.path("copy.html"), daemon.path("pages"));
    fs::create_dir(&pages).unwrap();
    let open = |browser: Option<&str>, more: &[&str]| {
        let mut command = Command::new(deployctl());
        command.env("DEPLOYD_SOCKET", daemon.socket()).env("TMPDIR", &pages);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("BROWSER");
        command.envs(browser.map(|browser| ("BROWSER", browser)));
        let ran = command.args(["report", "1", "--open"]).args(more).output().unwrap();
        assert!(ran.status.success());
        (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let (out, err) = open(Some(&format!("cp %s {}", copy.display())), &[]);
    let page = fs::read_to_string(out.trim()).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && err.is_empty(), "{out}{err}");
    assert_eq!(fs::read_to_string(&copy).unwrap(), page);
    assert_eq!(fs::metadata(out.trim()).unwrap().permissions().mode() & 0o777, 0o600);

    let (out, err) = open(None, &["-o", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(fs::read_to_string(document["file"].as_str().unwrap()).unwrap(), page);
    assert!(err.contains("there is no desktop here"), "{err}");
    let (_, err) = open(Some("false"), &[]);
    assert!(err.contains("false could not open it"), "{err}");
    let (_, err) = open(Some("/nonexistent/browser"), &[]);
    assert!(err.contains("cannot run /nonexistent/browser"), "{err}");
}
