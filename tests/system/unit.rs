//! The daemon as a unit.

use std::os::unix::net::UnixDatagram;

use crate::machine::Machine;

const SLEEPER: &str = "serviceId: 1\nname: sleeper\ncontainers: [{ name: sleeper-1 }]\n\
    run: { command: [/bin/sleep, '1000'], user: root }\nhealth: { settle: 0s }\n";

#[test]
fn no_container_ends_with_the_daemon() {
    let Some(machine) = Machine::with_deployd("outlive", &[("sleeper.yaml", SLEEPER)]) else { return };
    outlives(&machine);
}

#[test]
fn no_process_ends_with_the_daemon_that_has_started_it() {
    let sleeper = format!("{SLEEPER}runtime: process\n");
    let Some(machine) = Machine::with_deployd("processes", &[("sleeper.yaml", &sleeper)]) else { return };
    machine.loosen();
    outlives(&machine);
    let unit = machine.sh("ps -o unit= -p $(pgrep -x sleep)");
    assert_eq!(unit.trim(), "deployd.service", "else it proves nothing");
}

fn outlives(machine: &Machine) {
    machine.until("deployctl list");
    let task = machine.execute("start", "deployPlanItems: [{ serviceId: 1, deployment: START }]\n");
    machine.until_state(task, "SUCCEEDED");
    let pid = machine.sh("pgrep -x sleep");
    let still_there = || assert_eq!(machine.sh("pgrep -x sleep"), pid);
    machine.sh("systemctl restart deployd");
    still_there();
    machine.sh("systemctl kill --kill-whom=main -s KILL deployd");
    machine.until("systemctl is-active deployd && deployctl list");
    still_there();
    machine.sh("systemctl stop deployd");
    still_there();
}

#[test]
fn systemd_knows_how_the_daemon_is() {
    let Some(machine) = Machine::with_deployd("status", &[("sleeper.yaml", SLEEPER)]) else { return };
    // Type=notify: whoever has started it finds it ready.
    assert_eq!(machine.json("list"), serde_json::json!({ "tasks": [] }));
    let line = || machine.property("deployd", "StatusText");
    machine.until("systemctl show -p StatusText --value deployd | grep -qx '0 tasks active, 1 service'");
    machine.write(
        "/etc/deployd/services.d/other.yaml",
        &SLEEPER.replace("Id: 1", "Id: 2").replace("sleeper", "other"),
    );
    machine.sh("systemctl reload deployd");
    machine.until("systemctl show -p StatusText --value deployd | grep -qx '0 tasks active, 2 services'");
    assert_eq!(machine.property("deployd", "SubState"), "running", "{}", line());
    // What concerns a task is found by its number.
    let task = machine.execute("start", "deployPlanItems: [{ serviceId: 1, deployment: START }]\n");
    machine.until_state(task, "SUCCEEDED");
    machine.until(&format!(
        "journalctl -u deployd DEPLOYD_TASK={task} DEPLOYD_SERVICE=sleeper DEPLOYD_CONTAINER=sleeper-1 -o cat \
         | grep -qx operation.ended"
    ));
    machine.sh("test -z \"$(journalctl DEPLOYD_TASK=77 -q)\"");
    assert_eq!(machine.sh("systemd-analyze verify deployd.service deployd.socket 2>&1"), "");
}

#[test]
fn a_daemon_that_is_stuck_is_started_again() {
    let Some(machine) = Machine::boot("watchdog") else { return };
    machine.install();
    machine.write("/etc/systemd/system/deployd.service.d/soon.conf", "[Service]\nWatchdogSec=2s\n");
    machine.sh("systemctl daemon-reload; systemctl start deployd");
    let pid = machine.property("deployd", "MainPID");
    machine.sh(&format!("kill -STOP {pid}"));
    machine.until(&format!(
        "test $(systemctl show -p MainPID --value deployd) != {pid} && systemctl is-active deployd"
    ));
    machine.until("journalctl -u deployd -o cat | grep -q 'Watchdog timeout'");
}

#[test]
fn the_socket_outlives_the_daemon_and_its_clients_wait() {
    let Some(machine) = Machine::boot("socket") else { return };
    machine.install();
    machine.sh("systemctl start deployd.socket");
    assert_eq!(machine.sh("stat -c '%a %U %G' /run/deployd/deployd.sock"), "660 root deployd\n");
    assert_eq!(machine.property("deployd", "ActiveState"), "inactive");
    // The first who asks starts it.
    machine.sh("deployctl list");
    assert_eq!(machine.property("deployd", "ActiveState"), "active");
    let inode = machine.sh("stat -c %i /run/deployd/deployd.sock");
    // A restart that does not come to its end before somebody has asked.
    machine.write(
        "/etc/systemd/system/deployd.service.d/slow.conf",
        "[Service]\nExecStartPre=/bin/sh -c 'until test -e /run/go; do sleep 0.1; done'\n",
    );
    machine.sh("systemctl daemon-reload; systemctl restart --no-block deployd");
    machine.until("test $(systemctl show -p SubState --value deployd) = start-pre");
    machine
        .sh("setsid sh -c 'deployctl list -o json >/run/answer 2>&1; echo $? >/run/ended' >/dev/null 2>&1 &");
    machine.until("pgrep -x deployctl");
    machine.sh("touch /run/go");
    machine.until("test -s /run/ended");
    assert_eq!(machine.sh("cat /run/ended"), "0\n", "{}", machine.sh("cat /run/answer"));
    machine.sh("for i in 1 2 3 4 5 6; do systemctl restart deployd; deployctl list; done");
    // Whoever asks while it is restarted is answered, too.
    machine.sh("(for i in 1 2 3 4 5; do systemctl restart deployd; done; touch /run/done) & \
         until test -e /run/done; do deployctl list >/dev/null; done");
    assert_eq!(machine.sh("stat -c %i /run/deployd/deployd.sock"), inode);
}

/// Sends to the journal of a machine, whose daemon of it stands still, until it takes nothing more.
fn fill_journal(machine: &Machine) {
    let journal = machine.root().join("run/systemd/journal/socket");
    loop {
        // Each has room of its own for what was not received yet: full is what takes nothing from a new one.
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let send = || sender.send_to(b"MESSAGE=a line too many\n", &journal).is_ok();
        if !send() {
            return;
        }
        while send() {}
    }
}

#[test]
fn a_journal_that_stands_still_holds_up_nothing() {
    let Some(machine) = Machine::with_deployd("journal", &[("sleeper.yaml", SLEEPER)]) else { return };
    let task = machine.execute("start", "deployPlanItems: [{ serviceId: 1, deployment: START }]\n");
    machine.until_state(task, "SUCCEEDED");
    let pid = machine.property("deployd", "MainPID");
    let journald = machine.property("systemd-journald", "MainPID");
    machine.sh(&format!("kill -STOP {journald}"));
    fill_journal(&machine);
    let task = machine.execute("restart", "deployPlanItems: [{ serviceId: 1, deployment: RESTART }]\n");
    machine.until_state(task, "SUCCEEDED");
    machine.sh(&format!("kill -CONT {journald}"));
    assert_eq!(machine.property("deployd", "MainPID"), pid);
    // When it is read again, what was left out is counted.
    let task = machine.execute("again", "deployPlanItems: [{ serviceId: 1, deployment: RESTART }]\n");
    machine.until_state(task, "SUCCEEDED");
    machine.until(&format!("journalctl -u deployd DEPLOYD_TASK={task} -o cat | grep -qx task.succeeded"));
    machine
        .sh("journalctl -u deployd -o cat | grep -Eq '^[0-9]+ lines of the log were lost: nobody read it$'");
}
