//! The first five minutes: what somebody meets who knows nothing yet.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Daemon, items};

#[test]
fn a_new_plan_is_valid_and_can_be_executed() {
    let mut daemon = Daemon::new();
    daemon.launch();
    let text = daemon.ctl_ends(1, &["plan", "new"]);
    assert!(text.contains("services.d"), "{text}");
    daemon.add(1, &[("c1", "blue"), ("c2", "")], "description: \"one: { # \\n two\"");
    daemon.add(2, &[("d1", "")], "");
    daemon.ctl_ends(0, &["service", "reload"]);
    let all = daemon.ctl_ends(0, &["plan", "new"]);
    assert!(all.contains("c1 (blue), c2"), "{all}");
    daemon.write("all.yaml", &all);
    assert!(daemon.ctl_ends(0, &["plan", "check", "all.yaml"]).contains("2 items in 1 batch"));
    daemon.executed("all", &all, "SUCCEEDED");
    let one = daemon.ctl_ends(0, &["plan", "new", "s2", "2"]);
    daemon.write("one.yaml", &one);
    assert!(daemon.ctl_ends(0, &["plan", "check", "one.yaml"]).contains("1 item in 1 batch"));
    daemon.ctl_ends(3, &["plan", "new", "nobody"]);
}

#[test]
fn without_a_command_it_shows_what_goes_on_and_what_can_be_done() {
    let daemon = Daemon::gated(2);
    let empty = daemon.ctl_ends(0, &[]);
    assert!(empty.contains("2 services, 0 plans") && empty.contains("deployctl plan new"), "{empty}");
    let over = daemon.execute("over", &items(&[(1, 0, "STOP", "")]));
    daemon.until_state(over, "SUCCEEDED");
    let open = daemon.execute("open", &items(&[(2, 0, "START", "")]));
    let text = daemon.ctl_ends(0, &[]);
    let (before, after) = text.split_once("Over:").unwrap();
    assert!(before.contains("Going on") && before.contains("open@1"), "{text}");
    assert!(after.contains("over@1") && after.contains(&format!("deployctl watch {open}")), "{text}");
    assert_eq!(daemon.json(&[])["open"]["tasks"][0]["id"], open);
    daemon.release("c2");
    daemon.until_state(open, "SUCCEEDED");
}

#[test]
fn without_a_daemon_it_says_what_is_missing() {
    let mut daemon = Daemon::new();
    let socket = daemon.socket().display().to_string();
    let none = daemon.ctl_ends(6, &[]);
    assert!(none.contains(&socket) && none.contains("deployd"), "{none}");
    daemon.launch();
    daemon.kill_9();
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o660)).unwrap();
    let dead = daemon.ctl_ends(6, &[]);
    assert!(dead.contains("mode 660") && dead.contains("may use it; you are"), "{dead}");
}
