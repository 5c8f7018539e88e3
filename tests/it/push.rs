//! Commits that the tests push to built-in repositories.

use std::process::Command;

use crate::harness::Daemon;

/// Commits these files onto a branch of a built-in repository, as a user would; the commit.
pub fn push(daemon: &Daemon, repository: &str, files: &[(&str, &str)], branch: &str) -> String {
    let source = daemon.path(&format!("source-{repository}"));
    // The only way to say so that reaches the git at the other end, too.
    let config = daemon.write("gitconfig", "[safe]\n\tdirectory = *\n");
    let git = |arguments: &[&str]| {
        let ran = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(arguments)
            .current_dir(&source)
            .env("GIT_CONFIG_GLOBAL", &config)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_string()
    };
    if !source.exists() {
        std::fs::create_dir(&source).unwrap();
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
