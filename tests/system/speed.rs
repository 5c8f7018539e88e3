//! How long deployd takes with many units, beside what systemd itself takes.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::runtime::daemon;

const BATCHES: u32 = 5;
const UNITS: u32 = 20;

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn a_hundred_units_in_batches() {
    let Some(machine) = Machine::boot("speed") else { return };
    machine.write("/etc/systemd/system/many@.service", "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n");
    let (mut plan, mut by_hand) = (String::from("deployPlanItems:\n"), String::from("set -e\n"));
    for batch in 1..=BATCHES {
        let mut text =
            format!("serviceId: {batch}\nname: many-{batch}\nhealth: {{ settle: 0s }}\ncontainers:\n");
        by_hand.push_str("systemctl start");
        for unit in 1..=UNITS {
            let _ = writeln!(text, "  - {{ name: c{unit}, unit: many@{batch}-{unit}.service }}");
            let _ = write!(by_hand, " many@{batch}-{unit}.service");
        }
        by_hand.push('\n');
        let _ = writeln!(
            plan,
            "  - {{ serviceId: {batch}, priority: {}, deployment: START, containerExecMethod: PARALLEL }}",
            BATCHES - batch
        );
        machine.write(&format!("/etc/deployd/services.d/many-{batch}.yaml"), &text);
    }
    machine.write("/root/by-hand", &by_hand);
    machine.sh("systemctl daemon-reload; groupadd -f deployd");
    daemon(&machine, "");
    let by_hand = seconds(&machine, "sh /root/by-hand");
    machine.sh("systemctl stop 'many@*.service'");
    machine.write("/root/many.yaml", &plan);
    machine.sh("deployctl plan create /root/many.yaml");
    let task = seconds(&machine, "deployctl execute many --wait -q >/dev/null || deployctl report 1");
    let up = machine.sh("systemctl list-units --state=active --no-legend 'many@*.service' | wc -l");
    assert_eq!(up.trim(), (BATCHES * UNITS).to_string());
    eprintln!(
        "100 units in 5 batches: systemctl {by_hand:.2} s, deployd {task:.2} s ({:.2})",
        task / by_hand
    );
}

/// How long a command takes in the machine.
fn seconds(machine: &Machine, command: &str) -> f64 {
    let script = format!("a=$(date +%s%N); {command}; echo $(($(date +%s%N) - a))");
    machine.sh(&script).trim().parse::<f64>().unwrap() / 1e9
}
