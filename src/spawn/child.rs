//! The way of a child from the spawner to its program.
//!
//! Until its `exec` the child lives in the spawner's memory, and the spawner waits for it, as posix_spawn(3) does
//! it: a copy of the memory would cost as much as all the rest. So everything is prepared before. The child itself
//! allocates nothing, locks nothing and does not panic: killed at any moment, it leaves the spawner's memory whole.

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, renameat};
use nix::libc::c_int;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, User, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::proc::Stat;
use super::server::{EXEC, Request};
use super::sys::{self, Strings};
use super::tree::Run;

/// A step that failed, and why.
pub(super) type Failed = (String, io::Error);

/// A child that is ready to be started.
pub(super) struct Image {
    program: CString,
    argv: Strings,
    environment: Strings,
    directory: CString,
    open_files: Option<u64>,
    identity: Option<Identity>,
    marker: Option<Mark>,
}

impl Image {
    /// Prepares what a request asks for, in this boot.
    pub fn of(request: &Request, boot_id: &str) -> Result<Self, Failed> {
        let argv = request.argv.iter().map(|part| text(part)).collect::<Result<_, _>>()?;
        let variable = |(key, value): &(String, String)| text(&format!("{key}={value}"));
        let environment = request.environment.iter().map(variable).collect::<Result<_, _>>()?;
        let program = find(request).ok_or_else(|| (EXEC.to_string(), Errno::ENOENT.into()))?;
        Ok(Self {
            program: text(&program)?,
            argv: Strings::new(argv),
            environment: Strings::new(environment),
            directory: text(&request.directory)?,
            open_files: request.open_files,
            identity: request.user.as_deref().map(Identity::of).transpose()?,
            marker: Mark::of(request, boot_id)?,
        })
    }

    /// When the child started, if it has seen that itself.
    pub fn start_ticks(&self) -> Option<u64> {
        self.marker.as_ref().map(|marker| marker.run.start_ticks).filter(|&ticks| ticks != 0)
    }

    /// In the child: becomes the program. Returns only on an error.
    pub fn execute(&mut self, streams: &Streams<'_>, ignored: &[c_int]) -> (&'static str, Errno) {
        match self.prepare(streams, ignored) {
            Ok(()) => (EXEC, sys::execute(&self.program, &self.argv, &self.environment)),
            Err(failed) => failed,
        }
    }

    fn prepare(&mut self, streams: &Streams<'_>, ignored: &[c_int]) -> Result<(), (&'static str, Errno)> {
        let at = |step: &'static str| move |error: Errno| (step, error);
        setsid().map_err(at("begin a session"))?;
        sys::default_signals(ignored).map_err(at("reset signals"))?;
        dup2_stdin(streams.input.as_fd()).map_err(at("open standard input"))?;
        dup2_stdout(streams.output.as_fd()).map_err(at("open standard output"))?;
        dup2_stderr(streams.output.as_fd()).map_err(at("open standard error"))?;
        nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
        if let Some(files) = self.open_files {
            setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(at("set limits.openFiles"))?;
        }
        if let Some(marker) = &mut self.marker {
            marker.write().map_err(at("write the run file"))?;
        }
        if let Some(identity) = &self.identity {
            identity.assume().map_err(at("change the user"))?;
        }
        chdir(self.directory.as_c_str()).map_err(at("enter the working directory"))
    }

    /// Removes what a child has left that did not become the program. (By then it may not do so itself.)
    pub fn unmark(&self, child: i32) {
        if let Some(marker) = &self.marker {
            marker.remove(child);
        }
    }
}

/// What becomes the standard streams of a child.
pub(super) struct Streams<'a> {
    pub input: &'a File,
    pub output: &'a OwnedFd,
}

fn text(text: &str) -> Result<CString, Failed> {
    let refused = |_| ("pass on its arguments".to_string(), io::ErrorKind::InvalidInput.into());
    CString::new(text).map_err(refused)
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

/// The marker of a child.
struct Mark {
    path: CString,
    temporary: CString,
    run: Run,
    /// Has room for all that is written.
    text: String,
}

impl Mark {
    fn of(request: &Request, boot_id: &str) -> Result<Option<Self>, Failed> {
        let Some(marker) = &request.marker else { return Ok(None) };
        let run = Run {
            operation: marker.operation.clone(),
            release: marker.release.clone(),
            pid: i32::MAX,
            start_ticks: u64::MAX,
            boot_id: boot_id.to_string(),
        };
        let room = run.to_text().len();
        let (path, temporary) = (text(&marker.path)?, text(&format!("{}.tmp", marker.path))?);
        let run = Run { start_ticks: 0, ..run };
        Ok(Some(Self { path, temporary, run, text: String::with_capacity(room) }))
    }

    /// Writes it for this very process. Not synced: neither it nor we survive a power cut.
    fn write(&mut self) -> nix::Result<()> {
        self.run.pid = nix::unistd::getpid().as_raw();
        let own = Stat::own().map_err(errno)?.ok_or(Errno::ESRCH)?;
        self.run.start_ticks = own.start_ticks;
        write!(self.text, "{}", self.run).map_err(|_| Errno::ENOMEM)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let file = open(self.temporary.as_c_str(), flags, Mode::from_bits_truncate(0o666))?;
        File::from(file).write_all(self.text.as_bytes()).map_err(errno)?;
        renameat(AT_FDCWD, self.temporary.as_c_str(), AT_FDCWD, self.path.as_c_str())
    }

    fn remove(&self, child: i32) {
        nix::unistd::unlink(self.temporary.as_c_str()).ok();
        let run = self.path.to_str().ok().and_then(|path| std::fs::read_to_string(path).ok());
        if run.as_deref().and_then(Run::from_text).is_some_and(|run| run.pid == child) {
            nix::unistd::unlink(self.path.as_c_str()).ok();
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is a way to map errors")]
fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A user, with the groups.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn of(name: &str) -> Result<Self, Failed> {
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
