//! Up means up, on a real systemd: crash loops, what hangs on its way up or down, and what only seems to run.

use crate::machine::Machine;

/// A machine with these units, each in a service of its own, numbered from 1, and a daemon with this configuration.
fn machine(topic: &str, units: &[(&str, &str)], configuration: &str) -> Option<Machine> {
    let machine = Machine::boot(topic)?;
    machine.install();
    machine.write("/etc/deployd/deployd.yaml", configuration);
    for (id, (name, text)) in (1..).zip(units) {
        machine.write(&format!("/etc/systemd/system/{name}.service"), text);
        let service = format!(
            "serviceId: {id}\nname: {name}\ncontainers: [{{ name: c, unit: {name}.service }}]\n\
             health: {{ settle: 500ms }}\n"
        );
        machine.write(&format!("/etc/deployd/services.d/{name}.yaml"), &service);
    }
    machine.sh("systemctl daemon-reload; systemctl start deployd");
    Some(machine)
}

fn execute(machine: &Machine, service: u64, way: &str) -> u64 {
    machine.execute(
        &format!("{}-{service}", way.to_lowercase()),
        &format!("deployPlanItems: [{{ serviceId: {service}, deployment: {way} }}]\n"),
    )
}

/// Executes a plan that comes to this state; the report of its only deployment.
fn executed(machine: &Machine, service: u64, way: &str, state: &str) -> serde_json::Value {
    let task = execute(machine, service, way);
    machine.until_state(task, state);
    machine.json(&format!("report {task}"))["deployments"][0].clone()
}

fn container(machine: &Machine, service: &str) -> (String, String) {
    let shown = machine.json(&format!("service show {service}"))["containers"][0].clone();
    (shown["state"].as_str().unwrap().into(), shown["detail"].as_str().unwrap().into())
}

/// A program that notifies systemd: `ready()`, `status(text)`; the rest is its own.
fn notifying(machine: &Machine, name: &str, rest: &str) {
    let program = format!(
        "#!/usr/bin/python3\nimport os, signal, socket, time\n\
         def say(text):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
         s.connect(os.environ['NOTIFY_SOCKET'].replace('@', '\\0'))\n    s.send(text.encode())\n{rest}"
    );
    machine.write(&format!("/srv/{name}"), &program);
    machine.sh(&format!("chmod 755 /srv/{name}"));
}

/// As Debian's redis-server: it may take for ever to stop, and says what it does meanwhile.
const SAVES: &str = "[Service]\nType=notify\nTimeoutStopSec=infinity\nExecStart=/srv/saves\n";
const SAVES_PROGRAM: &str = "\
def stop(*a):
    say('STOPPING=1\\nSTATUS=Saving the last snapshot')
    while not os.path.exists('/srv/saved'): time.sleep(0.05)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
say('READY=1')
while True: time.sleep(1)
";

#[test]
fn a_stop_without_end_is_told_limited_and_let_go() {
    let units = [("saves", SAVES)];
    let Some(machine) = machine("saves", &units, "timeouts: { unit: 3s }\n") else { return };
    notifying(&machine, "saves", SAVES_PROGRAM);
    executed(&machine, 1, "START", "SUCCEEDED");
    // The user does not want to wait.
    let task = execute(&machine, 1, "STOP");
    machine.until(&format!(
        "deployctl status {task} | grep 'deactivating (stop-sigterm): Saving the last snapshot'"
    ));
    assert_eq!(container(&machine, "saves").0, "stopping");
    machine.sh_ends(11, &format!("deployctl stop --now {task}; deployctl wait {task}"));
    let report = machine.sh(&format!("deployctl report {task}"));
    assert!(
        report.contains("the stop of container c goes on") && report.contains("stop-sigterm"),
        "{report}"
    );
    // The user waits, and deployd does not for ever.
    let deployment = executed(&machine, 1, "RESTART", "FAILED");
    let error = &deployment["operations"][0]["error"];
    assert_eq!(error["code"], "stopFailed");
    let text = error["message"].as_str().unwrap();
    for part in ["within 3 s", "deactivating (stop-sigterm)", "Saving the last snapshot", "timeouts.unit"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // It is not up, whatever a START would like.
    let deployment = executed(&machine, 1, "START", "FAILED");
    assert!(deployment["operations"][0]["error"]["message"].as_str().unwrap().contains("is stopping"));
    machine.sh("touch /srv/saved");
    machine.until("test \"$(systemctl show -p ActiveState --value saves)\" = inactive");
    assert!(["stopped", "exited"].contains(&&*container(&machine, "saves").0));
    executed(&machine, 1, "START", "SUCCEEDED");
}

#[test]
fn a_start_or_a_job_without_end_is_limited_too() {
    let never = "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 1000\n";
    let queued = "[Unit]\nAfter=never.service\n[Service]\nExecStart=/bin/sleep 1000\n";
    let hung =
        "[Service]\nTimeoutStopSec=infinity\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep infinity\n";
    let units = [("never", never), ("queued", queued), ("hung", hung)];
    let Some(machine) = machine("never", &units, "timeouts: { unit: 2s }\n") else { return };
    for (service, state) in [(1, "activating (start)"), (2, "inactive (dead)")] {
        let deployment = executed(&machine, service, "START", "FAILED");
        let error = &deployment["operations"][0]["error"];
        assert_eq!(error["code"], "startFailed");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains("within 2 s") && text.contains(state), "{text}");
    }
    // One that is not ours may have good reasons: its start goes on, and is no running container.
    assert_eq!(container(&machine, "never").0, "starting");
    machine.sh("deployctl service list | grep '0/1 (1 starting)'");
    let deployment = executed(&machine, 1, "START", "FAILED");
    assert!(deployment["operations"][0]["error"]["message"].as_str().unwrap().contains("is starting"));
    executed(&machine, 1, "STOP", "SUCCEEDED");
    executed(&machine, 3, "START", "SUCCEEDED");
    let deployment = executed(&machine, 3, "STOP", "FAILED");
    assert!(
        deployment["operations"][0]["error"]["message"].as_str().unwrap().contains("deactivating (stop)")
    );
    // The machine would wait for it, too.
    machine.sh("systemctl kill -s KILL hung");
}

#[test]
fn a_loop_of_restarts_is_not_up_and_a_start_ends_it() {
    let loops = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=300ms\n\
        ExecStart=/bin/sh -c 'test -e /srv/well && exec sleep 1000; sleep 0.2'\n";
    let slow = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=100ms\n\
        ExecStartPre=/bin/sh -c 'test ! -e /srv/slow || exec sleep 1000'\nExecStart=/bin/sh -c 'exit 3'\n";
    let units = [("loops", loops), ("slow", slow)];
    let Some(machine) = machine("loops", &units, "timeouts: { unit: 3s }\n") else { return };
    // By hand: nothing that deployd has started goes on like this.
    machine.sh("systemctl start loops");
    machine.until("test $(systemctl show -p NRestarts --value loops) -gt 1");
    for _ in 0..20 {
        assert_eq!(container(&machine, "loops").0, "restarting");
    }
    machine.sh("deployctl service list | grep '0/1 (1 restarting)'");
    machine.sh("curl -s --unix-socket /run/deployd/deployd.sock http://d/metrics | \
        grep 'deployd_containers{service=\"loops\",state=\"restarting\"} 1'");
    for _ in 0..3 {
        let deployment = executed(&machine, 1, "START", "FAILED");
        assert_eq!(deployment["operations"][0]["error"]["code"], "exited");
    }
    // Nothing is left that would start it again, and what it came to is known.
    assert_eq!(container(&machine, "loops"), ("exited".into(), "exited with status 0".into()));
    assert_eq!(machine.property("loops", "ActiveState"), "inactive");
    machine.sh("systemctl start loops");
    machine.until("test $(systemctl show -p NRestarts --value loops) -gt 1");
    machine.sh("touch /srv/well");
    let deployment = executed(&machine, 1, "START", "SUCCEEDED");
    let state = deployment["operations"][0]["state"].as_str().unwrap();
    assert!(["SUCCEEDED", "UNCHANGED"].contains(&state), "{deployment}");
    assert_eq!(container(&machine, "loops").0, "running");
    // A restart that is still in its ExecStartPre= is a restart.
    machine.sh("systemctl start slow");
    machine.until("test $(systemctl show -p NRestarts --value slow) -gt 0");
    machine.sh("touch /srv/slow");
    machine.until("test $(systemctl show -p SubState --value slow) = start-pre");
    assert_eq!(container(&machine, "slow").0, "restarting");
}

const GENERATED: &str = "serviceId: 9\nname: made\nruntime: systemd\ncontainers: [{ name: c }]\n\
    run: { user: daemon, stopTimeout: 5s, command: [/bin/sh, -c, '. /srv/made'] }\n\
    health: { settle: 500ms }\n";

#[test]
fn a_start_that_failed_loops_nowhere_and_what_was_up_is_restarted_with_a_limit() {
    let Some(machine) = machine("made", &[], "# nothing\n") else { return };
    machine.write("/etc/deployd/services.d/made.yaml", GENERATED);
    machine.write("/srv/made", "exit 3\n");
    machine.sh("deployctl service reload");
    let unit = "deployd-made-c";
    executed(&machine, 9, "START", "FAILED");
    assert_eq!(machine.property(unit, "NRestarts"), "0");
    assert_eq!(machine.property(unit, "ActiveState"), "inactive");
    assert_eq!(container(&machine, "made"), ("exited".into(), "exited with status 3".into()));
    // What it has left behind ends, too: it ignores SIGTERM.
    machine.write("/srv/made", "trap '' TERM\nsleep 1234 &\nexit 0\n");
    let deployment = executed(&machine, 9, "START", "FAILED");
    let text = deployment["operations"][0]["error"]["message"].as_str().unwrap().to_string();
    assert!(text.contains("it put itself into the background: run it in the foreground"), "{text}");
    machine.sh_ends(1, "pgrep -f 'sleep 123[4]'");
    // Up once, and failing since: a few restarts are cheap enough for a test.
    machine.write("/srv/made", "exec sleep 1000\n");
    executed(&machine, 9, "START", "SUCCEEDED");
    assert_ne!(machine.property(unit, "StartLimitIntervalUSec"), "0");
    machine.sh(&format!(
        "mkdir -p /etc/systemd/system/{unit}.service.d; \
         printf '[Unit]\\nStartLimitBurst=3\\n[Service]\\nRestartSec=200ms\\n' >/etc/systemd/system/{unit}.service.d/t.conf; \
         systemctl daemon-reload"
    ));
    machine.write("/srv/made", "exit 4\n");
    machine.sh(&format!("systemctl kill -s KILL {unit}"));
    machine.until("deployctl service show made | grep 'exited with status 4; its runtime gave up after'");
    assert_eq!(machine.property(unit, "ActiveState"), "failed");
    // What systemd has given up deployd starts again.
    machine.write("/srv/made", "exec sleep 1000\n");
    executed(&machine, 9, "START", "SUCCEEDED");
    assert_eq!(container(&machine, "made").0, "running");
}

#[test]
fn units_of_each_type_are_up_as_their_type_says() {
    let units = [
        ("forking", "[Service]\nType=forking\nExecStart=/bin/sh -c 'sleep 1000 & exit 0'\n"),
        (
            "remains",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo run >>/srv/remains'\n",
        ),
        ("once", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo run >>/srv/once'\n"),
        (
            "reloads",
            "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/sh -c 'until test -e /srv/go; do sleep 0.05; done'\n",
        ),
        (
            "pre",
            "[Service]\nExecStartPre=/bin/sh -c 'until test -e /srv/go; do sleep 0.05; done'\nExecStart=/bin/sleep 1000\n",
        ),
    ];
    let Some(machine) = machine("types", &units, "# nothing\n") else { return };
    for (service, again) in [(1, "UNCHANGED"), (2, "UNCHANGED"), (3, "SUCCEEDED"), (4, "UNCHANGED")] {
        executed(&machine, service, "START", "SUCCEEDED");
        let deployment = executed(&machine, service, "START", "SUCCEEDED");
        assert_eq!(deployment["operations"][0]["state"], again, "{service}: {deployment}");
    }
    assert_eq!(machine.sh("wc -l </srv/remains; wc -l </srv/once"), "1\n2\n");
    machine.sh("systemctl reload --no-block reloads; systemctl start --no-block pre");
    machine.until("systemctl show -p ActiveState --value reloads | grep reloading");
    assert_eq!(container(&machine, "reloads").0, "reloading");
    machine.until("systemctl show -p SubState --value pre | grep start-pre");
    assert_eq!(container(&machine, "pre").0, "starting");
    // A START waits for both, and leaves them alone.
    let tasks = [4, 5].map(|service| execute(&machine, service, "START"));
    for task in tasks {
        machine.until(&format!("deployctl status {task} | grep 'c: look'"));
    }
    machine.sh("touch /srv/go");
    for task in tasks {
        machine.until_state(task, "SUCCEEDED");
        let deployment = machine.json(&format!("report {task}"))["deployments"][0].clone();
        assert_eq!(deployment["operations"][0]["state"], "UNCHANGED", "{deployment}");
    }
}
