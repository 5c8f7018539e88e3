//! Containers as systemd units, on a real systemd: all of it seen from outside, by what the units
//! write down themselves and what systemd says.

use deployd::crashpoint::UNITS;

use crate::machine::Machine;

/// A service of two generated units, and one of two units that exist already.
const GENERATED: &str = r#"
serviceId: 1
name: web
runtime: systemd
containers:
  - { name: web-1, labels: [a], environment: { PORT: "8081", ODD: "a \"b\" $HOME `x` \\ %n é" } }
  - { name: web-2, environment: { PORT: "8082", ODD: "" } }
run:
  command: [/bin/sh, -c, "echo $DEPLOYD_OPERATION \"$ODD\" ${PORT} 100%; exec sleep 1000"]
  user: daemon
  stopTimeout: 5s
  limits: { memoryMax: 64M, cpuQuota: 50%, tasksMax: 32, openFiles: 512 }
health: { settle: 0s }
"#;
const IMPORTED: &str = r"
serviceId: 2
name: old
containers: [{ name: o1, unit: old@1.service }, { name: o2, unit: old@2.service }]
health: { settle: 0s }
";
const OLD: &str = "[Service]\nType=notify\nNotifyAccess=all\n\
    ExecStart=/bin/sh -c 'echo run >>/srv/old-%i; systemd-notify --ready; exec sleep 1000'\n";
const LOOP: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=100ms\n\
    ExecStart=/bin/sh -c 'echo I cannot find my database; exit 3'\n";

/// A machine with these services and a daemon that outlives nothing and is outlived by everything.
fn machine(topic: &str) -> Option<Machine> {
    let machine = Machine::boot(topic)?;
    machine.write("/etc/systemd/system/old@.service", OLD);
    machine.write("/etc/systemd/system/loop.service", LOOP);
    machine.write("/etc/deployd/services.d/web.yaml", GENERATED);
    machine.write("/etc/deployd/services.d/old.yaml", IMPORTED);
    machine.write(
        "/etc/deployd/services.d/loop.yaml",
        "serviceId: 3\nname: loop\ncontainers: [{ name: l, unit: loop.service }]\n",
    );
    machine.sh("systemctl daemon-reload; groupadd -f deployd");
    daemon(&machine, "");
    Some(machine)
}

pub fn daemon(machine: &Machine, options: &str) {
    machine.sh(&format!(
        "systemd-run --quiet --collect --unit=daemon -p KillMode=process {options} deployd 2>&1"
    ));
    machine.until("deployctl list");
}

fn plan(way: &str) -> String {
    format!(
        "deployPlanItems:\n  - {{ serviceId: 1, deployment: {way} }}\n  - {{ serviceId: 2, deployment: {way} }}\n"
    )
}

/// How often each unit has been started, as they have written down.
fn starts(machine: &Machine) -> Vec<usize> {
    let script = "containers=/var/lib/deployd/services/web/containers; \
        for file in $containers/web-1/output.log $containers/web-2/output.log /srv/old-1 /srv/old-2; do \
        cat $file 2>/dev/null | wc -l; done";
    machine.sh(script).lines().map(|line| line.trim().parse().unwrap()).collect()
}

#[test]
fn units_are_started_restarted_and_stopped() {
    let Some(machine) = machine("units") else { return };
    let unit = "deployd-web-web-1";
    let task = machine.execute("start", &plan("START"));
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(starts(&machine), [1, 1, 1, 1]);
    let said = machine.sh("cat /var/lib/deployd/services/web/containers/web-1/output.log");
    assert!(said.ends_with(" a \"b\" $HOME `x` \\ %n é 8081 100%\n"), "{said}");
    for (property, value) in [
        ("MemoryMax", "67108864"),
        ("TasksMax", "32"),
        ("LimitNOFILE", "512"),
        ("Slice", "deployd-web.slice"),
        ("User", "daemon"),
        ("NoNewPrivileges", "yes"),
        ("UnitFileState", "enabled"),
    ] {
        assert_eq!(machine.property(unit, property), value, "{property}");
    }
    machine.sh(&format!("systemd-analyze security --threshold=40 {unit}.service"));
    let invocation = machine.property(unit, "InvocationID");
    let task = machine.execute("again", &plan("START"));
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(machine.property(unit, "InvocationID"), invocation);
    let task = machine.execute("restart", &plan("RESTART"));
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(starts(&machine), [2, 2, 2, 2]);
    // What runs comes back with the machine; what was stopped does not.
    machine.reboot();
    daemon(&machine, "");
    assert_eq!(machine.property(unit, "ActiveState"), "active");
    let task = machine.execute("stop", &plan("STOP"));
    machine.until_state(task, "SUCCEEDED");
    machine.sh(&format!("test \"$(systemctl is-enabled {unit})\" = disabled"));
    machine.reboot();
    assert_eq!(machine.property(unit, "ActiveState"), "inactive");
}

#[test]
fn a_unit_that_crashes_again_and_again_is_shown_why() {
    let Some(machine) = machine("loop") else { return };
    let task = machine.execute("loop", "deployPlanItems: [{ serviceId: 3, deployment: START }]\n");
    machine.until_state(task, "FAILED");
    let report = machine.sh(&format!("deployctl report {task}"));
    assert!(report.contains("exited with status 3"), "{report}");
    assert!(report.contains("I cannot find my database"), "{report}");
}

/// Another limit in the catalog: the next start writes the unit anew. What systemd has read of it, it keeps.
const OTHER_LIMIT: &str =
    "systemctl daemon-reload; sed -i 's/64M/65M/; t; s/65M/64M/' /etc/deployd/services.d/web.yaml";

#[test]
fn every_point_of_units_is_met() {
    let Some(machine) = machine("points") else { return };
    machine.sh("systemctl stop daemon");
    daemon(&machine, "-E DEPLOYD_CRASH_NOTE=/srv/met");
    for way in ["START", "RESTART", "STOP"] {
        machine.sh(&format!("{OTHER_LIMIT}; deployctl service reload"));
        let task = machine.execute(&way.to_lowercase(), &plan(way));
        machine.until_state(task, "SUCCEEDED");
    }
    let met = machine.sh("cat /srv/met");
    let never: Vec<_> = UNITS.iter().filter(|point| !met.lines().any(|met| met == **point)).collect();
    assert!(never.is_empty(), "a point that is never met proves nothing: {never:?}");
}

/// How much of what takes long is done, in per cent.
fn scale() -> usize {
    std::env::var("DEPLOYD_TEST_SCALE").map_or(2, |scale| scale.parse().unwrap())
}

#[test]
fn killed_at_any_point_each_unit_is_started_once() {
    let Some(machine) = machine("kills") else { return };
    machine.sh("systemctl stop daemon");
    let points = UNITS.into_iter().chain(["before the commit of operation.ended"]);
    let all: Vec<_> = points.flat_map(|point| ["START", "RESTART", "STOP"].map(|way| (way, point))).collect();
    // Evenly spread, over ways and points alike: seven is prime to three.
    let step = if scale() < 100 { 7 } else { 1 };
    for (way, point) in all.into_iter().step_by(step) {
        killed_at(&machine, way, point);
    }
}

/// A task that its daemon is killed in, at the first of these points, and resumed.
fn killed_at(machine: &Machine, way: &str, point: &str) {
    // From where the way has something to do.
    let before = if way == "START" { "STOP" } else { "START" };
    daemon(machine, "");
    let task = machine.execute("before", &plan(before));
    machine.until_state(task, "SUCCEEDED");
    machine.sh("systemctl stop daemon");
    machine.sh(OTHER_LIMIT);
    let before = starts(machine);
    daemon(machine, &format!("-E \"DEPLOYD_CRASH_AT={point}:1\""));
    let task = machine.execute("killed", &plan(way));
    // A point that this way does not meet leaves the daemon alive, and the task done.
    machine.until(&format!(
        "! systemctl is-active -q daemon || deployctl status {task} -o json | grep -q SUCCEEDED"
    ));
    if !machine.run(&["systemctl", "is-active", "-q", "daemon"]).status.success() {
        daemon(machine, "");
        machine.sh(&format!("deployctl resume {task}"));
        machine.until_state(task, "SUCCEEDED");
    }
    machine.sh("systemctl stop daemon");
    let more = usize::from(way != "STOP");
    let expected: Vec<_> = before.iter().map(|before| before + more).collect();
    assert_eq!(starts(machine), expected, "{way} killed {point}");
}

/// Without a bus nothing can be said of units: a resume is refused in time, and nobody else waits.
#[test]
fn a_bus_that_is_stuck_holds_up_only_who_asks_it() {
    let Some(machine) = machine("stuck") else { return };
    machine.write(
        "/etc/systemd/system/gate.service",
        "[Service]\nExecStartPre=/bin/sh -c 'until test -e /srv/open; do sleep .1; done'\nExecStart=/bin/sleep 1000\n",
    );
    machine.write(
        "/etc/deployd/services.d/gate.yaml",
        "serviceId: 4\nname: gate\ncontainers: [{ name: g, unit: gate.service }]\n",
    );
    machine.sh("systemctl daemon-reload; deployctl service reload");
    let plan = "deployPlanItems:\n  - { serviceId: 4, deployment: START, priority: 2 }\n  \
                - { serviceId: 2, deployment: START, priority: 1 }\n";
    let task = machine.execute("gate", plan);
    machine.until("systemctl show -p SubState --value gate | grep -q start-pre");
    machine.sh(&format!("deployctl pause {task}; touch /srv/open"));
    machine.until_state(task, "PAUSED");
    let pid = machine.property("daemon", "MainPID");
    let bus = machine.property("dbus", "MainPID");
    machine.sh(&format!("kill -STOP {bus}"));
    let said = machine.sh_ends(1, &format!("timeout 60 deployctl resume {task}"));
    assert!(said.contains("could not be looked at") && said.contains("--force"), "{said}");
    machine.sh("deployctl list");
    machine.sh(&format!("kill -CONT {bus}"));
    machine.until(&format!("deployctl resume {task}"));
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(machine.property("daemon", "MainPID"), pid);
    assert_eq!(machine.sh("cat /srv/old-1 /srv/old-2").lines().count(), 2);
}
