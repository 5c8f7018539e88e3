//! The spawner process: one thread, small, forks and execs what the daemon asks for.
//!
//! It ends when the daemon's end of its socket is closed, after the requests that it had already
//! been sent. Its children live on.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, User, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::{ExitStatus, Marker, proc, sys, tree};

/// A request, as it goes over the socket: four bytes of length with the output descriptor beside
/// them, then this.
#[derive(Debug, bincode::Encode, bincode::Decode)]
pub(super) struct Request {
    pub id: u64,
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub directory: String,
    pub user: Option<String>,
    pub open_files: Option<u64>,
    pub marker: Option<Marker>,
}

/// An answer: four bytes of length, then this.
#[derive(Debug, bincode::Encode, bincode::Decode)]
pub(super) enum Answer {
    Started { id: u64, pid: i32, start_ticks: u64 },
    Failed { id: u64, step: String, errno: i32 },
    Exited { pid: i32, status: ExitStatus },
}

/// A message longer than this is nonsense.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// The step of a [`Answer::Failed`] that means the program itself.
pub(super) const EXEC: &str = "exec";

/// Serves the daemon on standard input until it hangs up. `lock` is the file whose lock says that
/// a spawner lives.
pub fn serve(lock: &Path) -> ExitCode {
    match Server::new(lock).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the spawner failed");
            ExitCode::FAILURE
        }
    }
}

struct Server {
    socket: UnixStream,
    signals: SignalFd,
    null: File,
    boot_id: String,
    /// Held by this process, and by each forked child until its `exec`.
    _lock: File,
}

impl Server {
    fn new(lock: &Path) -> io::Result<Self> {
        sys::keep_descriptors()?;
        sys::expect_children()?;
        // A Ctrl-C on the daemon's terminal must not reach us, or containers could be lost between fork and exec.
        setsid().ok();
        nix::sys::prctl::set_name(c"deployd-spawner").ok();
        sys::ignore(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE])?;
        let mut chld = SigSet::empty();
        chld.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&chld), None)?;
        let signals = SignalFd::with_flags(&chld, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let null = File::open("/dev/null")?;
        // The socket is ours alone: no child may inherit it as its standard input.
        dup2_stdin(&null)?;
        Ok(Self { socket, signals, null, boot_id: tree::boot_id()?, _lock: hold(lock)? })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let (readable, children) = {
                let mut polled = [
                    PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut polled, PollTimeout::NONE) {
                    Err(Errno::EINTR) => continue,
                    result => result?,
                };
                (polled[0].any().unwrap_or(false), polled[1].any().unwrap_or(false))
            };
            if children {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap()?;
            }
            if readable && !self.serve_one()? {
                return Ok(());
            }
        }
    }

    fn serve_one(&mut self) -> io::Result<bool> {
        let Some((request, output)) = receive(&mut self.socket)? else { return Ok(false) };
        let id = request.id;
        let answer = match self.start(&request, &output) {
            Ok((pid, start_ticks)) => Answer::Started { id, pid, start_ticks },
            Err((step, error)) => {
                Answer::Failed { id, step, errno: error.raw_os_error().unwrap_or(nix::libc::EIO) }
            }
        };
        self.answer(&answer)?;
        Ok(true)
    }

    fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        // The daemon may be gone: its requests are still carried out, as it had asked.
        match send(&mut self.socket, answer) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            self.answer(&Answer::Exited { pid: pid.as_raw(), status })?;
        }
    }

    /// Forks; the child prepares itself and executes. Returns when the `exec` has succeeded.
    fn start(&self, request: &Request, output: &OwnedFd) -> Result<(i32, u64), (String, io::Error)> {
        let image = Image::of(request)?;
        let (mut reader, writer) = io::pipe().map_err(|error| ("open a pipe".to_string(), error))?;
        match sys::fork_single_threaded().map_err(|error| ("fork".to_string(), error))? {
            ForkResult::Child => {
                drop(reader);
                let (step, error) = self.become_program(request, &image, output);
                let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
                let report = format!("{errno} {step}");
                // The writer is close-on-exec: the parent reads nothing when the exec succeeds.
                let mut writer = writer;
                writer.write_all(report.as_bytes()).ok();
                sys::exit_child(127)
            }
            ForkResult::Parent { child } => {
                drop(writer);
                // The child exists at least as a zombie until it is reaped below, so its stat can be read.
                let ticks = proc::Stat::read(child.as_raw()).map(|stat| stat.start_ticks);
                let mut report = String::new();
                reader.read_to_string(&mut report).map_err(|error| ("read a pipe".to_string(), error))?;
                if let Some((errno, step)) = report.split_once(' ') {
                    waitpid(child, None).ok();
                    if let Some(marker) = &request.marker {
                        unmark(marker, child.as_raw());
                    }
                    let errno = errno.parse().unwrap_or(nix::libc::EIO);
                    return Err((step.to_string(), io::Error::from_raw_os_error(errno)));
                }
                let ticks =
                    ticks.ok_or_else(|| ("read /proc".to_string(), io::ErrorKind::NotFound.into()))?;
                Ok((child.as_raw(), ticks))
            }
        }
    }

    /// In the child: from a copy of the spawner to the program. Returns only on an error.
    fn become_program(&self, request: &Request, image: &Image, output: &OwnedFd) -> (String, io::Error) {
        if let Err((step, error)) = self.prepare(request, image, output) {
            return (step.to_string(), error);
        }
        (EXEC.to_string(), sys::execute(&image.program, &image.argv, &image.environment))
    }

    fn prepare(
        &self,
        request: &Request,
        image: &Image,
        output: &OwnedFd,
    ) -> Result<(), (&'static str, io::Error)> {
        let at = |step: &'static str| move |error: Errno| (step, io::Error::from(error));
        setsid().map_err(at("begin a session"))?;
        sys::default_signals().map_err(|error| ("reset signals", error))?;
        dup2_stdin(&self.null).map_err(at("open standard input"))?;
        dup2_stdout(output).map_err(at("open standard output"))?;
        dup2_stderr(output).map_err(at("open standard error"))?;
        nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
        if let Some(files) = request.open_files {
            setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(at("set limits.openFiles"))?;
        }
        if let Some(marker) = &request.marker {
            self.mark(marker).map_err(|error| ("write the run file", error))?;
        }
        if let Some(identity) = &image.identity {
            identity.assume().map_err(at("change the user"))?;
        }
        chdir(Path::new(&request.directory)).map_err(at("enter the working directory"))?;
        Ok(())
    }

    /// Writes the marker for this very process. Not synced: neither it nor we survive a power cut.
    fn mark(&self, marker: &Marker) -> io::Result<()> {
        let pid = std::process::id().cast_signed();
        let ticks = proc::Stat::read(pid).map(|stat| stat.start_ticks).unwrap_or_default();
        let text = tree::Run {
            operation: marker.operation.clone(),
            release: marker.release.clone(),
            pid,
            start_ticks: ticks,
            boot_id: self.boot_id.clone(),
        }
        .to_text();
        let temporary = temporary(marker);
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        drop(file);
        std::fs::rename(&temporary, &marker.path)
    }
}

/// Removes what a child has left that did not become the program. (By then it may not do so itself.)
fn unmark(marker: &Marker, child: i32) {
    std::fs::remove_file(temporary(marker)).ok();
    let run = std::fs::read_to_string(&marker.path).ok();
    if run.as_deref().and_then(tree::Run::from_text).is_some_and(|run| run.pid == child) {
        std::fs::remove_file(&marker.path).ok();
    }
}

fn temporary(marker: &Marker) -> PathBuf {
    PathBuf::from(format!("{}.tmp", marker.path))
}

fn hold(lock: &Path) -> io::Result<File> {
    let file =
        open(lock, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600))?;
    let mut file = File::from(file);
    let held = Flock::lock(file.try_clone()?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    // Dropping the guard would unlock; the lock ends with the last process that has the descriptor.
    std::mem::forget(held);
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    Ok(file)
}

/// What can be prepared before the fork.
struct Image {
    program: CString,
    argv: Vec<CString>,
    environment: Vec<CString>,
    identity: Option<Identity>,
}

impl Image {
    fn of(request: &Request) -> Result<Self, (String, io::Error)> {
        let text = |text: &str| {
            CString::new(text)
                .map_err(|_| ("pass on its arguments".to_string(), io::ErrorKind::InvalidInput.into()))
        };
        let argv = request.argv.iter().map(|part| text(part)).collect::<Result<Vec<_>, _>>()?;
        let environment = request
            .environment
            .iter()
            .map(|(key, value)| text(&format!("{key}={value}")))
            .collect::<Result<Vec<_>, _>>()?;
        let program = find(request).ok_or_else(|| (EXEC.to_string(), Errno::ENOENT.into()))?;
        let identity = request.user.as_deref().map(Identity::of).transpose()?;
        Ok(Self { program: text(&program)?, argv, environment, identity })
    }
}

/// A program without `/` is looked up in the absolute directories of the environment's `PATH`.
fn find(request: &Request) -> Option<String> {
    let program = request.argv.first()?;
    if program.contains('/') {
        return Some(program.clone());
    }
    let path = request.environment.iter().find(|(key, _)| key == "PATH")?;
    path.1
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| format!("{directory}/{program}"))
        .find(|file| nix::unistd::access(file.as_str(), nix::unistd::AccessFlags::X_OK).is_ok())
}

/// A user, with the groups.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn of(name: &str) -> Result<Self, (String, io::Error)> {
        let step = || format!("find user {name}");
        let user = User::from_name(name).map_err(|errno| (step(), errno.into()))?;
        let user = user.ok_or_else(|| (step(), Errno::ENOENT.into()))?;
        let c_name = CString::new(name).map_err(|_| (step(), io::ErrorKind::InvalidInput.into()))?;
        let groups = nix::unistd::getgrouplist(&c_name, user.gid).map_err(|errno| (step(), errno.into()))?;
        Ok(Self { uid: user.uid, gid: user.gid, groups })
    }

    fn assume(&self) -> nix::Result<()> {
        if !Uid::effective().is_root() && self.uid == Uid::effective() {
            return Ok(());
        }
        nix::unistd::setgroups(&self.groups)?;
        nix::unistd::setresgid(self.gid, self.gid, self.gid)?;
        nix::unistd::setresuid(self.uid, self.uid, self.uid)
    }
}

/// Receives a request and the descriptor beside its length; `None` when the daemon has hung up.
fn receive(socket: &mut UnixStream) -> io::Result<Option<(Request, OwnedFd)>> {
    let mut length = [0u8; 4];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let (count, output) = {
        let mut iov = [io::IoSliceMut::new(&mut length)];
        let message = loop {
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let fd = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        (message.bytes, fd.map(sys::own))
    };
    if count == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut length[count..])?;
    let request = read_body(socket, length)?;
    let output = output.ok_or_else(|| io::Error::other("a request came without its output descriptor"))?;
    Ok(Some((request, output)))
}

/// Reads the rest of a message whose length is known.
pub(super) fn read_body<T: bincode::Decode<()>>(socket: &mut impl Read, length: [u8; 4]) -> io::Result<T> {
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other("a message of the spawner is too long"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    let config = bincode::config::standard().with_limit::<MAX_MESSAGE>();
    let (message, _) = bincode::decode_from_slice(&body, config).map_err(io::Error::other)?;
    Ok(message)
}

/// Encodes a message: length, then body.
pub(super) fn encode(message: &impl bincode::Encode) -> io::Result<Vec<u8>> {
    let body = bincode::encode_to_vec(message, bincode::config::standard()).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|&length| length as usize <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("command and environment are too long"))?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

fn send(socket: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    socket.write_all(&encode(answer)?)
}
