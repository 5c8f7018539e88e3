//! The daemon's own unit: as closed as it is shipped, and all that it has to do under it.

use crate::machine::Machine;

const SHOP: &str = "serviceId: 1\nname: shop\ncontainers: [{ name: shop-1 }, { name: shop-2 }]\n\
    run: { command: [./bin/shop], user: daemon }\nsharedPaths: [uploads]\n\
    build: { command: [/bin/sh, build.sh], output: out }\n\
    hooks: { preDeploy: [/bin/sh, -c, 'id -un'] }\n\
    health: { command: [/bin/sh, -c, 'test \"$(id -un)\" = daemon'], settle: 0s }\n";
/// How a version is made, from its number in `$1`.
const MAKE: &str = "mkdir -p $2/bin; printf '#!/bin/sh\\necho version %s; touch uploads/x; exec sleep 1000\\n' $1 \
    >$2/bin/shop; chmod 755 $2/bin/shop\n";
const PLAN: &str = "deployPlanItems:
  - { serviceId: 1, priority: 5, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'http://127.0.0.1:8000/1.tar.gz' }
  - { serviceId: 2, priority: 5, deployment: START }
  - { serviceId: 1, priority: 4, deployment: COMPILE_DEPLOY, compileRepoPath: shop, compileRepoBranch: main }
  - { serviceId: 2, priority: 3, deployment: RESTART, containerExecMethod: PARALLEL }
  - { serviceId: 3, priority: 2, deployment: START }
  - { serviceId: 2, priority: 1, deployment: STOP }
";
const OLD: &str =
    "serviceId: 2\nname: old\ncontainers: [{ name: o1, unit: old@1.service }]\nhealth: { settle: 0s }\n";
const GATE: &str =
    "serviceId: 3\nname: gate\ncontainers: [{ name: g, unit: gate.service }]\nhealth: { settle: 0s }\n";

fn machine(topic: &str) -> Option<Machine> {
    let machine = Machine::boot(topic)?;
    machine.install();
    machine.write(
        "/etc/systemd/system/old@.service",
        "[Service]\nExecStart=/bin/sh -c 'echo run >>/srv/old; exec sleep 1000'\n",
    );
    machine.write(
        "/etc/systemd/system/gate.service",
        "[Service]\nExecStartPre=/bin/sh -c 'echo run >>/srv/gate; until test -e /srv/open; do sleep .1; done'\n\
         ExecStart=/bin/sleep 1000\n",
    );
    for (name, text) in [("shop", SHOP), ("old", OLD), ("gate", GATE)] {
        machine.write(&format!("/etc/deployd/services.d/{name}.yaml"), text);
    }
    machine.write("/srv/make.sh", MAKE);
    machine.sh("systemctl daemon-reload; systemctl start deployd.socket");
    Some(machine)
}

#[test]
fn all_ways_of_release_work_under_the_closed_unit() {
    let Some(machine) = machine("hardened") else { return };
    machine.sh("useradd -m una; usermod -aG deployd una");
    // By its socket.
    machine.sh("deployctl repo create shop; systemctl is-active deployd");
    machine.sh(
        "mkdir -p /srv/packages /srv/new /srv/source; sh /srv/make.sh 1 /srv/new; \
         tar -C /srv/new -czf /srv/packages/1.tar.gz .; cd /srv/source; git init -q -b main; \
         (echo 'set -- 2 out'; cat /srv/make.sh) >build.sh; git add .; \
         git -c user.name=t -c user.email=t@localhost commit -qm v; git push -q /var/lib/deployd/git/shop.git HEAD:main; \
         systemd-run --quiet --unit=packages python3 -m http.server --bind 127.0.0.1 --directory /srv/packages 8000 2>&1",
    );
    machine.until("curl -sf http://127.0.0.1:8000/ >/dev/null");
    machine.write("/home/una/plan.yaml", PLAN);
    let task: u64 =
        machine.sh("runuser -u una -- deployctl execute -f /home/una/plan.yaml").trim().parse().unwrap();
    machine.until("test -s /srv/gate");
    machine.sh("systemctl kill --kill-whom=main -s KILL deployd; touch /srv/open");
    machine.until(&format!("deployctl status {task} -o json | grep -q INTERRUPTED"));
    machine.sh(&format!("deployctl resume {task}"));
    machine.until_state(task, "SUCCEEDED");
    let containers = "/var/lib/deployd/services/shop/containers";
    machine.until(&format!("test $(cat {containers}/*/output.log | wc -l) = 4"));
    assert_eq!(machine.sh(&format!("cat {containers}/shop-1/output.log")), "version 1\nversion 2\n");
    assert_eq!(machine.sh("cat /srv/gate /srv/old"), "run\nrun\nrun\n");
    assert_eq!(machine.sh("systemctl is-active deployd-shop-shop-1 deployd-shop-shop-2"), "active\nactive\n");
    // Who has executed it is known by name and program, though she isn't root.
    let events = machine.sh(&format!("deployctl report {task} -o json"));
    assert!(
        events.contains("\"program\": \"deployctl\"") && events.contains("\"user\": \"una\""),
        "{events}"
    );
    // Nothing was refused to the daemon that it had to say something of.
    let warnings = machine.sh("journalctl -u deployd -p warning -o cat | grep -v 'an actor crashed' || :");
    let warnings: Vec<_> = warnings.lines().filter(|line| line.contains("cannot")).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn the_units_are_as_closed_as_they_are_meant_to_be() {
    let Some(machine) = machine("exposure") else { return };
    let exposure = |unit: &str, threshold: u32| {
        let said = machine.sh(&format!("systemd-analyze security --no-pager --threshold={threshold} {unit}"));
        eprintln!("{}", said.lines().last().unwrap_or_default());
    };
    machine.sh("systemctl start deployd");
    assert_eq!(machine.sh("systemd-analyze verify deployd.service deployd.socket 2>&1"), "");
    exposure("deployd.service", 22);
    machine.write(
        "/etc/deployd/services.d/shop.yaml",
        "serviceId: 1\nname: shop\ncontainers: [{ name: shop-1 }]\n\
         run: { command: [/bin/sleep, '1000'], user: daemon }\nhealth: { settle: 0s }\n",
    );
    machine.sh("deployctl service reload");
    let task = machine.execute("start", "deployPlanItems: [{ serviceId: 1, deployment: START }]\n");
    machine.until_state(task, "SUCCEEDED");
    exposure("deployd-shop-shop-1.service", 40);
    assert_eq!(machine.sh("systemd-analyze verify deployd-shop-shop-1.service 2>&1"), "");
}

#[test]
fn a_plain_process_needs_the_unit_to_be_loosened() {
    let Some(machine) = machine("loosened") else { return };
    machine.write(
        "/etc/deployd/services.d/shop.yaml",
        "serviceId: 1\nname: shop\nruntime: process\ncontainers: [{ name: shop-1 }]\n\
         run: { command: [/bin/sleep, '4321'], user: daemon }\nhealth: { settle: 0s }\n",
    );
    let fit = machine.sh_ends(1, "deployd check");
    assert!(fit.contains("fail  deployd.service: service shop has `runtime: process`"), "{fit}");
    let plan = "deployPlanItems: [{ serviceId: 1, deployment: START }]\n";
    let task = machine.execute("start", plan);
    machine.until_state(task, "FAILED");
    let report = machine.sh(&format!("deployctl report {task}"));
    assert!(report.contains("see /usr/lib/deployd/process-runtime.conf"), "{report}");
    machine.loosen();
    machine.sh("deployd check");
    let task = machine.execute("start", plan);
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(machine.sh("ps -o user= -C sleep").trim(), "daemon");
    // Closed again, it says so before it touches what runs; and knows that it runs.
    machine.sh(
        "rm -r /etc/systemd/system/deployd.service.d; systemctl daemon-reload; systemctl restart deployd",
    );
    let task = machine.execute("again", plan);
    machine.until_state(task, "SUCCEEDED");
    let task = machine.execute("stop", "deployPlanItems: [{ serviceId: 1, deployment: STOP }]\n");
    machine.until_state(task, "FAILED");
    machine.sh("pgrep -fx '/bin/sleep 4321'");
}
