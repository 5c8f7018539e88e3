//! A terminal with a program on it: what it shows is read as a person would see it.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, poll};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::harness::PATIENCE;

/// A program on a terminal of its own; it is killed with it.
pub struct Pty {
    pub child: Child,
    master: File,
    /// Held open, so that the terminal outlives the program, as it does under a shell.
    slave: File,
    screen: vt100::Parser,
    /// All that the program has written.
    pub written: Vec<u8>,
    before: String,
}

/// A sequence that terminals pass over.
const END: &[u8] = b"\x1b]777;end\x07";

fn size(lines: u16, columns: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Pty {
    /// Runs a command on a terminal of this size, in a session of its own.
    pub fn run(command: &Command, lines: u16, columns: u16) -> Self {
        Self::run_as(command, lines, columns, "xterm-256color")
    }

    /// As [`Self::run`], on a terminal of this kind.
    pub fn run_as(command: &Command, lines: u16, columns: u16, kind: &str) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&slave, size(lines, columns)).unwrap();
        let before = modes(&slave);
        // As a shell does: a session whose terminal this is, so that Ctrl-C is a signal.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        on_terminal.env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            on_terminal.env(name, value.unwrap());
        }
        on_terminal.env("TERM", kind);
        on_terminal.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap());
        let child = on_terminal.stderr(slave.try_clone().unwrap()).spawn().unwrap();
        let screen = vt100::Parser::new(lines.try_into().unwrap(), columns.try_into().unwrap(), 1000);
        Self { child, master: master.into(), slave, screen, written: Vec::new(), before }
    }

    /// What can be seen.
    pub fn shown(&self) -> String {
        self.screen.screen().contents()
    }

    /// Reads until the screen is as wanted.
    pub fn until(&mut self, what: impl Debug, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.shown()) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            assert!(self.read(u16::try_from(left.as_millis()).unwrap()), "no {what:?}:\n{}", self.shown());
        }
    }

    /// Reads until this can be seen.
    pub fn until_shown(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Reads what has come, or waits for it; false when nothing comes.
    fn read(&mut self, millis: u16) -> bool {
        if poll(&mut [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)], millis).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 16384];
        let count = self.master.read(&mut buffer).unwrap_or(0);
        self.written.extend(&buffer[..count]);
        self.screen.process(&buffer[..count]);
        count > 0
    }

    /// Types something.
    pub fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&mut self, lines: u16, columns: u16) {
        self.screen.screen_mut().set_size(lines.try_into().unwrap(), columns.try_into().unwrap());
        tcsetwinsize(&self.master, size(lines, columns)).unwrap();
    }

    /// Waits for the program's end, and for all that it has written. The terminal has to be as it was before.
    pub fn wait(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        let end = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let begun = Instant::now();
        loop {
            // It must not wait for us to read.
            while self.read(0) {}
            let mut either = [
                PollFd::new(end.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.master.as_fd(), PollFlags::POLLIN),
            ];
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let ready = poll(&mut either, u16::try_from(left.as_millis()).unwrap()).unwrap();
            assert!(ready > 0, "it does not end:\n{}", self.shown());
            let ended = either[0].revents().is_some_and(|events| !events.is_empty());
            if ended {
                break;
            }
        }
        let status = self.child.wait().unwrap();
        // What the program has written comes before what is written now, but not necessarily at once.
        self.slave.write_all(END).unwrap();
        while !self.written.ends_with(END) {
            assert!(self.read(u16::try_from(PATIENCE.as_millis()).unwrap()), "{}", self.shown());
        }
        assert_eq!(modes(&self.slave), self.before, "the modes of the terminal");
        assert!(!self.screen.screen().hide_cursor(), "the cursor is hidden");
        assert!(!self.screen.screen().alternate_screen(), "the other screen was left on");
        status
    }
}

/// The modes of a terminal.
fn modes(terminal: &File) -> String {
    let it = tcgetattr(terminal).unwrap();
    format!("{:?}", (it.input_modes, it.output_modes, it.control_modes, it.local_modes, it.special_codes))
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
