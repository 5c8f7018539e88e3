//! The way to the socket: never open to the wrong people, never taken from a daemon that lives.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::client::{STRANGER, scaled};
use crate::harness::{Daemon, PATIENCE, is_root, skip};

/// What deployd ends with when another daemon is in its place.
const ANOTHER_RUNS: i32 = 75;

/// A daemon beside the harness's own; dropping it ends it.
pub struct Another(pub Child);

impl Another {
    pub fn of(mut command: Command) -> Self {
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Its exit code and what it said, when it has ended by itself.
    pub fn ends(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        while !self.has_ended() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::yield_now();
        }
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The same daemon on another state directory.
fn elsewhere(daemon: &Daemon, state: &Path) -> Another {
    let same = daemon.command();
    let mut command = Command::new(same.get_program());
    let mut arguments = same.get_args();
    while let Some(argument) = arguments.next() {
        if argument == "--state-dir" {
            arguments.next();
        } else {
            command.arg(argument);
        }
    }
    command.arg("--state-dir").arg(state).stdin(Stdio::null()).stdout(Stdio::null());
    Another::of(command)
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
    let Ok(process) = traced.spawn() else { return skip("strace is missing") };
    let mut process = Another(process);
    let begun = Instant::now();
    while UnixStream::connect(daemon.socket()).is_err() {
        assert!(
            !process.has_ended() && begun.elapsed() < PATIENCE,
            "{}",
            fs::read_to_string(&trace).unwrap()
        );
        std::thread::yield_now();
    }
    let log = fs::read_to_string(&trace).unwrap();

    let name = format!("\"{}\"", daemon.socket().display());
    let hidden = format!("/.deployd-{}", process.0.id());
    let of_the_socket = |line: &&str| line.contains(&name) || line.contains(&hidden);
    let step = |line: &str| {
        let call = line.split_once(' ').unwrap().1.trim_start();
        call.split('(').next().unwrap().to_string()
    };
    let lines: Vec<&str> = log.lines().filter(of_the_socket).collect();
    let steps: Vec<_> = lines.iter().map(|line| step(line)).filter(|call| !call.contains("chown")).collect();
    assert_eq!(steps, ["mkdir", "bind", "chmod", "renameat2"], "{lines:#?}");
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
    let (code, said) = Another::of(first.command()).ends();
    assert_eq!(code, Some(ANOTHER_RUNS), "{said}");
    assert!(said.contains(&format!("process {}", first.pid())), "{said}");
    // On a state directory of its own, but the same socket.
    let (code, said) = elsewhere(&first, &first.path("elsewhere")).ends();
    assert_eq!(code, Some(ANOTHER_RUNS), "{said}");
    assert!(said.contains("another process answers there"), "{said}");
    assert_eq!(fs::metadata(first.socket()).unwrap().ino(), inode);
    first.ctl_ends(0, &["list"]);
}

#[test]
fn of_many_daemons_that_start_at_once_on_one_state_directory_one_runs() {
    let daemon = Daemon::new();
    one_of(&daemon, (0..8).map(|_| Another::of(daemon.command())).collect());
}

#[test]
fn of_many_daemons_that_start_at_once_on_one_socket_one_runs() {
    let mut daemon = Daemon::new();
    for round in 0..scaled(4) {
        let all = (0..8).map(|number| elsewhere(&daemon, &daemon.path(&format!("{round}-{number}"))));
        one_of(&daemon, all.collect());
        // The next time there is something to replace.
        daemon.launch();
        daemon.kill_9();
    }
}

/// Waits until one of them is left, which then answers, and is killed.
fn one_of(daemon: &Daemon, mut all: Vec<Another>) {
    let begun = Instant::now();
    while all.len() > 1 {
        assert!(begun.elapsed() < PATIENCE, "{} run", all.len());
        if let Some(ended) = all.iter_mut().position(Another::has_ended) {
            let (code, said) = all.swap_remove(ended).ends();
            assert_eq!(code, Some(ANOTHER_RUNS), "{said}");
        }
        std::thread::yield_now();
    }
    while UnixStream::connect(daemon.socket()).is_err() {
        assert!(begun.elapsed() < PATIENCE && !all[0].has_ended());
        std::thread::yield_now();
    }
    daemon.ctl_ends(0, &["list"]);
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
        let (code, said) = Another::of(daemon.command()).ends();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("it exists and is no socket"), "{said}");
        assert!(!is_socket(&daemon.socket()));
        fs::remove_file(daemon.socket()).unwrap();
    }
    assert!(is_socket(&target) && fs::metadata(&target).unwrap().mode() & 0o777 == 0o640);
}
