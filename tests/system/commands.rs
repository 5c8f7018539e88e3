//! Builds and hooks in transient units: boxed in, picked up again, ended as a whole.

use crate::machine::Machine;
use crate::runtime::daemon;

/// What a build finds out about its box goes into `out/found`.
const BUILD: &str = "mkdir -p out\n\
    exec >out/found\n\
    echo user $(id -u) $(id -un)\n\
    echo caps $(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)\n\
    echo cgroup $(grep -o 'deployd-build-[0-9-]*.service' /proc/self/cgroup | head -n 1)\n\
    (echo >/dev/tcp/127.0.0.1/8000) 2>/dev/null && echo network\n\
    for place in /etc /srv /usr /var/lib/deployd /var/tmp; do touch $place/by-a-build 2>/dev/null && echo $place; done\n\
    touch /tmp/by-a-build $HOME/x $TMPDIR/x x && echo its own places\n\
    ls /root /home\n";
const PLAN: &str = "deployPlanItems:\n  - { serviceId: 1, deployment: COMPILE_DEPLOY, \
    compileRepoPath: shop, compileRepoBranch: main }\n";

fn shop(more: &str) -> String {
    format!(
        "serviceId: 1\nname: shop\ncontainers: [{{ name: shop-1 }}]\n\
         run: {{ command: [/bin/sleep, '1000'], user: daemon }}\n\
         build: {{ command: [/bin/bash, build.sh], output: out, timeout: 60s {more} }}\nhealth: {{ settle: 0s }}\n"
    )
}

/// A machine with the service and a repository with this build.
fn machine(topic: &str, build: &str) -> Option<Machine> {
    let machine = Machine::boot(topic)?;
    machine.install();
    machine.write("/etc/deployd/services.d/shop.yaml", &shop(""));
    // What builds write down outside their box, by way of a file that is theirs.
    machine.sh("install -m 666 /dev/null /srv/witness");
    daemon(&machine, "");
    machine.sh("deployctl repo create shop");
    push(&machine, build);
    Some(machine)
}

fn push(machine: &Machine, build: &str) {
    machine.write("/srv/source/build.sh", build);
    machine.sh("cd /srv/source; test -d .git || git init -q -b main; git add .; \
         git -c user.name=t -c user.email=t@localhost commit -qm v; \
         git push -q /var/lib/deployd/git/shop.git HEAD:main");
}

fn found(machine: &Machine) -> String {
    machine.sh("cat /var/lib/deployd/services/shop/containers/shop-1/current/found")
}

/// Nothing is left of builds and hooks: no unit, no process, no file.
fn nothing_is_left(machine: &Machine) {
    machine.until("test -z \"$(systemctl list-units --all --no-legend 'deployd-build-*' 'deployd-*Deploy-*')\"");
    machine.until("test -z \"$(ls /var/lib/deployd/commands /var/lib/deployd/builds | grep deployd-)\"");
}

#[test]
fn a_build_is_boxed_in() {
    let Some(machine) = machine("boxed", BUILD) else { return };
    machine.sh("systemd-run --quiet --unit=packages python3 -m http.server --bind 127.0.0.1 8000 2>&1");
    machine.until("curl -sf http://127.0.0.1:8000/ >/dev/null");
    let task = machine.execute("build", PLAN);
    machine.until_state(task, "SUCCEEDED");
    let expected = |network: &str, task: u64| {
        format!(
            "user {} deployd-build\ncaps 0000000000000000\ncgroup deployd-build-{task}-0-1.service\n\
             {network}its own places\n/home:\n\n/root:\n",
            machine.sh("id -u deployd-build").trim()
        )
    };
    assert_eq!(found(&machine), expected("", task));
    nothing_is_left(&machine);
    // With the network of the host, if the catalog says so.
    machine.write("/etc/deployd/services.d/shop.yaml", &shop(", network: true"));
    machine.sh("deployctl service reload");
    push(&machine, &format!("{BUILD}# again\n"));
    let task = machine.execute("build", PLAN);
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(found(&machine), expected("network\n", task));
}
