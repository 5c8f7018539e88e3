//! Packages and builds over generated units, with the daemon killed and the machine crashed in the middle.

use crate::machine::Machine;
use crate::runtime::daemon;

const SHOP: &str = "serviceId: 1\nname: shop\nruntime: systemd\n\
    containers: [{ name: shop-1 }, { name: shop-2 }]\n\
    run: { command: [./bin/shop, open], user: daemon }\n\
    build: { command: [/bin/sh, build.sh], output: out }\n\
    health: { settle: 0s }\n";
/// A unit whose start ends when a file is there.
const GATE: &str = "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=infinity\n\
    ExecStart=/bin/sh -c 'echo run >>/srv/gate; until test -e /srv/open; do sleep 0.1; done; \
    systemd-notify --ready; exec sleep 1000'\n";
const LAST: &str = "[Service]\nExecStart=/bin/sh -c 'echo run >>/srv/last; exec sleep 1000'\n";

/// A machine with a service, a server of packages and a repository.
fn machine(topic: &str) -> Option<Machine> {
    let machine = Machine::boot(topic)?;
    machine.install();
    machine.write("/etc/deployd/services.d/shop.yaml", SHOP);
    for (id, name, unit) in [(2, "gate", GATE), (3, "last", LAST)] {
        machine.write(&format!("/etc/systemd/system/{name}.service"), unit);
        let text = format!(
            "serviceId: {id}\nname: {name}\ncontainers: [{{ name: {name}, unit: {name}.service }}]\n\
             health: {{ settle: 0s }}\n"
        );
        machine.write(&format!("/etc/deployd/services.d/{name}.yaml"), &text);
    }
    machine.sh("mkdir -p /srv/packages; systemctl daemon-reload");
    serve(&machine);
    daemon(&machine, "");
    machine.sh("deployctl repo create shop");
    Some(machine)
}

fn serve(machine: &Machine) {
    machine.sh("systemd-run --quiet --unit=packages \
         python3 -m http.server --bind 127.0.0.1 --directory /srv/packages 8000 2>&1");
    machine.until("curl -sf http://127.0.0.1:8000/ >/dev/null");
}

/// The program's text: it says which version it is.
fn program(version: u32) -> String {
    format!("#!/bin/sh\\necho version {version} $1\\nexec sleep 1000\\n")
}

/// A plan that brings this version as a package.
fn package(machine: &Machine, version: u32) -> String {
    let program = program(version);
    machine.sh(&format!(
        "rm -rf /srv/new; mkdir -p /srv/new/bin; printf '{program}' >/srv/new/bin/shop; \
         chmod 755 /srv/new/bin/shop; tar -C /srv/new -czf /srv/packages/{version}.tar.gz ."
    ));
    format!("HTTP_UPLOAD_DEPLOY, httpSrcUri: 'http://127.0.0.1:8000/{version}.tar.gz'")
}

/// A plan that builds this version.
fn source(machine: &Machine, version: u32) -> String {
    let program = program(version);
    machine.sh(&format!(
        "test -d /srv/source || git init -q -b main /srv/source; cd /srv/source; \
         printf '{program}' >shop; printf 'mkdir -p out/bin; cp shop out/bin; chmod 755 out/bin/shop' >build.sh; \
         git add .; git -c user.name=t -c user.email=t@localhost commit -qm v; \
         git push -q /var/lib/deployd/git/shop.git HEAD:main"
    ));
    "COMPILE_DEPLOY, compileRepoPath: shop, compileRepoBranch: main".into()
}

fn plan(deployment: &str) -> String {
    format!("deployPlanItems:\n  - {{ serviceId: 1, priority: 9, deployment: {deployment} }}\n")
}

/// How often each container has said that it is this version.
fn starts(machine: &Machine, version: u32) -> Vec<usize> {
    let script = format!(
        "cd /var/lib/deployd/services/shop/containers; for c in shop-1 shop-2; do \
         grep -c '^version {version} open$' $c/output.log || true; done"
    );
    machine.sh(&script).lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn packages_and_builds_are_released_once_however_the_daemon_dies() {
    let Some(machine) = machine("deploys") else { return };
    let ways = [package, source];
    let mut version = 0;
    for way in ways {
        version += 1;
        let task = machine.execute("release", &plan(&way(&machine, version)));
        machine.until_state(task, "SUCCEEDED");
        assert_eq!(starts(&machine, version), [1, 1]);
    }
    for (way, point) in [
        (ways[0], "after a unit job was asked for:2"),
        (ways[1], "in the middle of a switch:1"),
        (ways[1], "before the commit of operation.ended:1"),
    ] {
        version += 1;
        machine.sh("systemctl stop daemon");
        daemon(&machine, &format!("-E \"DEPLOYD_CRASH_AT={point}\""));
        let task = machine.execute("release", &plan(&way(&machine, version)));
        machine.until("! systemctl is-active -q daemon");
        daemon(&machine, "");
        machine.until_state(task, "INTERRUPTED");
        machine.sh(&format!("deployctl resume {task}"));
        machine.until_state(task, "SUCCEEDED");
        assert_eq!(starts(&machine, version), [1, 1], "killed {point}");
    }
}

#[test]
fn what_was_up_comes_back_with_the_machine_and_the_rest_is_resumed() {
    let Some(machine) = machine("reboot") else { return };
    let items =
        "  - { serviceId: 2, priority: 5, deployment: START }\n  - { serviceId: 3, deployment: START }\n";
    let task = machine.execute("release", &format!("{}{items}", plan(&package(&machine, 1))));
    machine.until("test -s /srv/gate");
    assert_eq!(starts(&machine, 1), [1, 1]);
    machine.crash();
    // By themselves, once each.
    machine.until("systemctl is-active deployd-shop-shop-1 deployd-shop-shop-2");
    machine.until("test $(cat /var/lib/deployd/services/shop/containers/*/output.log | wc -l) = 4");
    daemon(&machine, "");
    machine.until_state(task, "INTERRUPTED");
    machine.sh(&format!("touch /srv/open; deployctl resume {task}"));
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(starts(&machine, 1), [2, 2]);
    // The start that the crash has cut is done again, and the one after it once.
    assert_eq!(machine.sh("wc -l </srv/gate; wc -l </srv/last"), "2\n1\n");
}
