//! The spawner process: one thread, small, starts what the daemon asks for.
//!
//! It ends when the daemon's end of its socket is closed, after the requests that it had already
//! been sent. Its children live on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{dup2_stdin, dup2_stdout, setsid};

use super::child::{Failed, Image, Streams};
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

/// In bytes; what a child does until its `exec` needs a tenth of it.
const STACK: usize = 128 << 10;

/// It is not looked for ended children again for so many times as long as it took to find no more of them: the kernel
/// looks at each child for that, and so thousands of ends in a row would cost their square.
const REST: u32 = 4;
/// What takes less costs nothing worth mentioning.
const SHORT: Duration = Duration::from_micros(20);
/// Nobody is told later than this: that it took so long may have had other reasons.
const LONG: Duration = Duration::from_millis(5);

/// The step of a [`Answer::Failed`] that means the program itself.
pub(super) const EXEC: &str = "exec";

/// Serves the daemon on standard input until it hangs up. Standard output is the file whose lock says that
/// a spawner lives; the daemon has taken it for us.
pub fn serve() -> ExitCode {
    match Server::new().and_then(Server::run) {
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
    /// The signals that a child would go on ignoring.
    ignored: Vec<nix::libc::c_int>,
    /// Of a child until its `exec`.
    stack: Box<[u8]>,
    /// Until then it is not looked for ended children.
    rest: Instant,
    /// Held by this process, and by each child until its `exec`.
    _lock: File,
}

impl Server {
    fn new() -> io::Result<Self> {
        let lock = held()?;
        sys::keep_descriptors()?;
        sys::expect_children()?;
        // A Ctrl-C on the daemon's terminal must not reach us, or containers could be lost before their exec.
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
        dup2_stdout(&null)?;
        Ok(Self {
            socket,
            signals,
            null,
            boot_id: tree::boot_id()?,
            ignored: sys::ignored(),
            stack: vec![0; STACK].into_boxed_slice(),
            rest: Instant::now(),
            _lock: lock,
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let rest = self.rest.saturating_duration_since(Instant::now());
            let (readable, children) = {
                let mut both = [
                    PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                ];
                let (count, time) = if rest.is_zero() { (2, None) } else { (1, Some(rest.into())) };
                match ppoll(&mut both[..count], time, None) {
                    Err(Errno::EINTR) => continue,
                    result => result?,
                };
                let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
                (is_ready(&both[0]), is_ready(&both[1]))
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
            let begun = Instant::now();
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                    let took = begun.elapsed();
                    if took > SHORT {
                        self.rest = Instant::now() + LONG.min(REST * took);
                    }
                    return Ok(());
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            self.answer(&Answer::Exited { pid: pid.as_raw(), status })?;
        }
    }

    /// Returns when the `exec` of a child has succeeded.
    fn start(&mut self, request: &Request, output: &OwnedFd) -> Result<(i32, u64), Failed> {
        let mut image = Image::of(request, &self.boot_id)?;
        let streams = Streams { input: &self.null, output };
        let mut failed = None;
        let becomes = || failed = Some(image.execute(&streams, &self.ignored));
        let child = sys::spawn_borrowing(&mut self.stack, becomes);
        let child = child.map_err(|error| ("start a process".to_string(), error.into()))?;
        if let Some((step, errno)) = failed {
            waitpid(child, None).ok();
            image.unmark(child.as_raw());
            return Err((step.to_string(), errno.into()));
        }
        // The child exists at least as a zombie until it is reaped, so its stat can be read.
        let read = || proc::Stat::read(child.as_raw()).ok().flatten().map(|stat| stat.start_ticks);
        let ticks = image.start_ticks().or_else(read);
        let ticks = ticks.ok_or_else(|| ("read /proc".to_string(), io::ErrorKind::NotFound.into()))?;
        Ok((child.as_raw(), ticks))
    }
}

/// The lock that we were given as standard output, with our pid in it.
fn held() -> io::Result<File> {
    let mut lock = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    lock.set_len(0)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    Ok(lock)
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
