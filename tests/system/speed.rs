//! How long deployd takes with many units, beside what systemd itself takes for the same ones in the same order.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::runtime::daemon;

const BATCHES: u32 = 5;
/// Of each batch: so many that exist already, and so many that deployd writes.
const EACH: u32 = 10;
/// The best of so many, of each in turn.
const ROUNDS: u32 = 3;

/// What is in the catalog, and a script that starts the same units by hand.
fn prepare(machine: &Machine) -> String {
    machine.write("/etc/systemd/system/many@.service", "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n");
    let mut by_hand = String::from("set -e\n");
    for batch in 1..=BATCHES {
        let head = |id: u32, name: &str| format!("serviceId: {id}\nname: {name}\nhealth: {{ settle: 0s }}\n");
        let mut old = format!("{}containers:\n", head(batch, &format!("old-{batch}")));
        let mut new = format!(
            "{}run: {{ command: [/bin/sleep, '1000'], user: daemon }}\ncontainers:\n",
            head(batch + BATCHES, &format!("new-{batch}"))
        );
        by_hand.push_str("systemctl start");
        for unit in 1..=EACH {
            let _ = writeln!(old, "  - {{ name: c{unit}, unit: many@{batch}-{unit}.service }}");
            let _ = writeln!(new, "  - {{ name: c{unit} }}");
            let _ = write!(by_hand, " many@{batch}-{unit} deployd-new-{batch}-c{unit}");
        }
        by_hand.push('\n');
        machine.write(&format!("/etc/deployd/services.d/old-{batch}.yaml"), &old);
        machine.write(&format!("/etc/deployd/services.d/new-{batch}.yaml"), &new);
    }
    machine.write("/root/by-hand", &by_hand);
    by_hand
}

fn plan(way: &str) -> String {
    let mut plan = String::from("deployPlanItems:\n");
    for id in 1..=2 * BATCHES {
        let _ = writeln!(
            plan,
            "  - {{ serviceId: {id}, priority: {}, deployment: {way}, containerExecMethod: PARALLEL }}",
            BATCHES - (id - 1) % BATCHES
        );
    }
    plan
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn a_hundred_units_in_batches() {
    let Some(machine) = Machine::boot("speed") else { return };
    prepare(&machine);
    machine.sh("systemctl daemon-reload; groupadd -f deployd");
    daemon(&machine, "");
    for way in ["START", "STOP"] {
        machine.write(&format!("/root/{way}.yaml"), &plan(way));
        machine.sh(&format!("deployctl plan create /root/{way}.yaml; deployctl execute {way} --wait -q"));
    }
    let units = "'many@*.service' 'deployd-new-*.service'";
    let all_are_up = || {
        let up = machine.sh(&format!("systemctl list-units --state=active --no-legend {units} | wc -l"));
        assert_eq!(up.trim(), (BATCHES * 2 * EACH).to_string());
    };
    let (mut by_hand, mut by_deployd) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        by_hand = by_hand.min(seconds(&machine, "sh /root/by-hand"));
        all_are_up();
        machine.sh("deployctl execute STOP --wait -q");
        by_deployd = by_deployd.min(seconds(&machine, "deployctl execute START --wait -q >/dev/null"));
        all_are_up();
        machine.sh(&format!("systemctl stop {units}"));
    }
    eprintln!(
        "100 units in 5 batches: systemctl {by_hand:.2} s, deployd {by_deployd:.2} s ({:.2})",
        by_deployd / by_hand
    );
}

/// How long a command takes in the machine.
fn seconds(machine: &Machine, command: &str) -> f64 {
    let script = format!("a=$(date +%s%N); {command}; echo $(($(date +%s%N) - a))");
    machine.sh(&script).trim().parse::<f64>().unwrap() / 1e9
}
