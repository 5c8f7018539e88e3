//! What is left of containers that are in the catalog no more, and what systemd does by itself.

use crate::machine::Machine;
use crate::runtime::daemon;

fn service(id: u32, name: &str, more: &str) -> String {
    format!(
        "serviceId: {id}\nname: {name}\nruntime: systemd\ncontainers: [{{ name: {name}-1 }}, {{ name: {name}-2 }}]\n\
         run: {{ command: [/bin/sh, -c, 'echo up; exec sleep 1000'], user: daemon }}\nhealth: {{ settle: 0s {more} }}\n"
    )
}

fn start(id: u32) -> String {
    format!("  - {{ serviceId: {id}, deployment: START, priority: {} }}\n", 9 - id)
}

/// The files of a unit, by their names: its own, its link, its environment.
fn files(machine: &Machine, service: &str, container: &str) -> usize {
    let unit = format!("deployd-{service}-{container}.service");
    let script = format!(
        "cd /etc/systemd/system; ls {unit} multi-user.target.wants/{unit} \
         /var/lib/deployd/services/{service}/containers/{container}/unit.env 2>/dev/null | wc -l"
    );
    machine.sh(&script).trim().parse().unwrap()
}

#[test]
fn units_of_containers_that_left_the_catalog_are_removed_when_nothing_needs_them() {
    let Some(machine) = Machine::boot("leftover") else { return };
    machine.install();
    for (id, name) in [(1, "gone"), (2, "kept")] {
        machine.write(&format!("/etc/deployd/services.d/{name}.yaml"), &service(id, name, ""));
    }
    // Its second container never comes up.
    let never = ", command: [/bin/sh, -c, 'test $DEPLOYD_CONTAINER = needed-1 -o -e /srv/open'], timeout: 1h";
    machine.write("/etc/deployd/services.d/needed.yaml", &service(3, "needed", never));
    daemon(&machine, "");
    let over = machine.execute("over", &format!("deployPlanItems:\n{}{}", start(1), start(2)));
    machine.until_state(over, "SUCCEEDED");
    let task = machine.execute("open", &format!("deployPlanItems:\n{}", start(3)));
    machine.until(&format!("deployctl report {task} | grep -q 'needed-1  *SUCCEEDED' && systemctl is-active deployd-needed-needed-2"));
    machine.sh("systemctl kill --kill-whom=main -s KILL daemon");
    machine.until("! systemctl is-active -q daemon");
    daemon(&machine, "");
    machine.until_state(task, "INTERRUPTED");
    // Stopped by hand, and not by hand; and one that a task may still go on with.
    machine.sh("systemctl stop deployd-gone-gone-1 deployd-needed-needed-1 deployd-needed-needed-2; \
                rm /etc/deployd/services.d/gone.yaml /etc/deployd/services.d/needed.yaml; deployctl service reload");
    machine.until("! test -e /etc/systemd/system/deployd-gone-gone-1.service");
    machine.until("journalctl -u daemon -o cat | grep -q 'still runs'");
    assert_eq!(files(&machine, "gone", "gone-1"), 0);
    assert_eq!(files(&machine, "gone", "gone-2"), 3, "it runs");
    assert_eq!([files(&machine, "kept", "kept-1"), files(&machine, "needed", "needed-1")], [3, 3]);
    assert_eq!(machine.property("deployd-gone-gone-1", "LoadState"), "not-found");
    assert_eq!(machine.property("deployd-gone-gone-2", "ActiveState"), "active");
    machine.sh("test -s /var/lib/deployd/services/gone/containers/gone-1/output.log");
    // At the next start, when the task is over.
    machine.sh(&format!("deployctl stop {task}; systemctl stop daemon deployd-gone-gone-2"));
    daemon(&machine, "");
    machine.until("! ls /etc/systemd/system | grep -e deployd-gone -e deployd-needed");
    assert_eq!([files(&machine, "kept", "kept-1"), files(&machine, "kept", "kept-2")], [3, 3]);
}

#[test]
fn what_systemd_has_started_again_by_itself_is_no_drift_and_what_was_by_hand_is() {
    let Some(machine) = Machine::boot("again") else { return };
    machine.install();
    machine.write("/etc/deployd/services.d/web.yaml", &service(1, "web", ""));
    let never = ", command: [/bin/sh, -c, 'test -e /srv/open'], timeout: 1h";
    machine.write("/etc/deployd/services.d/gate.yaml", &service(2, "gate", never));
    daemon(&machine, "");
    let task = machine.execute("start", &format!("deployPlanItems:\n{}{}", start(1), start(2)));
    machine.until("systemctl is-active deployd-gate-gate-1");
    machine.sh("systemctl kill --kill-whom=main -s KILL daemon");
    machine.until("! systemctl is-active -q daemon");
    daemon(&machine, "");
    let before = machine.property("deployd-web-web-1", "InvocationID");
    let restart_by_hand = "systemctl restart deployd-web-web-2";
    machine.sh(&format!("{restart_by_hand}; systemctl kill --kill-whom=main -s KILL deployd-web-web-1"));
    machine.until(&format!(
        "test $(systemctl show -p InvocationID --value deployd-web-web-1) != {before} && systemctl is-active deployd-web-web-1"
    ));
    let shown = machine.sh("deployctl service show web");
    assert!(shown.contains("started again 1 times by its runtime"), "{shown}");
    let said = machine.sh_ends(4, &format!("deployctl resume {task}"));
    assert!(said.contains("web-2") && !said.contains("web-1"), "{said}");
    machine.sh(&format!("touch /srv/open; deployctl resume {task} --force"));
    machine.until_state(task, "SUCCEEDED");
}
