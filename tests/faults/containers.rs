//! Containers that hang, die, run away and flood their logs, while another task goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use deployd::spawn::proc::Stat;

use crate::harness::{PATIENCE, is_root, items, skip, user};
use crate::scene::{Daemon, assert_starts, scale};

fn run(script: &str) -> String {
    format!("run:\n  command: [/bin/sh, -c, \"{script}\"]\n{}  stopTimeout: 1s\n", user())
}

fn lives(pid: &str) -> bool {
    Stat::read(pid.trim().parse().unwrap()).unwrap().is_some_and(|stat| stat.is_alive())
}

fn read(daemon: &Daemon, name: &str) -> String {
    fs::read_to_string(daemon.path(name)).unwrap()
}

/// What a health check is answered by, for each connection with its number.
fn answering(answer: impl Fn(TcpStream, usize) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        listener.incoming().flatten().enumerate().for_each(|(n, stream)| answer(stream, n));
    });
    port
}

fn status(mut stream: &TcpStream, status: &str) {
    // As much of the request as there is.
    let _ = stream.read(&mut [0; 1024]);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
}

#[test]
fn each_way_not_to_come_up_is_told_and_disturbs_nobody() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("good", "")], &daemon.gate());
    let silent = answering(|stream, _| std::mem::forget(stream));
    let slow = answering(|mut stream, _| {
        std::thread::spawn(move || {
            let drips = b"HTTP/1.1 200 OK\r\n".iter().cycle();
            drips.for_each(|byte| {
                std::thread::sleep(Duration::from_secs(1));
                stream.write_all(&[*byte]).ok();
            });
        });
    });
    let flapping =
        answering(|stream, n| status(&stream, if n == 2 { "200 OK" } else { "503 Service Unavailable" }));
    let http = |port: u16| {
        format!("health: {{ http: 'http://127.0.0.1:{port}/', interval: 10ms, timeout: 2s, settle: 0s }}")
    };
    let away = daemon.path("away");
    let cases = [
        (
            "exec sleep 1000",
            "health: { command: ['false'], interval: 10ms, timeout: 2s }".to_string(),
            "healthTimedOut",
            "exited with status 1",
        ),
        (
            "exec sleep 1000",
            "health: { command: [sleep, '1000'], interval: 10ms, timeout: 2s }".to_string(),
            "healthTimedOut",
            "no answer within 2.0 s",
        ),
        ("exec sleep 1000", http(silent), "healthTimedOut", "no answer within 2.0 s"),
        ("exec sleep 1000", http(slow), "healthTimedOut", "no answer within 2.0 s"),
        ("exec sleep 1000", http(flapping), "", "healthy after"),
        ("echo the reason; exit 3", "health: { settle: 5s }".to_string(), "exited", "exited with status 3"),
        ("sleep 0.3; exit 4", "health: { settle: 20s }".to_string(), "exited", "exited with status 4"),
        ("kill -SEGV $$", "health: { settle: 5s }".to_string(), "exited", "killed by SIGSEGV"),
        (
            &*format!("(setsid sh -c 'sleep 1000 & echo $! > {}' &)", away.display()),
            "health: { settle: 5s }".to_string(),
            "exited",
            "exited with status 0",
        ),
    ];
    for (id, (script, health, ..)) in (2..).zip(&cases) {
        daemon.add_running(id, &[(&format!("c{id}"), "")], &run(script), health);
    }
    daemon.launch();
    let good = daemon.execute("good", &items(&[(1, 0, "START", "")]));
    daemon.until(good, |event| event["type"] == "operation.begun");
    let tasks: Vec<_> = (2..)
        .zip(&cases)
        .map(|(id, _)| daemon.execute(&format!("t{id}"), &items(&[(id, 0, "START", "")])))
        .collect();
    for (task, (script, health, code, words)) in tasks.iter().zip(&cases) {
        daemon.until_state(*task, if code.is_empty() { "SUCCEEDED" } else { "FAILED" });
        let deployment = &daemon.report(*task)["deployments"][0];
        let error = deployment["error"]["code"].as_str().unwrap_or_default();
        let detail = deployment["operations"][0]["detail"].as_str().unwrap();
        assert!(error == *code && detail.contains(words), "{script} {health}: {error}: {detail}");
    }
    // What had daemonised is not left alone by a stop, though its leader is long gone.
    let escaped = read(&daemon, "away");
    assert!(lives(&escaped));
    let ids: Vec<_> = (2..).zip(&cases).map(|(id, _)| (id, 0, "STOP", "")).collect();
    daemon.executed("stop", &items(&ids), "SUCCEEDED");
    assert!(!lives(&escaped), "a process of a stopped container is left");
    daemon.release("good");
    daemon.until_state(good, "SUCCEEDED");
    assert_starts(&daemon, &[("good", 1)]);
}

#[test]
fn whoever_clears_its_environment_is_stopped_with_its_session() {
    let mut daemon = Daemon::new();
    // Neither listens to SIGTERM, nor carries anything that says whose it is.
    let child =
        format!("trap '' TERM; echo $$ > {}; while :; do sleep 0.1; done", daemon.path("child").display());
    let file = daemon.write("child.sh", &child);
    let script = format!("env -i /bin/sh {} & exec sleep 1000", file.display());
    let health = format!(
        "health: {{ command: [/usr/bin/test, -s, {}], interval: 10ms, settle: 0s }}",
        daemon.path("child").display()
    );
    daemon.add_running(1, &[("c1", "")], &run(&script), &health);
    daemon.launch();
    daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let child = read(&daemon, "child");
    assert!(lives(&child));
    daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    assert!(!lives(&child), "a process of a stopped container is left");
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn bytes_below(directory: &std::path::Path, prefix: &str) -> u64 {
    let files = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    ours.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn a_flood_of_output_costs_neither_memory_nor_the_disk() {
    let mut daemon = Daemon::new();
    let megabytes = if scale() > 1 { 1000 } else { 150 };
    // One line without an end, from the container, and from a hook.
    let flood = format!("head -c {megabytes}M /dev/zero | tr '\\\\0' x");
    let hook = format!("hooks: {{ preDeploy: [/bin/sh, -c, \"{flood}\"] }}");
    daemon.add_running(1, &[("c1", "")], &run(&format!("{flood}; exec sleep 1000")), &hook);
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    let before = resident_kib(daemon.pid());
    let id = daemon.execute("flood", &items(&[(1, 0, "START", "")]));
    daemon.executed("other", &items(&[(2, 0, "START", "")]), "SUCCEEDED");
    daemon.until_state(id, "SUCCEEDED");
    let log = daemon.path("state/services/s1/containers/c1");
    let begun = Instant::now();
    let asleep = || {
        let pid = daemon.json(&["service", "show", "s1"])["containers"][0]["pid"].to_string();
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n"
    };
    while !asleep() || bytes_below(&log, "output.log") > 60 << 20 {
        assert!(begun.elapsed() < PATIENCE, "the log has {} bytes", bytes_below(&log, "output.log"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let grown = resident_kib(daemon.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "the daemon has grown by {grown} KiB");
    let task_log = fs::metadata(daemon.path(&format!("state/tasks/{id}/1.log"))).unwrap().len();
    assert!(task_log < 65 << 20, "{task_log}");
    daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
}

/// Needs root: the daemon gets a pid namespace of its own, in which the next pid can be chosen.
#[test]
fn a_stranger_with_a_pid_used_again_is_never_signalled() {
    if !is_root() {
        return skip("a pid namespace needs root");
    }
    let mut daemon = Daemon::new();
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    daemon.wrapper = unshare.map(str::to_string).to_vec();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    let inner = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
    let inside = |script: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-t", inner.trim(), "-p", "-m", "/bin/sh", "-c", script]);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_string()
    };
    for (n, way) in ["STOP", "RESTART"].into_iter().enumerate() {
        daemon.executed("start", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
        let leader = daemon.witness().last().unwrap().pid;
        inside(&format!("kill -9 {leader}"));
        while daemon.json(&["service", "show", "s1"])["containers"][0]["state"] != "exited" {
            std::thread::yield_now();
        }
        let again = format!(
            "while :; do echo {} > /proc/sys/kernel/ns_last_pid; setsid sleep 1000 > /dev/null 2>&1 & \
             [ $! = {leader} ] && break; kill -9 $!; done; echo $!",
            leader - 1
        );
        assert_eq!(inside(&again), leader.to_string());
        daemon.executed(&format!("again{n}"), &items(&[(1, 0, way, "")]), "SUCCEEDED");
        assert_eq!(inside(&format!("kill -0 {leader} && echo lives")), "lives", "{way} has ended a stranger");
        daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
        assert_eq!(inside(&format!("kill -0 {leader} && echo lives; kill -9 {leader}")), "lives");
    }
    assert_starts(&daemon, &[("c1", 3)]);
}

#[test]
fn however_the_daemon_was_started_what_it_starts_is_clean() {
    for umask in ["000", "077"] {
        let mut daemon = Daemon::new();
        let odd = format!(
            "umask {umask}; trap '' CHLD PIPE USR1; cd /proc; exec 7</etc/passwd 9>/dev/null; exec \"$@\""
        );
        daemon.wrapper = vec!["/bin/sh".into(), "-c".into(), odd, "sh".into()];
        daemon.environment = vec![("PATH", "/nonexistent".into()), ("LD_PRELOAD", "/nonexistent.so".into())];
        let user = if is_root() { "  user: nobody\n" } else { "" };
        // A program of the release, run by somebody who is not its owner.
        let run = format!("run:\n  command: [./bin/serve]\n{user}  stopTimeout: 1s\n");
        daemon.add_running(1, &[("c1", "")], &run, "health: { settle: 1s }");
        let script = "#!/bin/sh\nls /proc/$$/fd\necho \"$LD_PRELOAD\"\numask\ngrep SigIgn /proc/$$/status\nexec sleep 1000\n";
        daemon.write("deployd.yaml", "packages: { allowedUris: [\"file:///\"] }\n");
        let mut package = tar::Builder::new(fs::File::create(daemon.path("package.tar")).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(script.len() as u64);
        header.set_mode(0o777);
        package.append_data(&mut header, "bin/serve", script.as_bytes()).unwrap();
        package.into_inner().unwrap();
        // The catalog has to be readable, too.
        daemon.launch();
        let uri = format!(", httpSrcUri: 'file://{}'", daemon.path("package.tar").display());
        daemon.executed("plan", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &uri)]), "SUCCEEDED");
        let said = read(&daemon, "state/services/s1/containers/c1/output.log");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[lines.len() - 2], "0022", "{said}");
        // 10 is the shell's own copy of its script.
        assert_eq!(&lines[..3], ["0", "1", "10"], "{said}");
        assert!(lines[3] == "2" && lines[4].is_empty(), "{said}");
        let ignored = lines.last().and_then(|line| line.split_whitespace().last()).unwrap();
        // 32 and 33 belong to the C library, which lets nobody change them.
        let ignored = u64::from_str_radix(ignored, 16).unwrap() & !0x1_8000_0000;
        assert_eq!(ignored, 0, "{said}");
        daemon.executed("stop", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
        let loose = Command::new("find")
            .arg(daemon.path("state/services"))
            .args(["-perm", "/7022", "!", "-type", "l"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(loose.stdout).unwrap(), "", "umask {umask}");
    }
}
