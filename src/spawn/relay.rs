//! The first program of a command that is a transient unit: `deployd relay WHO LIMIT PROGRAM ARGV0 ARGUMENT…`.
//!
//! It leaves a copier behind, which reads what the command prints from a pipe and writes it, bounded, to its own
//! standard output: the file that systemd has opened. Then it becomes the command itself, so that its process, its
//! exit status and its box are those of the command. The copier is no child of the command, and in a session of its
//! own; it ends when nobody holds the pipe any more.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{dup2_stderr, dup2_stdout, pipe2, setsid};

use super::copier::Copier;
use super::sys::{self, Strings};

/// The exit status that says, as systemd's own does, that the command could not be executed.
pub const NOT_EXECUTED: i32 = 203;
/// How the last line of such a command begins.
const CANNOT_EXECUTE: &str = "deployd relay: cannot execute ";

/// Number of bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// How long the copier still waits for more once its unit was told to end; systemd kills it 5 s after that.
const PATIENCE: Duration = Duration::from_secs(3);

/// This program, as others can execute it. After an upgrade that is the new one: this interface stays.
///
/// # Errors
/// When it is not there any more.
pub fn binary() -> io::Result<PathBuf> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let text = path.to_string_lossy();
    let path = text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from);
    if path.exists() {
        return Ok(path);
    }
    let text = format!("deployd's own program is gone: {}. Install it again", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// Why a command was not executed, by the last line of its output.
pub fn why_not_executed(line: &str) -> Option<String> {
    line.strip_prefix(CANNOT_EXECUTE).map(str::to_string)
}

/// Becomes the command; returns only on an error.
pub fn serve(arguments: &[OsString]) -> ExitCode {
    let error = match begin(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Standard error is the pipe, if the copier is there.
    writeln!(io::stderr(), "{CANNOT_EXECUTE}{error}").ok();
    ExitCode::from(u8::try_from(NOT_EXECUTED).unwrap_or(1))
}

fn begin(arguments: &[OsString]) -> io::Result<std::convert::Infallible> {
    let [who, limit, program, argv @ ..] = arguments else {
        return Err(io::Error::other("expected WHO LIMIT PROGRAM ARGV0 [ARGUMENT...]"));
    };
    let limit = limit.to_str().and_then(|limit| limit.parse().ok());
    let limit = limit.ok_or_else(|| io::Error::other("LIMIT is not a number of bytes"))?;
    let text = |part: &OsString| CString::new(part.clone().into_vec()).map_err(io::Error::other);
    let argv = Strings::new(argv.iter().map(text).collect::<io::Result<_>>()?);
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        text(&name)
    };
    let environment = Strings::new(std::env::vars_os().map(variable).collect::<io::Result<_>>()?);
    let path = text(program)?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let who = who.to_string_lossy();
    let file = io::stdout().as_fd().try_clone_to_owned()?;
    dup2_stdout(&writer)?;
    dup2_stderr(&writer)?;
    drop(writer);
    sys::detach(move || drop(copy(&File::from(reader), File::from(file), &who, limit)))?;
    sys::default_signals(&sys::ignored())?;
    let error = match sys::execute(&path, &argv, &environment) {
        Errno::ENOENT => io::Error::other("there is no such program, or no interpreter for it"),
        error => error.into(),
    };
    Err(io::Error::new(error.kind(), format!("{}: {error}", program.display())))
}

/// Copies the pipe to the file until nobody holds its other end.
fn copy(pipe: &File, file: File, who: &str, limit: u64) -> io::Result<()> {
    // We must not hold it ourselves.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    setsid().ok();
    nix::sys::prctl::set_name(c"deployd-relay").ok();
    // The command's user may not get at the file through us.
    nix::sys::prctl::set_dumpable(false).ok();
    sys::ignore(&[Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE])?;
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&term), None)?;
    let signals = SignalFd::with_flags(&term, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut copier = Copier::new(file, who, limit);
    let mut told_at: Option<Instant> = None;
    let mut chunk = vec![0; CHUNK];
    loop {
        let left = told_at.map(|told| PATIENCE.saturating_sub(told.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            copier.finish();
        }
        let left = left.filter(|left| !left.is_zero());
        let (is_readable, is_told) = {
            let mut both = [
                PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match ppoll(&mut both, left.map(Into::into), None) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
            (is_ready(&both[0]), is_ready(&both[1]))
        };
        if is_told {
            while let Ok(Some(_)) = signals.read_signal() {}
            told_at.get_or_insert_with(Instant::now);
        }
        if is_readable {
            match io::Read::read(&mut &*pipe, &mut chunk) {
                Ok(0) => break,
                Ok(count) => copier.take(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    copier.finish();
    Ok(())
}
