//! Two daemons of one host, and units that nobody of them made: each touches nothing but its own.

use crate::machine::Machine;
use crate::runtime::daemon;

const WEB: &str = "serviceId: 111\nname: web\nruntime: systemd\ncontainers: [{ name: web-1 }, { name: web-2 }]\n\
    run: { command: [/bin/sleep, '86400'], user: nobody }\nhealth: { settle: 0s }\n";
const UNIT: &str = "deployd-web-web-1.service";

fn plan(way: &str) -> String {
    format!("deployPlanItems: [{{ serviceId: 111, deployment: {way} }}]\n")
}

/// A machine on which a daemon in production runs `web`.
fn production(topic: &str) -> Option<Machine> {
    let machine = Machine::boot(topic)?;
    machine.install();
    machine.write("/etc/deployd/services.d/web.yaml", WEB);
    daemon(&machine, "");
    let task = machine.execute("start", &plan("START"));
    machine.until_state(task, "SUCCEEDED");
    Some(machine)
}

/// What of production must not change: the run, whether it comes back with the machine, and its file.
fn of_production(machine: &Machine) -> String {
    machine.sh(&format!(
        "systemctl is-active {UNIT}; systemctl is-enabled {UNIT}; systemctl show -P InvocationID {UNIT}; \
         md5sum /etc/systemd/system/{UNIT}"
    ))
}

/// A second daemon of the same host, with everything of its own; `state` is its state directory.
fn second(machine: &Machine, catalog: &str, state: &str) {
    machine.sh("systemctl stop second 2>/dev/null || :");
    machine.write("/srv/second/services.d/web.yaml", catalog);
    machine.write("/srv/second/deployd.yaml", "");
    machine.sh(&format!(
        "systemd-run --quiet --collect --unit=second -p KillMode=process deployd --config /srv/second/deployd.yaml \
         --socket /srv/second/sock --state-dir {state} --services-dir /srv/second/services.d 2>&1"
    ));
    machine.until("DEPLOYD_SOCKET=/srv/second/sock deployctl list");
}

/// The second daemon executes a plan; exit code and report.
fn second_does(machine: &Machine, way: &str, code: i32) -> String {
    machine.write(&format!("/srv/second/{way}.yaml"), &plan(way));
    let socket = "export DEPLOYD_SOCKET=/srv/second/sock";
    machine.sh_ends(code, &format!("{socket}; deployctl execute -f /srv/second/{way}.yaml --wait"));
    machine.sh(&format!("{socket}; deployctl report $(deployctl list -o json | grep -m1 -o '\"id\": *[0-9]*' | grep -o '[0-9]*')"))
}

fn seconds_states(machine: &Machine) -> String {
    machine.sh("DEPLOYD_SOCKET=/srv/second/sock deployctl service show web")
}

#[test]
fn a_second_daemon_touches_no_unit_of_the_first_one() {
    let Some(machine) = production("owners") else { return };
    let before = of_production(&machine);
    second(&machine, WEB, "/srv/second/state");
    for way in ["START", "STOP", "RESTART"] {
        let report = second_does(&machine, way, 10);
        for part in [way, UNIT, "belongs to another deployd", "/var/lib/deployd", "/srv/second/state"] {
            assert!(report.contains(part), "{part} is missing: {report}");
        }
        assert_eq!(of_production(&machine), before, "{way}");
    }
    let shown = seconds_states(&machine);
    assert!(shown.contains("foreign") && !shown.contains("running"), "{shown}");
    // Nor as what its container may have been before: as a plain process it has the name to itself.
    second(&machine, &WEB.replace("systemd", "process"), "/srv/second/state");
    for way in ["START", "RESTART", "STOP", "START"] {
        second_does(&machine, way, 0);
        assert_eq!(of_production(&machine), before, "{way}");
    }
    assert!(seconds_states(&machine).contains("running"));
    // Nor when its catalog has it no more.
    machine.write("/srv/second/services.d/web.yaml", &WEB.replace("web", "other"));
    machine.sh("DEPLOYD_SOCKET=/srv/second/sock deployctl service reload");
    machine.until("DEPLOYD_SOCKET=/srv/second/sock deployctl service show other");
    assert_eq!(of_production(&machine), before);
    // And the first one goes on as before.
    let task = machine.execute("stop", &plan("STOP"));
    machine.until_state(task, "SUCCEEDED");
    machine.sh_ends(3, &format!("systemctl is-active {UNIT}"));
}

#[test]
fn a_daemon_on_a_copy_takes_no_unit_and_a_moved_one_keeps_its() {
    let Some(machine) = production("copied") else { return };
    let before = of_production(&machine);
    machine.sh("mkdir -p /srv/second; cp -a /var/lib/deployd /srv/second/copy");
    second(&machine, WEB, "/srv/second/copy");
    for way in ["START", "STOP"] {
        let report = second_does(&machine, way, 10);
        assert!(report.contains("belongs to another deployd"), "{report}");
        assert_eq!(of_production(&machine), before);
    }
    machine.sh("systemctl stop second daemon; mv /var/lib/deployd /srv/moved");
    second(&machine, WEB, "/srv/moved");
    let shown = seconds_states(&machine);
    assert_eq!(shown.matches("running").count(), 2, "{shown}");
    second_does(&machine, "RESTART", 0);
    machine.sh(&format!("grep -q '^X-Deployd-Container=/srv/moved/' /etc/systemd/system/{UNIT}"));
    second_does(&machine, "STOP", 0);
    machine.sh_ends(3, &format!("systemctl is-active {UNIT}"));
}

#[test]
fn the_demo_touches_nothing_of_a_host_in_production() {
    let Some(machine) = production("demo") else { return };
    let before = of_production(&machine);
    let units =
        "systemctl list-units --all --no-legend --plain 'deployd-*' | cut -d' ' -f1; ls /etc/systemd/system";
    let others = machine.sh(units);
    machine.sh("export HOME=/root; deployd demo");
    assert_eq!(of_production(&machine), before);
    assert_eq!(machine.sh(units), others);
    // Not even for a moment: systemd says of each unit that it has started.
    machine.sh("test -z \"$(journalctl -b -o cat _PID=1 | grep -e deployd-build -e Deploy- -e demo)\"");
}

#[test]
fn units_that_deployd_did_not_make_are_refused_by_name() {
    let Some(machine) = Machine::boot("strangers") else { return };
    machine.install();
    machine.write("/etc/deployd/services.d/web.yaml", WEB);
    let by_hand = "[Service]\nExecStart=/bin/sleep 86400\n[Install]\nWantedBy=multi-user.target\n";
    daemon(&machine, "");
    for place in ["/etc/systemd/system", "/usr/lib/systemd/system", "/run/systemd/system"] {
        machine.write(&format!("{place}/{UNIT}"), by_hand);
        machine.sh(&format!(
            "systemctl daemon-reload; systemctl enable --now {UNIT} 2>/dev/null || systemctl start {UNIT}"
        ));
        refuses(&machine, place);
        machine.sh(&format!(
            "systemctl disable --now {UNIT} 2>/dev/null; rm {place}/{UNIT}; systemctl daemon-reload"
        ));
    }
    machine.sh(&format!("systemd-run --quiet --unit={UNIT} sleep 86400"));
    refuses(&machine, "a transient unit");
    // When it is gone, the name is free.
    machine.sh(&format!("systemctl stop {UNIT}"));
    let task = machine.execute("start", &plan("START"));
    machine.until_state(task, "SUCCEEDED");
}

fn refuses(machine: &Machine, what: &str) {
    let run = machine.property(UNIT, "InvocationID");
    for way in ["STOP", "START", "RESTART"] {
        let task = machine.execute("by-hand", &plan(way));
        machine.until_state(task, "FAILED");
        let report = machine.sh(&format!("deployctl report {task}"));
        assert!(report.contains(way) && report.contains("was not made by deployd"), "{what}: {report}");
        assert_eq!(machine.property(UNIT, "InvocationID"), run, "{what}");
        assert_eq!(machine.property(UNIT, "ActiveState"), "active", "{what}");
    }
}

#[test]
fn units_of_a_version_without_identities_stay_ours() {
    let Some(machine) = production("upgrade") else { return };
    // As that version left them: no identity anywhere, and a store without sessions is what it has not got.
    machine
        .sh("systemctl stop daemon; sed -i /^X-Deployd-Owner/d /etc/systemd/system/deployd-web-*.service; \
                systemctl daemon-reload");
    let run = machine.property(UNIT, "InvocationID");
    daemon(&machine, "");
    assert_eq!(machine.sh("deployctl service show web").matches("running").count(), 2);
    let task = machine.execute("restart", &plan("RESTART"));
    machine.until_state(task, "SUCCEEDED");
    assert_ne!(machine.property(UNIT, "InvocationID"), run);
    machine.sh(&format!("grep -q ^X-Deployd-Owner= /etc/systemd/system/{UNIT}"));
    // A unit whose file was removed while it runs is known by its mark.
    machine.sh(&format!("rm /etc/systemd/system/{UNIT}; systemctl daemon-reload"));
    let task = machine.execute("stop", &plan("STOP"));
    machine.until_state(task, "SUCCEEDED");
    machine.sh_ends(3, &format!("systemctl is-active {UNIT}"));
}

#[test]
fn user_daemons_with_equal_names_leave_each_other_alone() {
    let Some(machine) = Machine::boot("users") else { return };
    machine.sh("useradd -m -s /bin/sh una; loginctl enable-linger una");
    let uid = machine.sh("id -u una").trim().to_string();
    machine.until(&format!("test -S /run/user/{uid}/bus"));
    let una = |command: &str| {
        let environment = format!("XDG_RUNTIME_DIR=/run/user/{uid} HOME=/home/una");
        format!("cd /home/una && runuser -u una -- env {environment} sh -ec '{command}'")
    };
    let web = "serviceId: 111\nname: web\nruntime: systemd\ncontainers: [{ name: web-1 }]\n\
        run: { command: [/bin/sleep, '86400'] }\nhealth: { settle: 0s }\n";
    for which in ["a", "b"] {
        machine.write(&format!("/home/una/{which}/services.d/web.yaml"), web);
        for way in ["START", "STOP"] {
            machine.write(&format!("/home/una/{way}.yaml"), &plan(way));
        }
        machine.sh("chown -R una /home/una; chmod 755 /home/una");
        machine.sh(&una(&format!(
            "systemd-run --user --quiet --collect --unit=d{which} deployd --user --state-dir /home/una/{which}/state \
             --services-dir /home/una/{which}/services.d --socket /home/una/{which}/sock 2>&1"
        )));
        machine.until(&una(&format!("DEPLOYD_SOCKET=/home/una/{which}/sock deployctl list")));
    }
    let does = |which: &str, way: &str| {
        una(&format!("DEPLOYD_SOCKET=/home/una/{which}/sock deployctl execute -f {way}.yaml --wait"))
    };
    machine.sh(&does("a", "START"));
    machine.sh_ends(10, &does("b", "START"));
    machine.sh_ends(10, &does("b", "STOP"));
    assert_eq!(machine.sh(&una("systemctl --user is-active deployd-web-web-1")), "active\n");
    machine.sh(&does("a", "STOP"));
}
