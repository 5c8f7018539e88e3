//! The live view, by the real program on a real terminal.

use std::process::Command;
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, deployctl, items};
use crate::pty::Pty;
use crate::server::Server;

fn ctl(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = Command::new(deployctl());
    command.env("DEPLOYD_SOCKET", daemon.socket()).args(arguments);
    command
}

fn watch(daemon: &Daemon, id: u64) -> Pty {
    Pty::run(&ctl(daemon, &["watch", &id.to_string()]), 24, 80)
}

fn two() -> String {
    items(&[(1, 5, "START", ""), (2, 1, "START", "")])
}

#[test]
fn a_release_is_watched_to_its_end_and_the_last_picture_stays() {
    let daemon = Daemon::gated(2);
    let file = daemon.write("shop.yaml", &two());
    let mut terminal = Pty::run(&ctl(&daemon, &["execute", "-f", file.to_str().unwrap(), "--watch"]), 24, 80);
    terminal.until("the first batch", |screen| {
        screen.contains("batch 5: 0 of 1 done, 1 running") && screen.contains("batch 1: 1 service to come")
    });
    daemon.release("c1");
    terminal.until("the second batch", |screen| {
        screen.contains("batch 5: 1 of 1 done in") && screen.contains("batch 1: 0 of 1 done, 1 running")
    });
    daemon.release("c2");
    assert_eq!(terminal.wait().code(), Some(0));
    let screen = terminal.shown();
    for text in [
        "1\nTask 1 · shop@1 · SUCCEEDED",
        "2 of 2 services, 2 of 2 containers",
        "c2   SUCCEEDED",
        "task 1 is SUCCEEDED: 2/2 services in",
    ] {
        assert!(screen.contains(text), "{text}:\n{screen}");
    }
    assert_eq!(screen.matches("Task 1").count(), 1, "{screen}");
    assert!(!screen.contains("Ctrl-C"), "{screen}");
}

#[test]
fn a_daemon_that_is_killed_is_asked_again_and_the_view_goes_on() {
    let mut daemon = Daemon::gated(2);
    let id = daemon.execute("shop", &two());
    let mut terminal = watch(&daemon, id);
    terminal.until("the first batch", |screen| screen.contains("batch 5: 0 of 1 done, 1 running"));
    daemon.kill_9();
    terminal.until_shown("the daemon is not reachable, asking again");
    terminal.resize(12, 60);
    terminal.until("a picture on the smaller terminal", |screen| screen.contains("asking again"));
    daemon.launch();
    assert_eq!(terminal.wait().code(), Some(13));
    let screen = terminal.shown();
    assert!(screen.contains("INTERRUPTED (daemonDied)"), "{screen}");
    assert!(screen.contains("task 1 is INTERRUPTED: 0/2 services in"), "{screen}");
    assert!(!screen.contains("not reachable"), "{screen}");

    // What goes on is followed to its end, by who resumes and by who only watches.
    daemon.release("c1");
    let mut resumed = Pty::run(&ctl(&daemon, &["resume", &id.to_string(), "--watch"]), 24, 80);
    resumed.until("the second batch", |screen| screen.contains("batch 1: 0 of 1 done, 1 running"));
    let mut other = watch(&daemon, id);
    other.until("the second batch", |screen| screen.contains("batch 1: 0 of 1 done, 1 running"));
    daemon.release("c2");
    for terminal in [&mut resumed, &mut other] {
        assert_eq!(terminal.wait().code(), Some(0));
        assert!(terminal.shown().contains("task 1 is SUCCEEDED: 2/2 services"), "{}", terminal.shown());
    }
}

#[test]
fn ctrl_c_leaves_the_task_alone_and_says_so() {
    let daemon = Daemon::gated(2);
    let id = daemon.execute("shop", &two());
    let mut terminal = watch(&daemon, id);
    terminal.until_shown("Ctrl-C leaves the task alone; `deployctl stop 1` stops it");
    terminal.type_in("\u{3}");
    assert_eq!(terminal.wait().code(), Some(130));
    let told = "task 1 goes on; `deployctl watch 1` follows it again, `deployctl stop 1` stops it";
    assert!(terminal.shown().replace('\n', "").contains(&told.replace('\n', "")), "{}", terminal.shown());
    assert_eq!(daemon.task(id)["state"], "RUNNING");
}

#[test]
fn whatever_ends_the_view_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::gated(2);
    let id = daemon.execute("shop", &two());
    for (signal, code) in [(Signal::SIGTERM, Some(143)), (Signal::SIGHUP, Some(129)), (Signal::SIGKILL, None)]
    {
        let mut terminal = watch(&daemon, id);
        terminal.until_shown("batch 5: 0 of 1 done, 1 running");
        kill(Pid::from_raw(terminal.child.id().try_into().unwrap()), signal).unwrap();
        // Its modes, its cursor and its screen are looked at there.
        assert_eq!(terminal.wait().code(), code, "{signal}");
    }
    assert_eq!(daemon.task(id)["state"], "RUNNING");
}

#[test]
fn other_sizes_are_filled_and_never_overfilled() {
    let daemon = Daemon::gated(2);
    let id = daemon.execute("shop", &two());
    let mut terminal = watch(&daemon, id);
    terminal.until_shown("batch 5: 0 of 1 done, 1 running");
    for (lines, columns) in [(50, 200), (10, 40), (5, 20), (24, 80)] {
        terminal.resize(lines, columns);
        let wide = columns >= 60;
        let fits = |screen: &str| screen.contains("Task 1") && screen.contains("by root") == wide;
        terminal.until((lines, columns), |screen| fits(screen) || !wide && screen.contains("Task 1"));
    }
    terminal.until_shown("`deployctl stop 1` stops it");
}

#[test]
fn how_far_a_download_is_is_shown_while_it_goes_on() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let archive = archive();
    let (head, half, rest) = {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", archive.len());
        let middle = archive.len() / 2;
        (head.into_bytes(), archive[..middle].to_vec(), archive[middle..].to_vec())
    };
    let server = Server::pausing([head, half].concat(), rest, move || wait.lock().unwrap().recv().unwrap());
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    let uri = format!(", httpSrcUri: '{}'", server.url("/web.tar"));
    let id = daemon.execute("web", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &uri)]));
    let mut terminal = watch(&daemon, id);
    terminal.until_shown("download 5.1 kB of 10.2 kB (50 %)");
    let waiting = &daemon.task(id)["waitingFor"][0];
    assert_eq!(waiting["preparation"]["stage"], "download");
    assert_eq!(
        (&waiting["preparation"]["bytes"], &waiting["preparation"]["total"]),
        (&5120.into(), &10240.into())
    );
    go_on.send(()).unwrap();
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.shown());
    assert!(daemon.task(id)["waitingFor"].as_array().unwrap().is_empty());
}

/// A tar of 10,240 bytes.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let text = [b'x'; 8192];
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", &text[..]).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.resize(10_240, 0);
    bytes
}

#[test]
fn not_on_a_terminal_there_is_a_line_for_each_event() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    let id = daemon.executed("shop", &items(&[(1, 5, "START", "")]), "SUCCEEDED");
    let printed = daemon.ctl_ends(0, &["watch", &id.to_string()]);
    assert!(!printed.contains('\u{1b}'), "{printed}");
    assert!(printed.lines().count() >= 4 && printed.contains("s1/c1: SUCCEEDED"), "{printed}");
    // A terminal that can't move its cursor gets lines as well.
    let mut dumb = Pty::run_as(&ctl(&daemon, &["watch", &id.to_string()]), 24, 80, "dumb");
    assert_eq!(dumb.wait().code(), Some(0));
    assert!(dumb.shown().contains("s1/c1: SUCCEEDED"), "{}", dumb.shown());
    assert!(!String::from_utf8_lossy(&dumb.written).contains("\u{1b}[?"), "{}", dumb.shown());
}
