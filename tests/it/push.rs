//! Commits that the tests push to built-in repositories.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::Daemon;

/// Commits these files onto a branch of a built-in repository, as the daemon's own user; the commit.
pub fn push(daemon: &Daemon, repository: &str, files: &[(&str, &str)], branch: &str) -> String {
    let source = daemon.path(&format!("source-{repository}"));
    let owner = daemon.path("").metadata().unwrap();
    // git takes nothing from a repository of another user.
    let is_anothers = owner.uid() != nix::unistd::geteuid().as_raw();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(arguments).current_dir(&source);
        // Not the configuration of whoever runs the tests.
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        if is_anothers {
            git.uid(owner.uid()).gid(owner.gid());
        }
        let ran = git.output().unwrap();
        assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_string()
    };
    if !source.exists() {
        std::fs::create_dir(&source).unwrap();
        if is_anothers {
            chown(&source, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        git(&["init", "-q", "-b", branch]);
    }
    for (name, text) in files {
        daemon.write(&format!("source-{repository}/{name}"), text);
    }
    git(&["add", "."]);
    git(&["commit", "-q", "--allow-empty", "-m", "a commit"]);
    let path = daemon.path(&format!("state/git/{repository}.git"));
    git(&["push", "-q", path.to_str().unwrap(), &format!("HEAD:{branch}")]);
    git(&["rev-parse", "HEAD"])
}
