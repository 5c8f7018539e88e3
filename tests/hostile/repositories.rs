//! Repositories on the daemon's host that somebody else can write: root's git reads nothing for them that they could
//! not read themselves, and writes nothing there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;

use crate::exchange::look;
use crate::harness::{Daemon, is_root, items, skip};
use crate::push::push;

/// What stands in the repository that only root may read.
const SECRET: &str = "S3CR3T-of-root-alone";
/// A user of every host, as whom nothing here runs.
const WRITER: u32 = 65_534;
const BUILD: &str = "build: { command: [/bin/sh, -c, 'cat file; mkdir out; cp file out/'], output: out }";

fn git(directory: &Path, arguments: &[&str]) -> String {
    let ran = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_string()
}

/// A daemon with a service that is built, and a repository that only root may read.
fn stage() -> (Daemon, PathBuf) {
    let mut daemon = Daemon::new();
    let allowed = format!("git: {{ allowedRepositories: ['file://{}'] }}\n", daemon.path("").display());
    daemon.write("deployd.yaml", &allowed);
    daemon.add(1, &[("c1", "")], BUILD);
    let secret = daemon.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).unwrap();
    git(&secret, &["init", "-q", "-b", "main"]);
    daemon.write("secret/file", SECRET);
    git(&secret, &["add", "."]);
    git(&secret, &["commit", "-q", "-m", "a secret"]);
    daemon.launch();
    (daemon, secret)
}

fn plan(repository: &str) -> String {
    let more = format!(", compileRepoPath: '{repository}', compileRepoBranch: main");
    items(&[(1, 0, "COMPILE_DEPLOY", &more)])
}

/// Builds it; the message of its failure, if it failed. The secret is nowhere.
fn build(daemon: &Daemon, repository: &str) -> Option<String> {
    let id = daemon.execute("plan", &plan(repository));
    let end = daemon.until(id, |event| matches!(event["state"].as_str(), Some("SUCCEEDED" | "FAILED")));
    let report = daemon.report(id);
    let logs = daemon.ctl_ends(0, &["logs", &id.to_string()]);
    for told in [report.to_string(), logs, daemon.log(), daemon.ctl_ends(0, &["repo", "list"])] {
        assert!(!told.contains(SECRET), "{told}");
    }
    let message = report["deployments"][0]["error"]["message"].as_str().map(str::to_string);
    assert_eq!(message.is_none(), end["state"] == "SUCCEEDED", "{report:#}");
    message
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// How somebody who can write a repository leads git to the secret, or holds it up.
type Plant = (&'static str, fn(&Path, &Path));

const ATTACKS: [Plant; 9] = [
    ("objects/info/alternates", |bare, secret| {
        write(&bare.join("objects/info/alternates"), &format!("{}/.git/objects\n", secret.display()));
        fs::remove_file(bare.join("packed-refs")).ok();
        let head = fs::read_to_string(secret.join(".git/refs/heads/main")).unwrap();
        write(&bare.join("refs/heads/main"), &head);
    }),
    ("commondir", |bare, secret| write(&bare.join("commondir"), &format!("{}/.git\n", secret.display()))),
    ("refs", |bare, secret| {
        fs::remove_dir_all(bare.join("refs")).unwrap();
        symlink(secret.join(".git/refs"), bare.join("refs")).unwrap();
    }),
    ("refs/heads/main", |bare, secret| {
        fs::remove_file(bare.join("refs/heads/main")).ok();
        symlink(secret.join(".git/refs/heads/main"), bare.join("refs/heads/main")).unwrap();
    }),
    ("objects", |bare, secret| {
        fs::remove_dir_all(bare.join("objects")).unwrap();
        symlink(secret.join(".git/objects"), bare.join("objects")).unwrap();
    }),
    ("packed-refs", |bare, secret| {
        fs::remove_file(bare.join("packed-refs")).ok();
        symlink(secret.join("file"), bare.join("packed-refs")).unwrap();
    }),
    ("config", |bare, secret| {
        fs::remove_file(bare.join("config")).unwrap();
        symlink(secret.join("file"), bare.join("config")).unwrap();
    }),
    ("HEAD", |bare, _| {
        fs::remove_file(bare.join("HEAD")).unwrap();
        nix::unistd::mkfifo(&bare.join("HEAD"), Mode::from_bits_truncate(0o666)).unwrap();
    }),
    ("refs/heads/other", |bare, _| {
        nix::unistd::mkfifo(&bare.join("refs/heads/other"), Mode::from_bits_truncate(0o666)).unwrap();
    }),
];

#[test]
fn a_built_in_repository_that_leads_elsewhere_is_refused_by_the_name_of_the_file() {
    let (daemon, secret) = stage();
    for (index, (name, plant)) in ATTACKS.into_iter().enumerate() {
        let repository = format!("app{index}");
        daemon.ctl_ends(0, &["repo", "create", &repository]);
        push(&daemon, &repository, &[("file", "harmless")], "main");
        let bare = daemon.path(&format!("state/git/{repository}.git"));
        plant(&bare, &secret);
        let message = build(&daemon, &repository).unwrap_or_else(|| panic!("{name} was used"));
        assert!(message.contains(&format!("{}", bare.join(name).display())), "{name}: {message}");
    }
}

/// A bare repository of a user who is not root, beside the secret.
fn of_a_user(daemon: &Daemon, name: &str) -> PathBuf {
    let (source, bare) = (daemon.path(&format!("{name}-source")), daemon.path(name));
    fs::create_dir(&source).unwrap();
    git(&source, &["init", "-q", "-b", "main"]);
    write(&source.join("file"), "harmless");
    git(&source, &["add", "."]);
    git(&source, &["commit", "-q", "-m", "a commit"]);
    git(&source, &["clone", "-q", "--bare", "--template=", ".", bare.to_str().unwrap()]);
    bare
}

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(WRITER), Some(WRITER)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

#[test]
fn roots_git_reads_for_no_user_what_the_user_may_not_read() {
    if !is_root() {
        return skip("repositories of others are tested as root");
    }
    let (daemon, secret) = stage();
    let bare = of_a_user(&daemon, "theirs.git");
    give(&bare);
    let before = look(&bare);
    assert_eq!(build(&daemon, &format!("file://{}", bare.display())), None);
    assert_eq!(look(&bare), before, "the daemon's fetch wrote into the repository");
    for (index, (name, plant)) in ATTACKS.into_iter().enumerate() {
        let bare = of_a_user(&daemon, &format!("{index}.git"));
        plant(&bare, &secret);
        give(&bare);
        let failed = build(&daemon, &format!("file://{}", bare.display()));
        // Some of it git ignores, as it would for its owner.
        assert!(
            failed.is_some() || !matches!(name, "objects/info/alternates" | "commondir" | "objects"),
            "{name}"
        );
    }
    // What belongs to root alone is root's to read.
    let own = of_a_user(&daemon, "own.git");
    fs::set_permissions(&own, PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(build(&daemon, &format!("file://{}", own.display())), None);
    // What root owns and another can write is read as neither.
    chown(own.join("HEAD"), Some(WRITER), None).unwrap();
    let message = build(&daemon, &format!("file://{}", own.display())).unwrap();
    assert!(message.contains("Others than root can write") && message.contains("setfacl"), "{message}");
}
