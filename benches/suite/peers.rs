//! What a user would pick instead, where it is installed: each driven as its manual says.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::daemon::timed;
use crate::series::Series;

/// A peer that takes longer does not come to its end.
const PATIENCE: Duration = Duration::from_mins(1);

fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|directory| Path::new(directory).join(program).is_file())
}

/// A daemon of a peer; ended when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .ok();
        self.0.wait().ok();
    }
}

fn start(command: &mut Command) -> Result<Started> {
    Ok(Started(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

fn wait_for(path: &Path) -> Result<()> {
    for _ in 0..2_000 {
        if path.exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("{} does not come", path.display())
}

fn shell(script: &str, directory: &Path) -> Result<f64> {
    timed(Command::new("bash").args(["-euc", script]).current_dir(directory))
}

/// W1.
pub fn restart(series: &mut Series<'_>, size: usize) {
    series.case("bash, which checks nothing", move || {
        let directory = tempfile::tempdir()?;
        let up = format!(
            "for i in $(seq {size}); do sleep infinity </dev/null >/dev/null 2>&1 & echo $! >>pids; done"
        );
        let up = shell(&up, directory.path())?;
        let down = shell("xargs kill <pids", directory.path())?;
        Ok(vec![("up", up), ("down", down)])
    });
    // More takes any of them many minutes.
    if size > 1_000 {
        return;
    }
    if is_installed("s6-svscan") {
        series.at_most(2, "s6, its supervisors running", move || s6(size));
    }
    if is_installed("supervisord") {
        series.at_most(2, "supervisord, startsecs=0", move || supervisord(size));
    }
    if is_installed("pueued") {
        series.at_most(2, "pueue", move || pueue(size));
    }
    if is_installed("ansible-playbook") && size <= 100 {
        series.at_most(1, "ansible raw", move || ansible(size, "setsid sleep 120 >/dev/null 2>&1 & exit 0"));
    }
}

/// W2.
pub fn no_op(series: &mut Series<'_>, size: usize) {
    series.case("bash, which records nothing", move || {
        let directory = tempfile::tempdir()?;
        let script =
            format!("for b in 1 2 3 4 5; do for i in $(seq {}); do /bin/true & done; wait; done", size / 5);
        Ok(vec![("all", shell(&script, directory.path())?)])
    });
    if is_installed("ansible-playbook") && size <= 100 {
        series.at_most(1, "ansible raw", move || {
            let up = ansible(size, "true")?;
            Ok(vec![("all", up[0].1)])
        });
    }
}

/// A supervisor for each service is there before the time is taken.
fn s6(size: usize) -> Result<Vec<(&'static str, f64)>> {
    let directory = tempfile::tempdir()?;
    let names: Vec<_> = (0..size).map(|id| format!("w{}-s{id}", id * 5 / size)).collect();
    for name in &names {
        let service = directory.path().join(name);
        fs::create_dir(&service)?;
        fs::write(service.join("down"), "")?;
        let run = service.join("run");
        fs::write(&run, "#!/bin/sh\nexec sleep infinity\n")?;
        fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let limit = (2 * size + 10).to_string();
    let _daemon = start(Command::new("s6-svscan").args(["-c", &limit]).arg(directory.path()))?;
    for name in &names {
        wait_for(&directory.path().join(name).join("supervise/status"))?;
    }
    let up =
        "for w in 0 1 2 3 4; do for d in w$w-*; do s6-svc -u $d; done; s6-svwait -u -t 60000 w$w-*; done";
    let up = shell(up, directory.path())?;
    let down = "for d in w?-*; do s6-svc -d $d; done; s6-svwait -D -t 60000 w?-*";
    let down = shell(down, directory.path())?;
    Ok(vec![("up", up), ("down", down)])
}

fn supervisord(size: usize) -> Result<Vec<(&'static str, f64)>> {
    let directory = tempfile::tempdir()?;
    let at = directory.path().display();
    let mut text = format!(
        "[supervisord]\nnodaemon=true\nlogfile={at}/log\npidfile={at}/pid\nminfds=8192\nloglevel=error\n\
         [unix_http_server]\nfile={at}/sock\n[supervisorctl]\nserverurl=unix://{at}/sock\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    );
    for id in 0..size {
        text += &format!(
            "[program:s{id}]\ncommand=/usr/bin/sleep infinity\nautostart=false\nautorestart=false\n\
             startsecs=0\nstdout_logfile=NONE\nredirect_stderr=true\n"
        );
    }
    for group in 0..5 {
        let members: Vec<_> = (group * size / 5..(group + 1) * size / 5).map(|id| format!("s{id}")).collect();
        text += &format!("[group:g{group}]\nprograms={}\n", members.join(","));
    }
    let file = directory.path().join("conf");
    fs::write(&file, text)?;
    let _daemon = start(Command::new("supervisord").arg("-c").arg(&file))?;
    wait_for(&directory.path().join("sock"))?;
    let ctl = |arguments: &[&str]| timed(Command::new("supervisorctl").arg("-c").arg(&file).args(arguments));
    let up = ctl(&["start", "g0:*", "g1:*", "g2:*", "g3:*", "g4:*"])?;
    Ok(vec![("up", up), ("down", ctl(&["stop", "all"])?)])
}

fn pueue(size: usize) -> Result<Vec<(&'static str, f64)>> {
    let directory = tempfile::tempdir()?;
    let at = directory.path().display();
    let file = directory.path().join("pueue.yml");
    fs::write(
        &file,
        format!(
            "shared:\n  pueue_directory: {at}\n  runtime_directory: {at}\n  use_unix_socket: true\n  \
             unix_socket_path: {at}/sock\n  pid_path: {at}/pid\nclient: {{}}\ndaemon: {{}}\n"
        ),
    )?;
    let _daemon = start(Command::new("pueued").arg("-c").arg(&file))?;
    wait_for(&directory.path().join("sock"))?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new("pueue");
        command.arg("-c").arg(&file).args(arguments);
        command
    };
    let groups = ["g0", "g1", "g2", "g3", "g4"];
    for group in groups {
        timed(&mut command(&["group", "add", "-p", "0", group]))?;
        timed(&mut command(&["pause", "-g", group]))?;
        for _ in 0..size / 5 {
            timed(&mut command(&["add", "-g", group, "--", "exec sleep infinity"]))?;
        }
    }
    // As version 4 says it; a group's own state is a word alone.
    let until = |group: &str, state: &str| -> Result<()> {
        let asked = std::time::Instant::now();
        while asked.elapsed() < PATIENCE {
            let output = command(&["status", "--json", "-g", group]).output().context("cannot run pueue")?;
            let text = String::from_utf8_lossy(&output.stdout);
            if text.matches(state).count() >= size / 5 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("pueue does not come to {state}")
    };
    let begun = std::time::Instant::now();
    for group in groups {
        timed(&mut command(&["start", "-g", group]))?;
        until(group, "{\"Running\"")?;
    }
    let up = begun.elapsed().as_secs_f64();
    let begun = std::time::Instant::now();
    timed(&mut command(&["kill", "--all"]))?;
    for group in groups {
        until(group, "{\"Done\"")?;
    }
    Ok(vec![("up", up), ("down", begun.elapsed().as_secs_f64())])
}

fn ansible(size: usize, command: &str) -> Result<Vec<(&'static str, f64)>> {
    let directory = tempfile::tempdir()?;
    let mut text = String::from("- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n");
    for batch in 0..5 {
        text += &format!(
            "  - name: batch {batch}\n    raw: \"{command}\"\n    loop: \"{{{{ range({}) | list }}}}\"\n",
            size / 5
        );
    }
    let file = directory.path().join("play.yml");
    fs::write(&file, text)?;
    let up = timed(Command::new("ansible-playbook").args(["-i", "localhost,"]).arg(&file))?;
    Ok(vec![("up", up)])
}
