//! Too many clients, and clients that take their time: nobody else waits, and nothing grows without end.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Footprint, STRANGER, ask, figure, many_descriptors, until_descriptors};
use crate::harness::{Daemon, Events, PATIENCE, is_root, items, skip};
use crate::reach::Another;

/// By how much the daemon's memory may grow, in KiB, whoever comes.
const GROWTH: u64 = 64 << 10;

fn connect(socket: &Path, say: &[u8]) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(say).unwrap();
    client
}

/// Whether the daemon has ended the connection.
fn is_ended(client: &UnixStream) -> bool {
    use nix::sys::socket::{MsgFlags, recv};
    recv(client.as_raw_fd(), &mut [0; 1024], MsgFlags::MSG_DONTWAIT) == Ok(0)
}

/// One more byte from each, until the daemon has ended all of them.
fn until_ended(mut slow: Vec<UnixStream>) {
    let begun = Instant::now();
    while !slow.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} are still there", slow.len());
        slow.retain_mut(|client| client.write_all(b"x").is_ok() && !is_ended(client));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn check_growth(what: &str, before: Footprint, pid: i32) {
    let growth = Footprint::of(pid).memory.saturating_sub(before.memory);
    figure(&format!("{what}: the daemon has grown by {growth} KiB"));
    assert!(growth < GROWTH, "{what}: {growth} KiB");
}

/// How long the slowest of some readings of the task list took.
fn slowest_list(daemon: &Daemon) -> Duration {
    let times = (0..100).map(|_| {
        let begun = Instant::now();
        assert_eq!(daemon.call("GET", "/v1/tasks", "").0, 200);
        begun.elapsed()
    });
    times.max().unwrap()
}

#[test]
fn crowds_that_are_silent_slow_or_deaf_hold_up_nobody_and_leave_nothing_behind() {
    if !many_descriptors() {
        return skip("2200 clients need more open files (ulimit -Hn)");
    }
    let daemon = Daemon::gated(2);
    daemon.release("c2");
    let id = daemon.execute("slow", &items(&[(1, 0, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    let socket = daemon.socket();
    daemon.ctl_ends(0, &["list"]);
    let pid = daemon.pid();
    // What listed is gone.
    let before = Footprint::of(pid);
    let silent: Vec<_> = (0..1000).map(|_| connect(&socket, b"")).collect();
    let slow: Vec<_> = (0..1000).map(|_| connect(&socket, b"GET /v1/tasks HTTP/1.1\r\nX: ")).collect();
    let deaf: Vec<_> = (0..200)
        .map(|_| {
            let client = connect(&socket, b"GET /v1/events HTTP/1.1\r\nHost: d\r\n\r\n");
            nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
            client
        })
        .collect();
    let slowest = slowest_list(&daemon);
    figure(&format!("the slowest of 100 lists beside 2200 clients took {slowest:?}"));
    // Many events, which 200 readers do not read.
    for round in 0..15 {
        let way = if round % 2 == 0 { "START" } else { "STOP" };
        daemon.executed("quick", &items(&[(2, 0, way, "")]), "SUCCEEDED");
    }
    daemon.ctl_ends(0, &["list"]);
    check_growth("1000 silent, 1000 slow, 200 deaf clients", before, pid);
    daemon.release("c1");
    daemon.until_state(id, "SUCCEEDED");
    until_ended(slow);
    for mut client in &silent {
        // Ended with an answer or without one.
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{answer:?}");
    }
    until_descriptors(pid, before.descriptors + deaf.len() + 8);
    // A reader that has slept through all of it gets all of it.
    let count = daemon.ctl_ends(0, &["events"]).lines().count();
    for client in deaf.into_iter().take(3) {
        let mut events = Events::of(client);
        let seqs: Vec<_> = (0..count).map(|_| events.next().unwrap()["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=count as u64).collect::<Vec<_>>());
    }
    until_descriptors(pid, before.descriptors);
    check_growth("afterwards", before, pid);
}

#[test]
fn bodies_that_do_not_come_are_answered_and_given_up() {
    let daemon = Daemon::gated(1);
    let (socket, pid) = (daemon.socket(), daemon.pid());
    daemon.ctl_ends(0, &["list"]);
    let before = Footprint::of(pid);
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 60000\r\n\r\n{{");
    let paths =
        ["/v1/plans/check", "/v1/plans?name=x", "/v1/tasks", "/v1/repositories", "/v1/tasks/1/resume"];
    for path in paths.iter().cycle().take(200) {
        drop(connect(&socket, post(path).as_bytes()));
    }
    let slow: Vec<_> =
        paths.iter().cycle().take(200).map(|path| connect(&socket, post(path).as_bytes())).collect();
    assert!(slowest_list(&daemon) < PATIENCE);
    for mut client in slow {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("did not come within"), "{answer}");
    }
    // Bodies where nobody expects one.
    for path in ["/v1/info", "/v1/tasks/1/stop", "/nothing"] {
        let mut client = connect(&socket, post(path).replace("POST /v1/info", "GET /v1/info").as_bytes());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
    }
    until_descriptors(pid, before.descriptors);
}

#[test]
fn many_large_plans_at_once_take_no_more_memory_than_two() {
    let daemon = Daemon::gated(1);
    let (socket, pid) = (daemon.socket(), daemon.pid());
    daemon.ctl_ends(0, &["list"]);
    let before = Footprint::of(pid);
    let length = deployd::plan::parse::MAX_BYTES;
    let head = format!("POST /v1/plans/check HTTP/1.1\r\nHost: d\r\nContent-Length: {length}\r\n\r\n");
    // All but the last byte.
    let body = vec![b'#'; length - 1];
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let mut client = connect(&socket, head.as_bytes());
            client.write_all(&body).ok();
            client
        })
        .collect();
    check_growth("12 plans of 16 MiB", before, pid);
    let answers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            client.write_all(b"\n").ok();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned())
        })
        .collect();
    let count = |status: &str| answers.iter().flatten().filter(|answer| answer.ends_with(status)).count();
    assert!(count("200") >= 1 && count("200") <= 2, "{answers:?}");
    assert_eq!(daemon.call("POST", "/v1/plans/check", "").0, 200);
}

#[test]
fn a_thousand_clients_that_ask_at_once_are_all_answered() {
    if !many_descriptors() {
        return skip("1000 clients need more open files (ulimit -Hn)");
    }
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    for round in 0..20 {
        let way = if round % 2 == 0 { "START" } else { "STOP" };
        daemon.executed("plan", &items(&[(1, 0, way, "")]), "SUCCEEDED");
    }
    let (socket, pid) = (daemon.socket(), daemon.pid());
    let before = Footprint::of(pid);
    let request = b"GET /v1/tasks HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let begun = Instant::now();
    let clients: Vec<_> = (0..1000).map(|_| connect(&socket, request)).collect();
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["tasks"].as_array().unwrap().len(), 20);
    }
    figure(&format!("1000 lists at once took {:?}", begun.elapsed()));
    check_growth("1000 clients that ask for the tasks", before, pid);
    until_descriptors(pid, before.descriptors);
}

#[test]
fn strangers_do_not_take_the_places_of_others() {
    if !is_root() || !many_descriptors() {
        return skip("strangers who are let in are tested as root, with many open files (ulimit -Hn)");
    }
    let daemon = Daemon::gated(1);
    let (socket, pid) = (daemon.socket(), daemon.pid());
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    daemon.ctl_ends(0, &["list"]);
    let before = Footprint::of(pid);
    let held = STRANGER.does(|| -> Vec<_> { (0..2000).map(|_| connect_if(&socket)).collect() });
    let slowest = slowest_list(&daemon);
    figure(&format!("the slowest of 100 lists beside 2000 strangers took {slowest:?}"));
    // Most are ended at once, and hold nothing.
    until_descriptors(pid, before.descriptors + 64 + 8);
    drop(held);
    until_descriptors(pid, before.descriptors);
    assert_eq!(STRANGER.does(|| ask(&socket, "GET", "/v1/info", "", "")).unwrap().status, 403);
}

fn connect_if(socket: &Path) -> Option<UnixStream> {
    UnixStream::connect(socket).ok()
}

#[test]
fn a_daemon_without_a_free_descriptor_accepts_again_when_there_is_one() {
    let daemon = Daemon::gated(1);
    let pid = daemon.pid();
    daemon.ctl_ends(0, &["list"]);
    let before = Footprint::of(pid);
    let limit = |descriptors: usize| {
        let limited = Command::new("prlimit")
            .arg(format!("--pid={pid}"))
            .arg(format!("--nofile={descriptors}:"))
            .status();
        limited.is_ok_and(|status| status.success())
    };
    if !limit(before.descriptors + 2) {
        return skip("prlimit is missing");
    }
    let crowd: Vec<_> = (0..20).map(|_| connect(&daemon.socket(), b"")).collect();
    until_descriptors_are(pid, before.descriptors + 2);
    assert!(limit(1024));
    daemon.ctl_ends(0, &["list"]);
    drop(crowd);
    until_descriptors(pid, before.descriptors);
    daemon.release("c1");
    daemon.executed("plan", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
}

/// Waits until a process holds all that it may.
fn until_descriptors_are(pid: i32, count: usize) {
    let begun = Instant::now();
    while Footprint::of(pid).descriptors < count {
        assert!(begun.elapsed() < PATIENCE, "{:?}, not {count}", Footprint::of(pid));
        std::thread::yield_now();
    }
}

#[test]
fn with_few_descriptors_clients_wait_and_the_release_goes_on() {
    let daemon = Daemon::new();
    daemon.add(1, &[("c1", ""), ("c2", "")], &daemon.gate());
    let plain = daemon.command();
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    let mut process = Another::of({
        limited.stdin(Stdio::null()).stdout(Stdio::null());
        limited
    });
    let begun = Instant::now();
    while UnixStream::connect(daemon.socket()).is_err() {
        assert!(begun.elapsed() < PATIENCE && !process.has_ended());
        std::thread::yield_now();
    }
    let pid = i32::try_from(process.0.id()).unwrap();
    let id = daemon.execute("plan", &items(&[(1, 0, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    let before = Footprint::of(pid);
    let crowd: Vec<_> = (0..24).map(|_| connect(&daemon.socket(), b"")).collect();
    daemon.release("c1");
    daemon.release("c2");
    // Waits for its turn, while silent clients are ended one after another.
    daemon.until_state(id, "SUCCEEDED");
    daemon.ctl_ends(0, &["list"]);
    drop(crowd);
    until_descriptors(pid, before.descriptors);
    daemon.executed("again", &items(&[(1, 0, "RESTART", "")]), "SUCCEEDED");
}

/// The commands of a hundred clients to one task, a hundred from each in one breath.
#[test]
fn ten_thousand_commands_to_one_task_at_once_are_all_answered() {
    let daemon = Daemon::gated(2);
    let id = daemon.execute("held", &items(&[(1, 2, "START", ""), (2, 1, "START", "")]));
    daemon.until(id, |event| event["type"] == "operation.begun");
    let (socket, pid) = (daemon.socket(), daemon.pid());
    daemon.ctl_ends(0, &["list"]);
    let before = Footprint::of(pid);
    let command = |method: &str, path: &str, how: &str| {
        format!(
            "{method} /v1/tasks/{id}{path} HTTP/1.1\r\nHost: d\r\nConnection: {how}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let each = [("POST", "/pause"), ("POST", "/resume"), ("DELETE", "")];
    let breath: String =
        each.iter().cycle().take(99).map(|(method, path)| command(method, path, "keep-alive")).collect();
    let breath = breath + &command("POST", "/pause", "close");
    let all = || {
        let clients: Vec<_> = (0..100).map(|_| connect(&socket, breath.as_bytes())).collect();
        let mut statuses = BTreeMap::<String, usize>::new();
        for mut client in clients {
            let mut answers = String::new();
            client.read_to_string(&mut answers).unwrap();
            for answer in answers.split("HTTP/1.1 ").skip(1) {
                *statuses.entry(answer[..3].to_string()).or_default() += 1;
            }
        }
        assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [("202".into(), 3400), ("409".into(), 6600)]);
    };
    all();
    // So many take some room, and as many again take it again.
    let after = Footprint::of(pid);
    all();
    check_growth("another 10,000 commands", after, pid);
    until_descriptors(pid, before.descriptors);
    daemon.release("c1");
    daemon.until_state(id, "PAUSED");
    daemon.release("c2");
    daemon.ctl_ends(0, &["resume", &id.to_string(), "--wait"]);
    // They were of one mind: what was so already is not done again.
    let report = daemon.report(id);
    let pauses =
        report["events"].as_array().unwrap().iter().filter(|event| event["type"] == "task.pauseRequested");
    assert_eq!(pauses.count(), 1, "{report:#}");
}
