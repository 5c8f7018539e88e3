//! The daemon as a unit.

use crate::machine::Machine;

const SLEEPER: &str = "serviceId: 1\nname: sleeper\ncontainers: [{ name: sleeper-1 }]\n\
    run: { command: [/bin/sleep, '1000'], user: root }\nhealth: { settle: 0s }\n";

#[test]
fn no_container_ends_with_the_daemon() {
    let Some(machine) = Machine::with_deployd("outlive", &[("sleeper.yaml", SLEEPER)]) else { return };
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
