//! Repositories on this host: which of their files are refused, and as whom git reads them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::{User, geteuid, mkfifo};

use super::super::local::{GIT_USER, Local};
use super::Room;

/// A bare repository with a branch, and a directory that is none of its.
fn bare() -> (Room, PathBuf, PathBuf) {
    let room = Room::new();
    room.commit(1);
    let [bare, outside] = ["bare.git", "outside"].map(|name| room.path(name));
    room.run("", &["clone", "-q", "--bare", "--template=", "app", "bare.git"]);
    fs::create_dir(&outside).unwrap();
    for path in [room.path(""), bare.clone()] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    (room, bare, outside)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
}

/// What of a repository can lead git elsewhere, and how it is planted.
const PLANTED: [(&str, &str); 15] = [
    ("HEAD", "link"),
    ("config", "link"),
    ("packed-refs", "link"),
    ("refs", "link"),
    ("refs/heads/main", "link"),
    ("refs/heads/a/b", "link"),
    ("objects", "link"),
    ("objects/pack", "link"),
    ("objects/ab", "link"),
    ("objects/pack/pack-1.idx", "link"),
    ("commondir", "text"),
    ("config.worktree", "text"),
    ("objects/info/alternates", "text"),
    ("objects/info/http-alternates", "text"),
    ("info/grafts", "text"),
];

#[test]
fn a_built_in_repository_with_files_that_lead_elsewhere_is_refused() {
    for (name, kind) in PLANTED {
        let (room, bare, outside) = bare();
        let path = bare.join(name);
        fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).ok();
        if kind == "link" {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(&outside, &path).unwrap();
        } else {
            write(&path, &outside.display().to_string());
        }
        let refused = Local::find(&bare, true).unwrap_err();
        assert!(refused.0.starts_with(&path.display().to_string()), "{name}: {refused:?}");
        // In a repository that is the user's own they are the user's own business.
        assert!(Local::find(&bare, false).is_ok(), "{name}");
        drop(room);
    }
}

type Plant = (&'static str, fn(&Path));

#[test]
fn what_is_no_file_is_refused_in_every_repository() {
    let plants: [Plant; 2] = [
        ("is a named pipe", |path| mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap()),
        ("is a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ];
    for (what, plant) in plants {
        for name in ["HEAD", "packed-refs", "refs/heads/other", "objects/info/alternates"] {
            let (_room, bare, _) = bare();
            fs::create_dir_all(bare.join("objects/info")).unwrap();
            fs::remove_file(bare.join(name)).ok();
            plant(&bare.join(name));
            for built_in in [true, false] {
                let refused = Local::find(&bare, built_in).unwrap_err();
                assert!(refused.0.contains(what) && refused.0.contains(name), "{refused:?}");
            }
        }
    }
}

/// Somebody who is in no list of users.
const UNKNOWN: u32 = 471_147;

#[test]
fn root_reads_a_repository_itself_only_if_nobody_else_can_have_written_it() {
    if !geteuid().is_root() {
        return;
    }
    let account = |bare: &Path| Local::find(bare, false).unwrap().account.map(|account| account.uid);
    let daemon = User::from_name("daemon").unwrap().unwrap();
    let nobody = User::from_name(GIT_USER).unwrap().or_else(|| User::from_name("nobody").unwrap()).unwrap();
    let (daemon, nobody) = (daemon.uid.as_raw(), nobody.uid.as_raw());
    let (room, bare, _) = bare();
    assert_eq!(account(&bare), None);
    let owned = |name: &str, uid: u32| chown(bare.join(name), Some(uid), None).unwrap();
    let mode =
        |name: &str, mode: u32| fs::set_permissions(bare.join(name), Permissions::from_mode(mode)).unwrap();
    owned("refs/heads", daemon);
    assert_eq!(account(&bare), Some(daemon));
    owned("config", UNKNOWN);
    assert_eq!(account(&bare), Some(nobody), "of several users");
    owned("refs/heads", 0);
    assert_eq!(account(&bare), Some(nobody), "of a user without a name");
    owned("config", 0);
    for (name, wide, usual) in [("HEAD", 0o646, 0o644), ("objects", 0o757, 0o755)] {
        mode(name, wide);
        assert_eq!(account(&bare), Some(nobody), "{name} can be written by all");
        mode(name, usual);
    }
    chown(bare.join("objects"), None, Some(daemon)).unwrap();
    assert_eq!(account(&bare), None, "a group that may only read");
    mode("objects", 0o775);
    assert_eq!(account(&bare), Some(nobody), "a group that may write");
    mode("objects", 0o755);
    // Whoever owns the directory above can put another repository there.
    chown(room.path(""), Some(daemon), None).unwrap();
    assert_eq!(account(&bare), Some(nobody));
}

#[test]
fn a_checkout_is_read_by_its_own_repository_and_no_other() {
    let (room, bare, _) = bare();
    assert_eq!(Local::find(&room.path("app"), false).unwrap().directory, room.path("app/.git"));
    let elsewhere = room.path("elsewhere");
    write(&elsewhere.join(".git"), &format!("gitdir: {}\n", bare.display()));
    assert!(Local::find(&elsewhere, false).unwrap_err().0.contains("elsewhere/.git is no directory"));
    assert!(Local::find(&room.path("nothing"), false).is_err());
}
