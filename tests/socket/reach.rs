//! The way to the socket: never open to the wrong people, never taken from a daemon that lives.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::client::{STRANGER, scaled};
use crate::harness::{Daemon, PATIENCE, is_root, skip};

/// What deployd ends with when another daemon is in its place.
const ANOTHER_RUNS: i32 = 4;

fn ends(mut process: Child) -> (Option<i32>, String) {
    let begun = Instant::now();
    while process.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::yield_now();
    }
    let output = process.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn start(daemon: &Daemon) -> Child {
    daemon.command().stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_socket_gets_its_mode_and_owner_before_its_name() {
    let daemon = Daemon::new();
    let (trace, plain) = (daemon.path("trace"), daemon.command());
    let calls = "trace=umask,mkdir,mkdirat,socket,bind,listen,chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,link,linkat,symlink,symlinkat,rename,renameat,renameat2";
    let mut traced = Command::new("strace");
    // The daemon stays our child; the tracer ends with it.
    traced.args(["-D", "-f", "-qq", "-e", calls, "-o"]).arg(&trace).arg(plain.get_program());
    traced.args(plain.get_args()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut process) = traced.spawn() else { return skip("strace is missing") };
    let begun = Instant::now();
    while UnixStream::connect(daemon.socket()).is_err() {
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{}", fs::read_to_string(&trace).unwrap());
        std::thread::yield_now();
    }
    let log = fs::read_to_string(&trace).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();

    let name = format!("\"{}\"", daemon.socket().display());
    let hidden = format!("/.deployd-{}", process.id());
    let of_the_socket = |line: &&str| line.contains(&name) || line.contains(&hidden);
    let step = |line: &str| {
        let call = line.split_once(' ').unwrap().1.trim_start();
        call.split('(').next().unwrap().to_string()
    };
    let lines: Vec<&str> = log.lines().filter(of_the_socket).collect();
    let steps: Vec<_> = lines.iter().map(|line| step(line)).filter(|call| !call.contains("chown")).collect();
    assert_eq!(steps, ["mkdir", "bind", "chmod", "rename"], "{lines:#?}");
    assert!(lines[0].contains("0700"), "{lines:#?}");
    // A new owner comes before the mode that lets the group in.
    let chown = lines.iter().position(|line| step(line).contains("chown"));
    assert!(chown.is_none_or(|at| at == 2), "{lines:#?}");
    let chmod = lines.iter().find(|line| step(line) == "chmod").unwrap();
    assert!(chmod.contains("0600") || (chown.is_some() && chmod.contains("0660")), "{lines:#?}");
    // The name that clients know appears once, as what the finished socket is renamed to.
    let known: Vec<_> = lines.iter().filter(|line| line.contains(&name)).collect();
    assert!(known.len() == 1 && known[0].contains(&hidden), "{lines:#?}");
}

#[test]
fn a_stranger_who_tries_all_the_time_never_connects_while_the_daemon_starts() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let mut daemon = Daemon::new();
    let (socket, done) = (daemon.socket(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            STRANGER.does(|| {
                let (mut tries, mut connects) = (0_u64, 0);
                while !done.load(Ordering::Relaxed) {
                    tries += 1;
                    connects += u64::from(UnixStream::connect(&socket).is_ok());
                }
                (tries, connects)
            })
        });
        for round in 0..scaled(10) {
            daemon.launch();
            // Once with nothing there, once with what a killed daemon has left.
            if round % 2 == 0 {
                daemon.kill_9();
            } else {
                assert_eq!(daemon.terminate(), Some(0));
            }
        }
        done.store(true, Ordering::Relaxed);
        let (tries, connects) = busy.join().unwrap();
        assert!(tries > 1000 && connects == 0, "{connects} of {tries}");
    });
}

#[test]
fn there_is_no_way_in_but_the_socket() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    let sockets_of = |pid: &str| -> BTreeSet<String> {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        let inode = |target: std::path::PathBuf| {
            let target = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(target.to_string())
        };
        targets.filter_map(inode).collect()
    };
    let pid = daemon.pid().to_string();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let all: BTreeSet<_> =
        std::iter::once(&*pid).chain(children.split_whitespace()).flat_map(sockets_of).collect();
    assert!(!all.is_empty());
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let ours =
            table.lines().skip(1).filter(|line| line.split_whitespace().any(|word| all.contains(word)));
        assert_eq!(ours.count(), 0, "{table}");
    }
    // Of the Unix sockets, those that listen have a name: one, in the file system.
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap();
    let named = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (all.contains(words[6]) && words.len() > 7).then(|| words[7].to_string())
    });
    // The kernel shows the name under which it was bound.
    let hidden = daemon.path(&format!(".deployd-{pid}/sock")).display().to_string();
    let names: BTreeSet<_> = named.collect();
    assert_eq!(names, BTreeSet::from([hidden]));
    assert!(!daemon.path(&format!(".deployd-{pid}")).exists());
}

#[test]
fn a_second_daemon_says_who_is_there_and_leaves_the_first_alone() {
    let first = Daemon::gated(1);
    let inode = fs::metadata(first.socket()).unwrap().ino();
    // On the same state directory.
    let (code, said) = ends(start(&first));
    assert_eq!(code, Some(ANOTHER_RUNS), "{said}");
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    // On a state directory of its own, but the same socket.
    let other = Daemon::new();
    let mut command = other.command();
    command.arg("--socket").arg(first.socket());
    let mut plain = Command::new(command.get_program());
    let own: Vec<_> = command.get_args().collect();
    let at = own.iter().position(|argument| *argument == "--socket").unwrap();
    plain.args(&own[..at]).args(&own[at + 2..]).stdin(Stdio::null()).stdout(Stdio::null());
    let (code, said) = ends(plain.stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(code, Some(ANOTHER_RUNS), "{said}");
    assert!(said.contains("another process answers there"), "{said}");
    assert_eq!(fs::metadata(first.socket()).unwrap().ino(), inode);
    first.ctl_ends(0, &["list"]);
}

#[test]
fn of_many_daemons_that_start_at_once_one_runs() {
    let daemon = Daemon::new();
    let mut all: Vec<_> = (0..8).map(|_| start(&daemon)).collect();
    let begun = Instant::now();
    while all.len() > 1 {
        assert!(begun.elapsed() < PATIENCE, "{} run", all.len());
        let (ended, still): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|mut process| (process.try_wait().unwrap().is_some(), process))
            .partition(|(ended, _)| *ended);
        for (_, process) in ended {
            let (code, said) = ends(process);
            assert_eq!(code, Some(ANOTHER_RUNS), "{said}");
        }
        all = still.into_iter().map(|(_, process)| process).collect();
    }
    while UnixStream::connect(daemon.socket()).is_err() {
        assert!(begun.elapsed() < PATIENCE && all[0].try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    daemon.ctl_ends(0, &["list"]);
    all[0].kill().unwrap();
    all[0].wait().unwrap();
}

#[test]
fn what_a_killed_daemon_left_is_replaced_and_what_is_no_socket_is_left() {
    let mut daemon = Daemon::new();
    daemon.launch();
    daemon.kill_9();
    let is_socket = |path: &Path| fs::symlink_metadata(path).unwrap().file_type().is_socket();
    assert!(is_socket(&daemon.socket()) && UnixStream::connect(daemon.socket()).is_err());
    daemon.launch();
    daemon.ctl_ends(0, &["list"]);
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!daemon.socket().exists());
    // A file, and a link to a socket of somebody else's.
    let target = daemon.path("other.sock");
    drop(UnixListener::bind(&target).unwrap());
    fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
    let file = |path: &Path| fs::write(path, "mine").unwrap();
    let link = |path: &Path| symlink(&target, path).unwrap();
    for put in [&file as &dyn Fn(&Path), &link] {
        put(&daemon.socket());
        let (code, said) = ends(start(&daemon));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("it exists and is no socket"), "{said}");
        assert!(!is_socket(&daemon.socket()));
        fs::remove_file(daemon.socket()).unwrap();
    }
    assert!(is_socket(&target) && fs::metadata(&target).unwrap().mode() & 0o777 == 0o640);
}
