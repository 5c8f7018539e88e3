//! Completions, as a shell asks for them: by its own script, on the real program.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::harness::{Daemon, PATIENCE, deployctl, items, skip};

/// A daemon with a plan, a paused task, services and a repository.
fn house() -> Daemon {
    let daemon = Daemon::gated(2);
    let text = std::fs::read_to_string(daemon.path("services.d/s1.yaml")).unwrap();
    daemon.write("services.d/s1.yaml", &format!("{text}description: 'The first; $(touch evil)'\n"));
    daemon.ctl_ends(0, &["service", "reload"]);
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    let id = daemon.execute("shop", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.ctl_ends(0, &["pause", &id.to_string()]);
    daemon.release("c1");
    daemon.until_state(id, "PAUSED");
    daemon
}

fn shell(name: &str, script: &str, socket: &Path) -> Output {
    let path = format!("{}:/usr/bin:/bin", deployctl().parent().unwrap().display());
    let mut command = Command::new(name);
    command.env("PATH", path).env("DEPLOYD_SOCKET", socket).env("HOME", "/nonexistent");
    command.current_dir(socket.parent().unwrap()).args(["-c", script]).output().unwrap()
}

/// What bash offers for a line, its last word as far as it is typed.
fn bash(line: &[&str], socket: &Path) -> Vec<String> {
    let words: Vec<_> = line.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source <(deployctl completions bash); COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         _clap_complete_deployctl deployctl '{}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        line.len() - 1,
        line.last().unwrap(),
    );
    let ran = shell("bash", &script, socket);
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_string).filter(|it| !it.is_empty()).collect()
}

#[test]
fn bash_completes_from_the_running_daemon() {
    let daemon = house();
    let socket = daemon.socket();
    let cases: [(&[&str], &[&str]); 12] = [
        (&["deployctl", "wat"], &["watch"]),
        (&["deployctl", "watch", ""], &["1"]),
        (&["deployctl", "resume", ""], &["1"]),
        (&["deployctl", "pause", ""], &[]),
        (&["deployctl", "execute", "sh"], &["shop"]),
        (&["deployctl", "plan", "show", ""], &["shop"]),
        (&["deployctl", "service", "show", ""], &["s1", "s2"]),
        (&["deployctl", "history", "--service", "s2"], &["s2"]),
        (&["deployctl", "repo", "delete", ""], &["app"]),
        (&["deployctl", "list", "--state", "pau"], &["PAUSING", "PAUSED"]),
        (&["deployctl", "service", "show", "x"], &[]),
        (&["deployctl", "report", "1", "-o", "ht"], &["html"]),
    ];
    for (line, expected) in cases {
        let offered = bash(line, &socket);
        let values: Vec<_> = offered.iter().map(String::as_str).filter(|it| !it.starts_with('-')).collect();
        assert_eq!(values, expected, "{line:?}");
    }
    assert!(!daemon.path("evil").exists());
}

#[test]
fn fish_and_zsh_say_what_a_candidate_is() {
    let daemon = house();
    let socket = daemon.socket();
    let fish = "deployctl completions fish | source; complete -C 'deployctl resume '";
    let zsh = "autoload -U compinit; compinit -u -D; _describe() { print -l -- ${(P)argv[-1]} }; \
               source <(deployctl completions zsh); words=(deployctl resume ''); CURRENT=3; \
               _clap_dynamic_completer_deployctl";
    for (name, script) in [("fish", fish), ("zsh", zsh)] {
        if Command::new(name).arg("--version").output().is_err() {
            skip(&format!("there is no {name} here"));
            continue;
        }
        let ran = shell(name, script, &socket);
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        let said = format!("shop@1 PAUSED by {user}");
        assert!(out.lines().any(|line| line.starts_with('1') && line.ends_with(&said)), "{name}: {out}{err}");
    }
}

#[test]
fn without_a_daemon_nothing_is_offered_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("none.sock");
    assert!(bash(&["deployctl", "execute", "s"], &nothing).is_empty());
    // One that accepts and says nothing.
    let silent = directory.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let begun = Instant::now();
    assert!(bash(&["deployctl", "execute", "s"], &silent).is_empty());
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
}
