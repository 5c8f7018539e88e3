//! What can't be the store is refused, with what to do, and left as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::harness::{Daemon, is_root, skip};
use crate::{put, refused};

/// A daemon that has run, and its store's bytes.
fn stopped() -> (Daemon, Vec<u8>) {
    let mut daemon = Daemon::gated(1);
    daemon.terminate();
    let bytes = fs::read(daemon.path("state/deployd.redb")).unwrap();
    (daemon, bytes)
}

fn is_refused(daemon: &Daemon, what: &str, says: &str) {
    let (code, said) = refused(daemon);
    assert_eq!(code, Some(65), "{what}: {said}");
    assert!(said.contains("deployd.redb") && said.contains(says), "{what}: {said}");
    assert!(said.lines().count() == 1, "{what}: {said}");
}

#[test]
fn what_is_not_a_store_is_refused_and_left_as_it_is() {
    let (mut daemon, bytes) = stopped();
    let path = daemon.path("state/deployd.redb");
    for (content, says) in [
        (&b""[..], "it is empty; it was left untouched: restore a backup"),
        (b"SQLite format 3\0 and so on", "left untouched: restore a backup"),
        (&[0; 8192], "left untouched: restore a backup"),
        (&bytes[..bytes.len() / 2], "left untouched: restore a backup"),
        (&[&bytes[..], &[0; 100]].concat(), "left untouched: restore a backup"),
    ] {
        put(&path, content);
        is_refused(&daemon, says, says);
        assert!(fs::read(&path).unwrap() == content, "{says}: it was changed");
    }
    put(&path, &bytes);
    daemon.launch();
}

#[test]
fn what_is_not_a_file_of_our_own_is_refused() {
    let (mut daemon, bytes) = stopped();
    let path = daemon.path("state/deployd.redb");
    let away = daemon.path("elsewhere");
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    is_refused(&daemon, "a directory", "it is not a regular file; move it away");
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    is_refused(&daemon, "a fifo", "it is not a regular file; move it away");
    fs::remove_file(&path).unwrap();
    for target in [&*away, Path::new("/nonexistent")] {
        symlink(target, &path).unwrap();
        is_refused(&daemon, "a link", "it is a symbolic link");
        assert_eq!(fs::read_link(&path).unwrap(), target);
        fs::remove_file(&path).unwrap();
    }
    assert!(fs::read(&away).unwrap() == bytes);
    fs::rename(&away, &path).unwrap();
    for mode in [0o644, 0o660, 0o602] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        is_refused(&daemon, "its mode", "chmod 600");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        chown(&path, Some(65534), None).unwrap();
        is_refused(&daemon, "its owner", "it belongs to user 65534; if it is the right one: chown 0");
        chown(&path, Some(0), None).unwrap();
    } else {
        skip("giving a file to another user needs root");
    }
    assert!(fs::read(&path).unwrap() == bytes);
    daemon.launch();
}

#[test]
fn a_store_that_has_gone_is_not_begun_anew_unless_that_is_wanted() {
    let (mut daemon, bytes) = stopped();
    let path = daemon.path("state/deployd.redb");
    fs::remove_file(&path).unwrap();
    is_refused(&daemon, "nothing", "is missing: restore a backup in its place, or remove");
    assert!(!path.exists());
    // What it says to do is enough, either way.
    fs::remove_file(daemon.path("state/deployd.redb.created")).unwrap();
    daemon.launch();
    daemon.terminate();
    put(&path, &bytes);
    daemon.launch();
}
