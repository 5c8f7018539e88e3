//! Containers as processes: what they get, how they end, and that nobody is mistaken for them.

use std::fs;

use deployd::spawn::proc::Stat;

use crate::harness::{Daemon, is_root, items, user};

/// A daemon with service 1, one container `c1`, that runs this script.
fn running(script: &str, more: &str) -> Daemon {
    let mut daemon = Daemon::new();
    // Paths of the test's directory stand in the script as @.
    let script = script.replace('@', daemon.path("").to_str().unwrap().trim_end_matches('/'));
    let file = daemon.write("script", &script);
    // Only who does not listen needs to be waited for in vain.
    let patience = if script.contains("trap ''") { "1s" } else { "50s" };
    let run =
        format!("run:\n  command: [/bin/sh, {}]\n{}  stopTimeout: {patience}\n", file.display(), user());
    let more = more.replace('@', daemon.path("").to_str().unwrap().trim_end_matches('/'));
    daemon.add_running(1, &[("c1", "")], &run, &more);
    daemon.launch();
    daemon
}

/// Up when the script has written the file `ready`.
const READY: &str = "health: { command: [/usr/bin/test, -e, '@/ready'], interval: 10ms, settle: 0s }";

fn start(daemon: &Daemon) -> u64 {
    daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED")
}

fn stop(daemon: &Daemon) -> String {
    let id = daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    daemon.report(id)["deployments"][0]["operations"][0]["detail"].as_str().unwrap().to_string()
}

fn pid(daemon: &Daemon, file: &str) -> i32 {
    fs::read_to_string(daemon.path(file)).unwrap().trim().parse().unwrap()
}

fn lives(pid: i32) -> bool {
    Stat::read(pid).unwrap().is_some_and(|stat| stat.is_alive())
}

#[test]
fn stopping_takes_everything_that_a_container_has_started() {
    let script =
        "sleep 1000 &\necho $! > @/child\nsetsid sleep 1000 &\necho $! > @/away\ntouch @/ready\nwait";
    let daemon = running(script, READY);
    start(&daemon);
    let (child, away) = (pid(&daemon, "child"), pid(&daemon, "away"));
    assert!(lives(child) && lives(away));
    let detail = stop(&daemon);
    assert!(detail.starts_with("stopped after"), "{detail}");
    assert!(!lives(child) && !lives(away));
}

#[test]
fn whoever_does_not_listen_is_killed() {
    let script = "trap '' TERM\necho $$ > @/leader\ntouch @/ready\nwhile :; do sleep 0.1; done";
    let daemon = running(script, READY);
    start(&daemon);
    let leader = pid(&daemon, "leader");
    let detail = stop(&daemon);
    assert!(detail.starts_with("killed after") && detail.contains("SIGTERM"), "{detail}");
    assert!(!lives(leader));
}

#[test]
fn a_container_gets_its_three_streams_and_its_environment_and_nothing_else() {
    let script = "tr '\\0' '\\n' < /proc/$$/environ > @/env; pwd > @/pwd; \
                  umask > @/umask; touch @/ready; exec sleep 1000";
    let daemon = running(script, READY);
    start(&daemon);
    let read = |name: &str| fs::read_to_string(daemon.path(name)).unwrap();
    let pid = daemon.json(&["service", "show", "s1"])["containers"][0]["pid"].to_string();
    let proc = |name: &str| std::path::Path::new("/proc").join(&pid).join(name);
    while fs::read_to_string(proc("comm")).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    let mut fds: Vec<String> =
        fs::read_dir(proc("fd")).unwrap().map(|fd| fd.unwrap().file_name().into_string().unwrap()).collect();
    fds.sort();
    assert_eq!(fds, ["0", "1", "2"]);
    let log = daemon.path("state/services/s1/containers/c1/output.log").canonicalize().unwrap();
    assert_eq!(fs::read_link(proc("fd/0")).unwrap(), std::path::Path::new("/dev/null"));
    assert_eq!(fs::read_link(proc("fd/1")).unwrap(), log);
    assert_eq!(fs::read_link(proc("fd/2")).unwrap(), log);
    let environment = read("env");
    let mut names: Vec<&str> = environment.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    let mut expected = vec![
        "DEPLOYD_CONTAINER",
        "DEPLOYD_DEPLOYMENT",
        "DEPLOYD_OPERATION",
        "DEPLOYD_SERVICE",
        "DEPLOYD_SERVICE_ID",
        "DEPLOYD_TASK",
        "HOME",
        "PATH",
    ];
    if is_root() {
        expected.extend(["LOGNAME", "USER"]);
    }
    expected.sort_unstable();
    assert_eq!(names, expected, "{environment}");
    assert!(read("pwd").trim().ends_with("/services/s1/containers/c1"));
    assert_eq!(read("umask").trim(), "0022");
    // No signal is ignored or blocked: what the daemon does with them is its own affair. (32 and 33 are
    // the C library's, which lets nobody change them.)
    for key in ["SigBlk:", "SigIgn:"] {
        let status = fs::read_to_string(proc("status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !0x1_8000_0000, 0, "{status}");
    }
}

#[test]
fn a_pid_that_is_used_again_fools_nobody() {
    let daemon = running("echo $$ > @/leader; touch @/ready; exec sleep 1000", READY);
    start(&daemon);
    let leader = pid(&daemon, "leader");
    let run = daemon.path("state/services/s1/containers/c1/run");
    let text = fs::read_to_string(&run).unwrap();
    // A pid comes back after very many others: never in the hundredth of a second in which it was first given.
    let mut bystander = loop {
        let mut somebody = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = Stat::read(somebody.id().cast_signed()).unwrap().unwrap();
        if !text.contains(&format!("startTicks={}\n", stat.start_ticks)) {
            break somebody;
        }
        somebody.kill().unwrap();
        somebody.wait().unwrap();
    };
    // As if the container had ended, and its pid now belonged to somebody else.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(leader), nix::sys::signal::Signal::SIGKILL).unwrap();
    fs::write(&run, text.replace(&format!("pid={leader}"), &format!("pid={}", bystander.id()))).unwrap();
    assert_eq!(daemon.json(&["service", "show", "1"])["containers"][0]["state"], "exited");
    stop(&daemon);
    start(&daemon);
    assert!(bystander.try_wait().unwrap().is_none(), "a stranger was ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn what_ends_by_itself_is_seen_and_can_be_started_again() {
    let daemon = running("echo some output; touch @/ready; test -e @/stay || exit 3; exec sleep 1000", READY);
    let id = daemon.execute("start", &items(&[(1, 0, "START", "")]));
    daemon.until(id, |event| {
        event["type"].as_str().unwrap().starts_with("task.") && event["state"] != "RUNNING"
    });
    // Up for a moment or not up at all: in both cases it is known afterwards how it ended.
    let shown = || daemon.json(&["service", "show", "s1"])["containers"][0].clone();
    while shown()["state"] != "exited" {
        std::thread::yield_now();
    }
    assert_eq!(shown()["detail"], "exited with status 3");
    assert!(daemon.ctl_ends(0, &["service", "logs", "s1"]).contains("c1: some output"));
    daemon.write("stay", "");
    start(&daemon);
    assert_eq!(shown()["state"], "running");
    let pid = i32::try_from(shown()["pid"].as_i64().unwrap()).unwrap();
    assert!(Stat::read(pid).unwrap().is_some_and(|stat| stat.is_alive()));
}

#[test]
fn what_never_becomes_healthy_fails_and_says_why() {
    for (health, words) in [
        ("tcp: '127.0.0.1:1'", "cannot connect to 127.0.0.1:1"),
        ("http: 'http://127.0.0.1:1/'", "refused"),
        ("command: [/bin/sh, -c, 'echo not yet; exit 7']", "exited with status 7: not yet"),
    ] {
        let more = format!("health: {{ {health}, interval: 10ms, timeout: 2s, settle: 0s }}");
        let daemon = running("echo the log; exec sleep 1000", &more);
        let id = daemon.executed("start", &items(&[(1, 0, "START", "")]), "FAILED");
        let error = daemon.report(id)["deployments"][0]["error"].clone();
        assert_eq!(error["code"], "healthTimedOut");
        assert!(error["message"].as_str().unwrap().contains(words), "{error:#}");
        assert_eq!(error["log"][0], "the log");
    }
}

#[test]
fn hooks_run_around_a_deployment() {
    let hooks = "hooks:\n  preDeploy: [/bin/sh, -c, 'echo pre $DEPLOYD_SERVICE >> @/hooks; test ! -e @/refuse']\n  postDeploy: [/bin/sh, -c, 'echo post >> @/hooks']";
    let daemon = running("touch @/ready; exec sleep 1000", &format!("{READY}\n{hooks}"));
    start(&daemon);
    assert_eq!(fs::read_to_string(daemon.path("hooks")).unwrap(), "pre s1\npost\n");
    let before = daemon.json(&["service", "show", "s1"])["containers"][0]["pid"].clone();
    daemon.write("refuse", "");
    let id = daemon.executed("restart", &items(&[(1, 0, "RESTART", "")]), "FAILED");
    assert_eq!(daemon.report(id)["deployments"][0]["error"]["code"], "hookFailed");
    // When `preDeploy` fails, nothing is touched.
    assert_eq!(daemon.json(&["service", "show", "s1"])["containers"][0]["pid"], before);
}

#[test]
fn limits_and_the_environment_file_are_honoured() {
    let mut daemon = Daemon::new();
    let file = daemon.write("web.env", "# a comment\nCOLOUR=\"dark red\"\nSHAPE=round\n");
    let out = daemon.path("out");
    let run = format!(
        "run:\n  command: [/bin/sh, -c, 'echo \"$0 $SHAPE $(ulimit -n)\" > {}; exec sleep 1000', '${{COLOUR}}']\n  environmentFile: {}\n  environment: {{ SHAPE: square }}\n  limits: {{ openFiles: 77 }}\n{}",
        out.display(),
        file.display(),
        user()
    );
    let health =
        format!("health: {{ command: [/usr/bin/test, -s, {}], interval: 10ms, settle: 0s }}", out.display());
    daemon.add_running(1, &[("c1", "")], &run, &health);
    daemon.launch();
    start(&daemon);
    assert_eq!(fs::read_to_string(out).unwrap(), "dark red square 77\n");
}
