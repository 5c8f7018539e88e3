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
    for place in /etc /srv /usr /var/lib/deployd; do touch $place/by-a-build 2>/dev/null && echo $place; done\n\
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
    // How often builds and hooks were started is written down outside of their box.
    let witness = "[Service]\nExecStartPre=+/bin/sh -c 'echo %N >>/srv/witness'\n";
    for kind in ["build", "preDeploy", "postDeploy"] {
        machine.write(&format!("/etc/systemd/system/deployd-{kind}-.service.d/witness.conf"), witness);
    }
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
    machine
        .until("test -z \"$(systemctl list-units --all --no-legend 'deployd-build-*' 'deployd-*Deploy-*')\"");
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

/// A build that waits for a file.
const GATED: &str =
    "mkdir -p out; echo x >out/x; echo waits; until test -e /srv/open; do sleep .1; done; echo goes on\n";

/// How often this unit was started.
fn starts(machine: &Machine, unit: &str) -> usize {
    machine.sh(&format!("grep -cx {unit} /srv/witness || :")).trim().parse().unwrap()
}

fn log(machine: &Machine, task: u64) -> Vec<String> {
    let log = machine.sh(&format!("deployctl logs {task}"));
    log.lines().filter_map(|line| Some(line.split_once(" build: ")?.1.to_string())).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "a figure for whoever runs this")]
fn a_build_outlives_its_daemon_and_is_built_once() {
    let Some(machine) = machine("joined", GATED) else { return };
    let unit = |task: u64| format!("deployd-build-{task}-0-1");
    let begin = |round: u32| {
        machine.sh("rm -f /srv/open");
        push(&machine, &format!("{GATED}# {round}\n"));
        let task = machine.execute("build", PLAN);
        machine.until(&format!("deployctl logs {task} | grep -q 'build: waits'"));
        task
    };
    // Killed; resumed while it is still going on.
    let task = begin(1);
    let said = machine.sh(&format!("systemd-analyze security --threshold=25 {}.service", unit(task)));
    eprintln!("{}", said.lines().last().unwrap_or_default());
    machine.sh("systemctl kill --kill-whom=main -s KILL daemon");
    machine.until("! systemctl is-active -q daemon");
    daemon(&machine, "");
    machine.sh(&format!("systemctl is-active -q {}; deployctl resume {task}", unit(task)));
    machine.until(&format!("deployctl logs {task} | grep -q 'picked up again'"));
    machine.sh("touch /srv/open");
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(starts(&machine, &unit(task)), 1);
    let said = log(&machine, task);
    let each_once = ["waits", "goes on"].map(|line| said.iter().filter(|said| *said == line).count());
    assert_eq!(each_once, [1, 1], "{said:?}");
    nothing_is_left(&machine);

    // Stopped in good order; it ends while no daemon is there.
    let task = begin(2);
    machine.sh("systemctl stop daemon; touch /srv/open");
    machine.until(&format!("! systemctl is-active -q {}", unit(task)));
    daemon(&machine, "");
    machine.sh(&format!("deployctl resume {task}"));
    machine.until_state(task, "SUCCEEDED");
    assert_eq!(starts(&machine, &unit(task)), 1);
    nothing_is_left(&machine);

    // Killed around its start.
    for (round, point) in
        ["before a unit job", "after a unit job was asked for", "after a unit job"].iter().enumerate()
    {
        machine.sh("systemctl stop daemon; touch /srv/open");
        push(&machine, &format!("{GATED}# {point}\n"));
        daemon(&machine, &format!("-E \"DEPLOYD_CRASH_AT={point}:1\""));
        let task = machine.execute("build", PLAN);
        machine.until("! systemctl is-active -q daemon");
        daemon(&machine, "");
        machine.sh(&format!("deployctl resume {task}"));
        machine.until_state(task, "SUCCEEDED");
        assert_eq!(starts(&machine, &unit(task)), 1, "killed {point} ({round})");
    }

    // The machine goes down with it: then it is built again.
    let task = begin(3);
    machine.crash();
    daemon(&machine, "");
    machine.sh(&format!("touch /srv/open; deployctl resume {task}"));
    machine.until_state(task, "SUCCEEDED");
    nothing_is_left(&machine);
}

/// A build that does not want to end, with a process that has left its session.
const STUBBORN: &str =
    "mkdir -p out; setsid -f sleep 4321; echo waits; trap '' TERM; sleep 4321; sleep 4321\n";

#[test]
fn a_build_that_is_cut_or_takes_too_long_leaves_no_process() {
    let Some(machine) = machine("cut", STUBBORN) else { return };
    let begin = || {
        let task = machine.execute("build", PLAN);
        machine.until(&format!("deployctl logs {task} | grep -q 'build: waits' && pgrep -fx 'sleep 4321'"));
        task
    };
    let no_process = || machine.sh("! pgrep -fx 'sleep 4321'");
    let task = begin();
    machine.sh(&format!("deployctl stop --now {task}"));
    machine.until_state(task, "STOPPED");
    no_process();
    nothing_is_left(&machine);
    // Its daemon is gone, and the task is not to go on.
    for end in ["stop", "delete"] {
        let task = begin();
        machine.sh("systemctl kill --kill-whom=main -s KILL daemon");
        machine.until("! systemctl is-active -q daemon");
        daemon(&machine, "");
        machine.sh(&format!("pgrep -fx 'sleep 4321'; deployctl {end} {task}"));
        machine.until("! pgrep -fx 'sleep 4321'");
        nothing_is_left(&machine);
    }
    machine.write("/etc/deployd/services.d/shop.yaml", &shop("").replace("60s", "1s"));
    machine.sh("deployctl service reload");
    let task = machine.execute("build", PLAN);
    machine.until_state(task, "FAILED");
    no_process();
    let report = machine.sh(&format!("deployctl report {task}"));
    assert!(report.contains("took longer than 1 s") && report.contains("build.timeout"), "{report}");
    nothing_is_left(&machine);
}

#[test]
fn hooks_and_health_checks_have_a_cgroup_of_their_own_and_a_hook_runs_once() {
    let Some(machine) = machine("hooks", "mkdir -p out; exit 3\n") else { return };
    let hook = "[/bin/sh, -c, \"cat /proc/self/cgroup; id -un; echo waits; until test -e /srv/open; do sleep .1; done\"]";
    let health = "[/bin/sh, -c, 'grep -q deployd-passing- /proc/self/cgroup']";
    let text = shop("").replace("{ settle: 0s }", &format!("{{ command: {health}, settle: 0s }}"));
    let text = format!("{text}hooks: {{ preDeploy: {hook}, postDeploy: [/bin/sh, -c, 'id -un'] }}\n");
    machine.write("/etc/deployd/services.d/shop.yaml", &text);
    machine.sh("deployctl service reload; mkdir -p /srv/new /srv/packages; echo x >/srv/new/x; \
                tar -C /srv/new -czf /srv/packages/1.tar.gz .");
    machine
        .sh("printf 'packages: { allowedUris: [\"file:///srv/packages/\"] }\\n' >/etc/deployd/deployd.yaml");
    machine.sh("systemctl stop daemon");
    daemon(&machine, "");
    let plan = "deployPlanItems: [{ serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, \
                httpSrcUri: 'file:///srv/packages/1.tar.gz' }]\n";
    let task = machine.execute("hook", plan);
    machine.until(&format!("deployctl logs {task} | grep -q 'preDeploy: waits'"));
    machine.sh("systemctl kill --kill-whom=main -s KILL daemon");
    machine.until("! systemctl is-active -q daemon");
    machine.sh("touch /srv/open");
    daemon(&machine, "");
    machine.sh(&format!("deployctl resume {task}"));
    machine.until_state(task, "SUCCEEDED");
    let said = machine.sh(&format!("deployctl logs {task}"));
    assert!(
        said.contains(&format!(
            "preDeploy: 0::/deployd.slice/deployd-shop.slice/deployd-preDeploy-{task}-0-1.service"
        )) || said.contains(&format!("deployd-shop.slice/deployd-preDeploy-{task}-0-1.service")),
        "{said}"
    );
    assert!(said.contains("preDeploy: daemon") && said.contains("postDeploy: daemon"), "{said}");
    for hook in ["preDeploy", "postDeploy"] {
        assert_eq!(starts(&machine, &format!("deployd-{hook}-{task}-0-1")), 1);
    }
    nothing_is_left(&machine);
    // Why a build has failed is told with its last lines, and what can't be executed is named.
    let task = machine.execute("build", PLAN);
    machine.until_state(task, "FAILED");
    let report = machine.sh(&format!("deployctl report {task}"));
    assert!(report.contains("the build failed: its command exited with status 3"), "{report}");
    machine.write("/etc/deployd/services.d/shop.yaml", &text.replace("/bin/bash", "./nothing"));
    machine.sh("deployctl service reload");
    let task = machine.execute("build", PLAN);
    machine.until_state(task, "FAILED");
    let report = machine.sh(&format!("deployctl report {task}"));
    assert!(report.contains("./nothing") && report.contains("there is no such program"), "{report}");
}
