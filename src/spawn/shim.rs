//! The parent of a command that is a plain process and outlives the daemon: `deployd shim NAME`.
//!
//! A spawner starts it in the directory of the notes ([`super::notes`]). It starts the command, copies its output,
//! keeps its time limit, notes how it ended, and ends whatever it has left: it is the subreaper of all of it
//! (`spawn::offspring`). SIGTERM to the shim ends the command; then no end is noted.
//!
//! What it is to do it finds in the file that is its standard output, so that no secret stands in its arguments, and
//! no operation in its environment: nobody who ends what the command has left ends the shim.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, getpid, getppid, pipe2};

use super::child::{Failed, Image, Streams};
use super::copier::Copier;
use super::notes::{End, ended, refused};
use super::server::{Request, read_body};
use super::{ExitStatus, offspring, proc, sys, tree};

/// Number of bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// In bytes; what a child does until its `exec` needs a tenth of it.
const STACK: usize = 128 << 10;
/// Between SIGTERM and SIGKILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often what SIGKILL has not ended yet is killed again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long SIGKILL may take: what is stuck in the kernel is told and left.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// What a shim is to do: four bytes of length, then this.
#[derive(Debug, bincode::Encode, bincode::Decode)]
pub(super) struct Order {
    /// The command.
    pub request: Request,
    /// By what its end is known.
    pub operation: String,
    /// Its time limit in milliseconds.
    pub timeout: u64,
    /// What the lines of its output begin with.
    pub who: String,
    /// Maximum number of bytes of its output.
    pub output: u64,
}

/// Runs the command to its end.
pub fn serve(name: &str) -> ExitCode {
    match Shim::begin(name).and_then(|shim| shim.map_or(Ok(()), Shim::run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody to tell; the daemon sees that no end was noted.
            tracing::error!(%error, "the shim failed");
            ExitCode::FAILURE
        }
    }
}

/// What the command is about.
enum Phase {
    /// It runs.
    Running,
    /// It is over, or was told to end; what is left of it has this long.
    Ending { since: Instant, kill: Instant },
}

struct Shim {
    name: String,
    order: Order,
    /// Who has started us: not there any more if the daemon is gone.
    parent: Pid,
    main: Pid,
    /// How the command itself has ended.
    status: Option<ExitStatus>,
    /// Whether its end was, or must not be, noted.
    is_noted: bool,
    pipe: Option<File>,
    copier: Copier<File>,
    signals: SignalFd,
    deadline: Option<Instant>,
    phase: Phase,
}

impl Shim {
    /// Starts the command; `None`: it could not be executed, which is noted.
    fn begin(name: &str) -> io::Result<Option<Self>> {
        let parent = getppid();
        let (order, null) = take_order()?;
        let order: Order = order;
        nix::sys::prctl::set_name(c"deployd-shim").ok();
        nix::sys::prctl::set_child_subreaper(true)?;
        sys::expect_children()?;
        sys::ignore(&[Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE])?;
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGCHLD);
        wanted.add(Signal::SIGTERM);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&wanted), None)?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut options = File::options();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC);
        let output = options.open(format!("{name}.out"))?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let started = start(&order.request, &null, &writer);
        drop(writer);
        let timeout = Duration::from_millis(order.timeout);
        let mut shim = Self {
            name: name.into(),
            parent,
            main: *started.as_ref().unwrap_or(&getpid()),
            status: None,
            is_noted: false,
            pipe: Some(reader.into()),
            copier: Copier::new(output, &order.who, order.output),
            signals,
            deadline: Instant::now().checked_add(timeout),
            phase: Phase::Running,
            order,
        };
        match started {
            Ok(_) => Ok(Some(shim)),
            Err((step, error)) => {
                let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
                shim.note(&refused(&shim.order.operation, &step, errno))?;
                shim.remove_marks();
                Ok(None)
            }
        }
    }

    fn run(mut self) -> io::Result<()> {
        while self.reap()? {
            self.hurry()?;
            self.wait()?;
        }
        // Nothing of it runs: nobody of it holds the pipe any more, but others may.
        while self.copy()? {}
        self.copier.finish();
        self.remove_marks();
        Ok(())
    }

    /// Waits for output, signals, or the next deadline.
    fn wait(&mut self) -> io::Result<()> {
        let next = match self.phase {
            Phase::Running => self.deadline,
            Phase::Ending { kill, .. } => Some(kill),
        };
        let time = next.map(|next| next.saturating_duration_since(Instant::now()).into());
        let is_readable = {
            let mut both = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            both.extend(self.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            match ppoll(&mut both, time, None) {
                Err(Errno::EINTR) => return Ok(()),
                result => result?,
            };
            both.get(1).is_some_and(|polled| polled.any().unwrap_or(false))
        };
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == Signal::SIGTERM as u32 && matches!(self.phase, Phase::Running) {
                // Whoever says so does not want to know how it ends.
                self.is_noted = true;
                self.end()?;
            }
        }
        if is_readable {
            self.copy()?;
        }
        Ok(())
    }

    /// Takes the next chunk of output; whether there may be more.
    fn copy(&mut self) -> io::Result<bool> {
        let Some(pipe) = &mut self.pipe else { return Ok(false) };
        let mut chunk = vec![0; CHUNK];
        match pipe.read(&mut chunk) {
            Ok(0) => {
                self.pipe = None;
                Ok(false)
            }
            Ok(count) => {
                self.copier.take(&chunk[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes in who has ended; whether anybody is left.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            let (pid, status) = match proc::reap() {
                Ok(Some(ended)) => ended,
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(nix::libc::ECHILD) => return Ok(false),
                Err(error) => return Err(error),
            };
            if pid == self.main.as_raw() && self.status.is_none() {
                self.ended(status)?;
            }
        }
        if self.status.is_some() && matches!(self.phase, Phase::Running) {
            self.end()?;
        }
        Ok(true)
    }

    /// The command itself has ended: that is noted before anything else is done.
    fn ended(&mut self, status: ExitStatus) -> io::Result<()> {
        self.status = Some(status);
        if self.is_noted {
            return Ok(());
        }
        let result = match (&self.phase, status) {
            (Phase::Ending { .. }, _) => End::TIMEOUT,
            (Phase::Running, ExitStatus::Code(0)) => "success",
            (Phase::Running, ExitStatus::Code(_)) => "exit-code",
            (Phase::Running, ExitStatus::Signal(_)) => "signal",
        };
        self.note(&ended(&self.order.operation, result, status))
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        self.is_noted = true;
        symlink(text, format!("{}.end", self.name))?;
        // A daemon that is there records the end itself.
        if getppid() != self.parent {
            File::open(".")?.sync_all()?;
        }
        Ok(())
    }

    /// Tells all of it to end.
    fn end(&mut self) -> io::Result<()> {
        let since = Instant::now();
        self.phase = Phase::Ending { since, kill: since + PATIENCE };
        if self.status.is_none() {
            killpg(self.main, Signal::SIGTERM).ok();
        }
        offspring::signal(getpid().as_raw(), Signal::SIGTERM)
    }

    /// Ends what has taken too long.
    fn hurry(&mut self) -> io::Result<()> {
        let now = Instant::now();
        match self.phase {
            Phase::Running if self.deadline.is_some_and(|deadline| deadline <= now) => self.end(),
            Phase::Ending { since, .. } if now > since + PATIENCE + LIMIT => {
                self.copier.take(b"(processes are left that SIGKILL does not end)\n");
                self.copier.finish();
                Err(io::Error::other("processes are left that SIGKILL does not end"))
            }
            Phase::Ending { since, kill } if kill <= now => {
                self.phase = Phase::Ending { since, kill: now + AGAIN };
                offspring::kill_all(getpid().as_raw())
            }
            _ => Ok(()),
        }
    }

    /// Says that nothing of it runs any more.
    fn remove_marks(&self) {
        for file in ["main", "run"] {
            std::fs::remove_file(format!("{}.{file}", self.name)).ok();
        }
    }
}

/// Reads what is to be done out of standard output, in the place of which nothing is left.
fn take_order() -> io::Result<(Order, File)> {
    let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let mut length = [0; 4];
    file.read_exact_at(&mut length, 0)?;
    let mut rest = file;
    io::Seek::seek(&mut rest, io::SeekFrom::Start(4))?;
    Ok((read_body(&mut rest, length)?, null))
}

/// Returns when the `exec` of the command has succeeded.
fn start(request: &Request, null: &File, output: &OwnedFd) -> Result<Pid, Failed> {
    let boot_id = tree::boot_id().map_err(|error| ("read /proc".to_string(), error))?;
    let mut image = Image::of(request, &boot_id)?;
    let streams = Streams { input: null, output };
    let (ignored, mut stack) = (sys::ignored(), vec![0; STACK]);
    let mut failed = None;
    let becomes = || failed = Some(image.execute(&streams, &ignored));
    let child = sys::spawn_borrowing(&mut stack, becomes);
    let child = child.map_err(|error| ("start a process".to_string(), error.into()))?;
    match failed {
        None => Ok(child),
        Some((step, errno)) => {
            waitpid(child, None).ok();
            Err((step.to_string(), errno.into()))
        }
    }
}
