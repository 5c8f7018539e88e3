//! `deployd check`: what it says, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Daemon, items};

/// The exit code; its findings, and what it said about mistakes.
fn check(daemon: &Daemon, plan: &str) -> (i32, String, String) {
    let plan = daemon.write("plan.yaml", plan);
    let output =
        daemon.command().arg("check").arg(&plan).stdout(std::process::Stdio::piped()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn start() -> String {
    items(&[(1, 0, "START", "")])
}

fn daemon() -> Daemon {
    let daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon
}

#[test]
fn a_host_that_is_fit() {
    let daemon = daemon();
    let (code, said, mistakes) = check(&daemon, &start());
    assert_eq!((code, &*mistakes), (0, ""), "{said}");
    for wanted in ["ok    configuration: valid", "ok    catalog: 1 service", "ok    git: 2."] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    let plan = daemon.path("plan.yaml");
    assert!(said.contains(&format!("ok    plan {}: valid", plan.display())), "{said}");
    assert!(!said.contains("fail"), "{said}");
    assert!(!daemon.path("state").exists(), "looking changes nothing");
}

#[test]
fn plans_and_catalog_that_are_not_valid() {
    let daemon = daemon();
    let (code, said, mistakes) = check(&daemon, &items(&[(1, 0, "STRAT", "")]));
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("fail  plan ") && mistakes.contains("did you mean `START`?"), "{said}{mistakes}");
    daemon.write("services.d/broken.yaml", "serviceId: 0\n");
    let (code, said, mistakes) = check(&daemon, &start());
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("fail  catalog: ") && mistakes.contains("broken.yaml:1"), "{said}{mistakes}");
}

#[test]
fn a_configuration_that_is_not_valid() {
    let daemon = daemon();
    daemon.write("deployd.yaml", "soket: /x\n");
    let (code, said, mistakes) = check(&daemon, &start());
    assert_eq!(code, 78, "{said}");
    assert!(mistakes.contains("soket"), "{mistakes}");
}

#[test]
fn a_host_that_is_not_fit() {
    let daemon = daemon();
    fs::create_dir(daemon.path("state")).unwrap();
    fs::set_permissions(daemon.path("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, said, mistakes) = check(&daemon, &start());
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("fail  state directory: anybody can write to "), "{said}");
    assert!(said.contains("chmod o-w") && mistakes.contains("state directory"), "{said}{mistakes}");
    // What is not valid weighs more: nobody would execute it.
    assert_eq!(check(&daemon, &items(&[(1, 0, "STRAT", "")])).0, 5);
}

#[test]
fn it_does_not_mind_a_daemon_that_runs() {
    let mut daemon = daemon();
    daemon.launch();
    let (code, said, _) = check(&daemon, &start());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ok    socket: a daemon serves "), "{said}");
    daemon.ctl_ends(0, &["list"]);
}
