//! Pushes and fetches over the daemon's socket, as git makes them of addresses like git://deployd/shop.git.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Daemon, deployctl, is_root, skip};
use crate::push::push;

/// Who the daemon is, and who may use it: no user of any host.
const DAEMON: u32 = 4711;
const OPERATOR: (u32, u32) = (4712, 1);
const VIEWER: (u32, u32) = (4713, 2);

/// git, in a checkout, with nothing but what `repo create` prints; as this user and group.
fn git(daemon: &Daemon, who: Option<(u32, u32)>, arguments: &[&str]) -> Output {
    let mut command = match who {
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command
                .args([format!("--reuid={uid}"), format!("--regid={gid}")])
                .args(["--clear-groups", "git"]);
            command
        }
        None => Command::new("git"),
    };
    let path = format!("{}:{}", deployctl().parent().unwrap().display(), std::env::var("PATH").unwrap());
    command.args(arguments).current_dir(daemon.path("checkout")).env_clear();
    command
        .env("PATH", path)
        .env("HOME", "/nonexistent")
        .env("DEPLOYD_SOCKET", daemon.socket())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A checkout with one commit, of this user.
fn check_out(daemon: &Daemon, who: Option<(u32, u32)>) {
    let checkout = daemon.path("checkout");
    fs::create_dir_all(&checkout).unwrap();
    if let Some((uid, gid)) = who {
        chown(&checkout, Some(uid), Some(gid)).unwrap();
    }
    let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    for arguments in [&["init", "-q", "-b", "main"][..], &["commit", "-q", "--allow-empty", "-m", "a commit"]]
    {
        let done = git(daemon, who, &[&identity, arguments].concat());
        assert!(done.status.success(), "{}", text(&done));
    }
}

const PROXY: [&str; 2] = ["-c", "core.gitProxy=deployctl"];

#[test]
fn git_pushes_and_fetches_over_the_socket() {
    let mut daemon = Daemon::new();
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    check_out(&daemon, None);
    let git = |arguments: &[&str]| git(&daemon, None, &[&PROXY, arguments].concat());
    for address in ["git://deployd/app.git", "git://deployd/app"] {
        let pushed = git(&["push", address, "main"]);
        assert!(pushed.status.success(), "{}", text(&pushed));
    }
    let head = text(&git(&["rev-parse", "HEAD"]));
    // By the repository's whole path, too: that is what an address of the host's configuration leads to.
    let path = format!("git://deployd{}", daemon.path("state/git/app.git").display());
    let listed = text(&git(&["ls-remote", &path, "refs/heads/main"]));
    assert_eq!(listed, format!("{}\trefs/heads/main\n", head.trim()));
    assert_eq!(daemon.json(&["repo", "list"])["repositories"][0]["branches"][0], "main");
    let nothing = text(&git(&["push", "git://deployd/nothing.git", "main"]));
    assert!(nothing.contains("there is no repository nothing"), "{nothing}");
    for outside in ["git://deployd/etc/passwd", "git://deployd/../app.git"] {
        assert!(text(&git(&["ls-remote", outside])).contains("where this deployd keeps"), "{outside}");
    }
}

/// A stand-in for ssh: runs the command on this host.
const SSH: &str = "#!/bin/sh\nshift\nexec sh -c \"$*\"\n";

#[test]
fn git_pushes_over_ssh_to_the_socket_of_the_other_host() {
    let mut daemon = Daemon::new();
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    check_out(&daemon, None);
    let ssh = daemon.write("ssh", SSH);
    fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
    let ssh = format!("core.sshCommand={}", ssh.display());
    let pushed = git(
        &daemon,
        None,
        &[
            "-c",
            "ssh.variant=simple",
            "-c",
            &ssh,
            "push",
            "--receive-pack=deployctl git-receive-pack",
            "host:app",
            "main",
        ],
    );
    assert!(pushed.status.success(), "{}", text(&pushed));
    let fetched = git(
        &daemon,
        None,
        &[
            "-c",
            "ssh.variant=simple",
            "-c",
            &ssh,
            "ls-remote",
            "--upload-pack=deployctl git-upload-pack",
            "host:app",
        ],
    );
    assert!(text(&fetched).contains("refs/heads/main"), "{}", text(&fetched));
}

#[test]
fn operators_push_viewers_fetch_and_strangers_do_neither() {
    if !is_root() {
        return skip("pushes of others are tested as root, who can become others");
    }
    // A daemon that is not root, and belongs to a group of operators, as in an installation with `User=`.
    let mut daemon = Daemon::new();
    daemon.write("deployd.yaml", "access: { operators: [daemon], viewers: [bin] }\n");
    chown(daemon.path(""), Some(DAEMON), Some(DAEMON)).unwrap();
    chown(daemon.path("deployd.yaml"), Some(DAEMON), None).unwrap();
    let [user, group] = ["--reuid", "--regid"].map(|option| format!("{option}={DAEMON}"));
    daemon.wrapper = vec!["setpriv".into(), user, group, "--clear-groups".into()];
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    // The second line of defence: the mode of the socket lets all of them in.
    fs::set_permissions(daemon.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    check_out(&daemon, Some(OPERATOR));
    let address = "git://deployd/app.git";
    let push = [PROXY[0], PROXY[1], "push", address, "HEAD:refs/heads/main"];
    let pushed = git(&daemon, Some(OPERATOR), &push);
    assert!(pushed.status.success(), "{}", text(&pushed));
    let fetch = [PROXY[0], PROXY[1], "ls-remote", address];
    for (who, fetches, why) in [
        (OPERATOR, true, ""),
        (VIEWER, true, "needs the role operator"),
        ((65534, 65534), false, "in none of the groups"),
    ] {
        // In a checkout of their own.
        fs::remove_dir_all(daemon.path("checkout")).unwrap();
        check_out(&daemon, Some(who));
        let fetched = git(&daemon, Some(who), &fetch);
        assert_eq!(fetched.status.success(), fetches, "{who:?}: {}", text(&fetched));
        let pushed = git(&daemon, Some(who), &[&push[..4], &["HEAD:refs/heads/other"]].concat());
        assert_eq!(pushed.status.success(), why.is_empty(), "{who:?}");
        assert!(text(&pushed).contains(why), "{}", text(&pushed));
    }
    // What is pushed belongs to the daemon, and to nobody else.
    assert!(is_owned(&daemon.path("state/git/app.git"), DAEMON));
}

fn is_owned(path: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = path.symlink_metadata().unwrap().uid() == uid;
    own && fs::read_dir(path).into_iter().flatten().all(|entry| is_owned(&entry.unwrap().path(), uid))
}

#[test]
fn a_push_to_a_path_needs_nothing_but_the_printed_command() {
    let mut daemon = Daemon::new();
    daemon.launch();
    let created = daemon.json(&["repo", "create", "app"]);
    push(&daemon, "app", &[("file", "1")], "main");
    let path = daemon.path("state/git/app.git");
    assert_eq!(created["push"], format!("git push {} main", path.display()));
}
