//! What happens to standard error is nothing that happens to the daemon: a full disk, a reader that is gone or has
//! stopped, a file that may not grow.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::harness::{Daemon, PATIENCE, items};

/// A daemon with one service whose standard error goes where `redirect` says.
fn redirected(redirect: &str) -> Daemon {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    let script = format!("exec \"$@\" {redirect}");
    daemon.wrapper = ["/bin/sh", "-c", &script, "sh"].map(str::to_string).into();
    daemon.launch();
    daemon
}

/// Releases something, and ends in order.
fn works(mut daemon: Daemon) {
    for way in ["START", "RESTART", "STOP"] {
        daemon.executed("plan", &items(&[(1, 0, way, "")]), "SUCCEEDED");
    }
    // Each reload is told.
    daemon.ctl_ends(0, &["service", "reload"]);
    assert_eq!(daemon.terminate(), Some(0));
}

fn lines_lost(daemon: &Daemon) -> u64 {
    let (_, _, text) = daemon.http("GET", "/metrics", "", "");
    let counted = text.lines().find_map(|line| line.strip_prefix("deployd_log_lines_lost_total "));
    counted.unwrap_or_else(|| panic!("no deployd_log_lines_lost_total in {text}")).parse().unwrap()
}

fn fifo(in_directory: &Path) -> (PathBuf, fs::File) {
    let path = in_directory.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Both ends: so the daemon's opening does not wait.
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    (path, file)
}

#[test]
fn log_on_full_disk_loses_lines_and_nothing_else() {
    let daemon = redirected("2>/dev/full");
    assert!(lines_lost(&daemon) > 0, "else the disk is not full");
    works(daemon);
}

#[test]
fn log_without_reader_loses_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (path, reader) = fifo(directory.path());
    let daemon = redirected(&format!("2>{}", path.display()));
    assert_eq!(lines_lost(&daemon), 0);
    drop(reader);
    daemon.executed("first", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    daemon.ctl_ends(0, &["service", "reload"]);
    assert!(lines_lost(&daemon) > 0);
    works(daemon);
}

/// A file that has reached the limit of its size (`ulimit -f`, LimitFSIZE=): SIGXFSZ would end the daemon.
#[test]
fn log_that_may_not_grow_loses_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::File::create(&path).unwrap().set_len(256 << 20).unwrap();
    // In blocks of 512 bytes.
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    let script = format!("ulimit -f {} && exec \"$@\" 2>>{}", (256 << 20) / 512, path.display());
    daemon.wrapper = ["/bin/sh", "-c", &script, "sh"].map(str::to_string).into();
    daemon.launch();
    assert!(lines_lost(&daemon) > 0, "else the file has grown");
    works(daemon);
}

/// The pipe is full and nobody reads it: releases go on, a panic goes on, the end comes in time.
#[test]
fn reader_that_has_stopped_stalls_neither_releases_nor_panics_nor_the_end() {
    let mut daemon = Daemon::new();
    let (path, mut reader) = fifo(&daemon.path(""));
    daemon.add(1, &[("c1", "")], "");
    daemon.environment =
        vec![("DEPLOYD_LOG", "trace".into()), ("DEPLOYD_PANIC_IN", "before a process is asked for".into())];
    let script = format!("exec \"$@\" 2>{}", path.display());
    daemon.wrapper = ["/bin/sh", "-c", &script, "sh"].map(str::to_string).into();
    daemon.launch();
    let begun = Instant::now();
    while lines_lost(&daemon) == 0 {
        assert!(begun.elapsed() < PATIENCE);
        daemon.ctl_ends(0, &["list"]);
    }
    daemon.executed("first", &items(&[(1, 0, "START", "")]), "INTERRUPTED");
    daemon.executed("second", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    daemon.executed("third", &items(&[(1, 0, "STOP", "")]), "SUCCEEDED");
    assert_eq!(daemon.terminate(), Some(0));
    // It was full until the end.
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut said = Vec::new();
    reader.read_to_end(&mut said).ok();
    assert!(said.len() >= 48 << 10, "{}", said.len());
}

/// `deployctl … | head`: no panic, no complaint, and no success that was not seen.
#[test]
fn deployctl_without_reader_ends_quietly() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    let id = daemon.executed("first", &items(&[(1, 0, "START", "")]), "SUCCEEDED").to_string();
    let plan = daemon.path("first.plan.yaml").display().to_string();
    for (code, arguments) in [
        (0, &["list"][..]),
        (0, &["list", "-o", "json"]),
        (0, &["report", &id, "-o", "html"]),
        (0, &["events", "--follow"]),
        (0, &["service", "list"]),
        (0, &["plan", "schema"]),
        (0, &["completions", "bash"]),
        (0, &["--help"]),
        (141, &["watch", &id]),
        (141, &["execute", "-f", &plan, "--wait"]),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(crate::harness::deployctl())
            .args(arguments)
            .env("DEPLOYD_SOCKET", daemon.socket())
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(code), ""), "{arguments:?}");
    }
    // A disk that is full is not a reader that has enough.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(crate::harness::deployctl())
        .arg("list")
        .env("DEPLOYD_SOCKET", daemon.socket())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
}
