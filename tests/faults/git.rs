//! Git servers that stall, drip, cut and lie: git is ended in time with all that it has started, the reason
//! is told, and nothing of it stays.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, is_root, items, skip};
use crate::push::push;
use crate::scene::{Daemon, assert_starts, state};

/// `timeouts.git`, for one command.
const LIMIT: Duration = Duration::from_secs(2);

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Do {
    /// Says this, and hangs up.
    Say(fn() -> Vec<u8>),
    /// Says this, and then nothing more.
    SayAndStall(fn() -> Vec<u8>),
    /// Says this, a byte each second.
    Drip(fn() -> Vec<u8>),
}

const NOTHING: Do = Do::SayAndStall(Vec::new);

fn answer(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn packet(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// The branches of a repository that has one commit, or says so.
fn branches() -> Vec<u8> {
    let commit = "1234567812345678123456781234567812345678";
    let body = [
        packet("# service=git-upload-pack\n"),
        "0000".into(),
        packet(&format!("{commit} HEAD\0multi_ack_detailed no-done symref=HEAD:refs/heads/main agent=x\n")),
        packet(&format!("{commit} refs/heads/main\n")),
        "0000".into(),
    ];
    answer("advertisement", body.concat().as_bytes())
}

fn half_of_the_branches() -> Vec<u8> {
    let all = branches();
    all[..all.len() - 30].to_vec()
}

fn head_alone() -> Vec<u8> {
    answer("advertisement", b"")
}

fn begun_pack() -> Vec<u8> {
    answer("result", &[packet("NAK\n").as_bytes(), b"PACK\0\0\0\x02\0\0\0\x03\x95"].concat())
}

fn wrong_pack() -> Vec<u8> {
    answer("result", &[packet("NAK\n").as_bytes(), b"PACK\0\0\0\x02\0\0\0\x01", &[b'x'; 4000]].concat())
}

fn no_pack() -> Vec<u8> {
    answer("result", "<html>".repeat(500).as_bytes())
}

fn escapes() -> Vec<u8> {
    answer("result", packet("ERR \x1b[2J\x1b]0;owned\x07 no\n").as_bytes())
}

fn html() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>".to_vec()
}

fn error() -> Vec<u8> {
    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
}

fn in_a_circle() -> Vec<u8> {
    let place = "/r.git/info/refs?service=git-upload-pack";
    format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into()
}

/// What the server does when it is asked for the branches, and for a pack; what is said then.
const SERVERS: [(&str, Do, Do, &str); 14] = [
    ("silent", NOTHING, NOTHING, "longer than 2 s (timeouts.git)"),
    ("head only", Do::SayAndStall(head_alone), NOTHING, "longer than 2 s (timeouts.git)"),
    (
        "stalls in the branches",
        Do::SayAndStall(half_of_the_branches),
        NOTHING,
        "longer than 2 s (timeouts.git)",
    ),
    ("drips", Do::Drip(branches), NOTHING, "longer than 2 s (timeouts.git)"),
    ("cuts the branches", Do::Say(half_of_the_branches), NOTHING, "cannot read"),
    ("hangs up", Do::Say(Vec::new), NOTHING, "cannot read"),
    ("html", Do::Say(html), NOTHING, "has no branch main"),
    ("error", Do::Say(error), NOTHING, "500"),
    ("circle", Do::Say(in_a_circle), NOTHING, "cannot read"),
    ("no pack comes", Do::Say(branches), NOTHING, "longer than 2 s (timeouts.git)"),
    ("half a pack", Do::Say(branches), Do::SayAndStall(begun_pack), "longer than 2 s (timeouts.git)"),
    ("cuts the pack", Do::Say(branches), Do::Say(begun_pack), "cannot fetch from"),
    ("wrong pack", Do::Say(branches), Do::Say(wrong_pack), "cannot fetch from"),
    ("escapes", Do::Say(branches), Do::Say(escapes), "cannot fetch from"),
];

fn serve(branches: Do, pack: Do) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || obey(stream, branches, pack).ok());
        }
    });
    port
}

fn obey(mut stream: TcpStream, branches: Do, pack: Do) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let is_pack = head.starts_with(b"POST");
    match if is_pack { pack } else { branches } {
        Do::Say(words) => {
            stream.write_all(&words())?;
            stream.shutdown(std::net::Shutdown::Write)?;
        }
        Do::SayAndStall(words) => stream.write_all(&words())?,
        Do::Drip(words) => {
            for byte in words() {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    // Until the other side hangs up.
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

/// The processes whose command line names this port.
fn processes(port: u16) -> Vec<String> {
    let place = format!("127.0.0.1:{port}/");
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let of = |pid: String| fs::read(format!("/proc/{pid}/cmdline")).ok();
    let lines = all.filter(|name| name.parse::<u32>().is_ok()).filter_map(of);
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&place))
        .collect()
}

fn until_gone(what: &str, port: u16) {
    let begun = Instant::now();
    while !processes(port).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:?} still run", processes(port));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What lies in the cache of repositories, but for its configuration.
fn cached(daemon: &Daemon) -> Vec<String> {
    let all = fs::read_dir(daemon.path("state/git-cache")).unwrap();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "config").collect()
}

fn stage(port: u16, limit: Duration) -> (Daemon, String) {
    let mut daemon = Daemon::new();
    let allowed = format!("http://127.0.0.1:{port}/");
    daemon.write(
        "deployd.yaml",
        &format!(
            "git: {{ allowedRepositories: ['{allowed}'] }}\ntimeouts: {{ git: {}s }}\nshutdownGrace: 100ms\n",
            limit.as_secs()
        ),
    );
    daemon.add(1, &[("c1", "")], "build: { command: ['true'], output: out }");
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    let more = format!(", compileRepoPath: '{allowed}r.git', compileRepoBranch: main");
    let plan = items(&[(1, 0, "COMPILE_DEPLOY", &more)]);
    (daemon, plan)
}

fn told((what, branches, pack, words): (&str, Do, Do, &str)) {
    let port = serve(branches, pack);
    let (daemon, plan) = stage(port, LIMIT);
    let begun = Instant::now();
    let id = daemon.execute("plan", &plan);
    daemon.executed("other", &items(&[(2, 0, "START", "")]), "SUCCEEDED");
    daemon.until_state(id, "FAILED");
    // Asking for the branches and fetching, each once more when git itself has given up.
    assert!(begun.elapsed() < 4 * LIMIT + Duration::from_secs(20), "{what}: {:?}", begun.elapsed());
    let error = daemon.report(id)["deployments"][0]["error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(error["code"] == "repository" && message.contains(words), "{what}: {error:#}");
    assert!(!message.contains(char::is_control), "{what}: {message:?}");
    until_gone(what, port);
    assert!(cached(&daemon).is_empty(), "{what}: {:?}", cached(&daemon));
    assert_starts(&daemon, &[("c2", 1)]);
}

#[test]
fn whatever_a_git_server_does_git_ends_in_time_and_leaves_nothing() {
    std::thread::scope(|scope| {
        for part in SERVERS.chunks(SERVERS.len().div_ceil(3)) {
            scope.spawn(|| part.iter().for_each(|case| told(*case)));
        }
    });
}

#[test]
fn a_git_that_waits_for_its_server_ends_with_the_daemon_and_with_the_task() {
    let port = serve(Do::Say(branches), NOTHING);
    let (mut daemon, plan) = stage(port, Duration::from_mins(10));
    let fetching = |daemon: &Daemon| {
        let begun = Instant::now();
        while !processes(port).iter().any(|line| line.contains(" fetch ")) {
            assert!(begun.elapsed() < PATIENCE, "git fetches nothing:\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let id = daemon.execute("plan", &plan);
    fetching(&daemon);
    let begun = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    until_gone("after SIGTERM", port);
    daemon.launch();
    assert_eq!(state(&daemon, id), ("INTERRUPTED".into(), "daemonShutDown".into()));
    daemon.ctl_ends(0, &["resume", &id.to_string()]);
    fetching(&daemon);
    daemon.ctl_ends(11, &["stop", &id.to_string(), "--now", "--wait"]);
    until_gone("after stop --now", port);
    assert!(daemon.witness().is_empty());
}

/// What stands in git's place; what is said of it.
const NO_GITS: [(&str, &str); 4] = [
    ("", "cannot run git"),
    ("#!/bin/sh\nexit 127\n", "git gave no reason"),
    ("#!/bin/sh\nkill -SEGV $$\n", "git gave no reason"),
    ("#!/bin/sh\necho 'fatal: \u{1b}[2J' >&2; exit 137\n", "fatal:"),
];

#[test]
fn a_git_that_is_missing_or_broken_is_told() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "build: { command: ['true'], output: out }");
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon, "app", &[("out", "x")], "main");
    for (program, words) in NO_GITS {
        assert_eq!(daemon.terminate(), Some(0));
        let path = daemon.write("git", program);
        let mode = if program.is_empty() { 0o644 } else { 0o755 };
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let mount = format!(
            "for git in /usr/local/bin/git /usr/bin/git /bin/git; do test ! -e $git || mount --bind {} $git; done; exec \"$@\"",
            path.display()
        );
        daemon.wrapper = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &mount, "sh"]
            .map(str::to_string)
            .into();
        daemon.launch();
        let plan = items(&[(1, 0, "COMPILE_DEPLOY", ", compileRepoPath: app, compileRepoBranch: main")]);
        let id = daemon.executed("plan", &plan, "FAILED");
        let error = daemon.report(id)["deployments"][0]["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words) && !message.contains(char::is_control), "{program}: {error:#}");
    }
    assert_eq!(daemon.terminate(), Some(0));
    daemon.wrapper.clear();
    daemon.launch();
    assert!(daemon.witness().is_empty());
}
