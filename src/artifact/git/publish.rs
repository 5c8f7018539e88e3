//! Lets every user of this host push to the path of a built-in repository.
//!
//! git refuses a repository on the same host that belongs to another user ("dubious ownership"), and nobody but the
//! daemon may write there anyway. So the host's configuration of git sends such a path to the daemon's socket:
//!
//! ```text
//! [url "git://deployd/var/lib/deployd/git/"]
//!     insteadOf = /var/lib/deployd/git/
//!     insteadOf = file:///var/lib/deployd/git/
//! [core]
//!     gitProxy = /usr/bin/deployctl for deployd
//! ```
//!
//! Each git has such a file of its own: Debian's is /etc/gitconfig. It is changed by git itself, when the first
//! repository is created, and the package takes its lines out again when it is removed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where git and deployctl are looked for.
const DIRECTORIES: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Which of the lines of `core.gitProxy` is the daemon's.
const OURS: &str = " for deployd$";

/// Adds the lines to the configuration of each git of this host.
///
/// # Errors
/// What git said, for each one that did not do it.
pub fn publish(repositories: &Path) -> Result<(), String> {
    let deployctl = program("deployctl").ok_or("there is no deployctl in /usr/local/bin or /usr/bin")?;
    let (section, paths) = addresses(repositories);
    let key = format!("{section}.insteadOf");
    each_git(|git| {
        for path in &paths {
            set(git, &key, path, &format!("^{}$", escaped(path)))?;
        }
        set(git, "core.gitProxy", &format!("{} for deployd", deployctl.display()), OURS)
    })
}

/// Whether each git of this host has the lines.
pub fn is_published(repositories: &Path) -> bool {
    let (section, paths) = addresses(repositories);
    let mut is_complete = true;
    let look = |git: &Path| {
        let there = values(git, &format!("{section}.insteadOf"));
        let proxies = values(git, "core.gitProxy");
        let ours = |proxy: &String| {
            proxy.strip_suffix(&OURS[..OURS.len() - 1]).is_some_and(|it| Path::new(it).is_file())
        };
        is_complete &= paths.iter().all(|path| there.contains(path)) && proxies.iter().any(ours);
        Ok(())
    };
    each_git(look).is_ok() && is_complete
}

/// Takes the lines out again.
///
/// # Errors
/// What git said, for each one that did not do it.
pub fn withdraw(repositories: &Path) -> Result<(), String> {
    let (section, _) = addresses(repositories);
    each_git(|git| {
        if !values(git, &format!("{section}.insteadOf")).is_empty() {
            run(git, &["--remove-section", &section])?;
        }
        if values(git, "core.gitProxy").iter().any(|value| value.ends_with(&OURS[..OURS.len() - 1])) {
            run(git, &["--unset-all", "core.gitProxy", OURS])?;
        }
        Ok(())
    })
}

/// The section of the configuration, and the addresses that lead to the daemon.
fn addresses(repositories: &Path) -> (String, [String; 2]) {
    let path = format!("{}/", repositories.display());
    (format!("url.git://deployd{path}"), [path.clone(), format!("file://{path}")])
}

fn each_git(mut change: impl FnMut(&Path) -> Result<(), String>) -> Result<(), String> {
    let mut seen = Vec::new();
    let mut wrong = String::new();
    for git in DIRECTORIES.map(|directory| Path::new(directory).join("git")) {
        let Ok(real) = git.canonicalize() else { continue };
        if seen.contains(&real) {
            continue;
        }
        if let Err(why) = change(&git) {
            write!(wrong, "{}{}: {why}", if wrong.is_empty() { "" } else { "; " }, git.display()).ok();
        }
        seen.push(real);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Sets a value in the place of those that match, unless it is there.
fn set(git: &Path, key: &str, value: &str, matching: &str) -> Result<(), String> {
    if values(git, key).iter().any(|there| there == value) {
        return Ok(());
    }
    run(git, &["--replace-all", key, value, matching])
}

fn values(git: &Path, key: &str) -> Vec<String> {
    let output = command(git).args(["--get-all", key]).output();
    let output =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    output.lines().map(str::to_string).collect()
}

fn run(git: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = command(git).args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
}

fn command(git: &Path) -> Command {
    let mut command = Command::new(git);
    command.args(["config", "--system"]).env_clear().env("PATH", DIRECTORIES.join(":")).current_dir("/");
    command
}

/// As a pattern that matches nothing but this text.
fn escaped(text: &str) -> String {
    let special = |c: char| ".[]{}()\\*+?^$|".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn program(name: &str) -> Option<PathBuf> {
    let sibling = || Some(std::env::current_exe().ok()?.with_file_name(name));
    let here = DIRECTORIES[..2].iter().rev().map(|directory| Path::new(directory).join(name));
    here.chain(sibling()).find(|path| path.is_file())
}
