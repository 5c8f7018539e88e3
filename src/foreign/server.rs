//! The reader process: does what may hang, so that the daemon does not.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::access::{Account, open_for};
use super::{Unread, fits, open};

/// What the daemon asks for.
#[derive(Debug, Clone, bincode::Encode, bincode::Decode)]
pub(super) enum Request {
    /// The content of a regular file of at most `max` bytes, on behalf of a user.
    Read { path: Vec<u8>, max: u64, account: Option<Account> },
    /// What is known about a regular file without its content.
    Head { path: Vec<u8> },
    /// The names in a directory.
    Names { path: Vec<u8> },
    /// A user.
    Account { name: String },
}

/// What the process answers.
#[derive(Debug, bincode::Encode, bincode::Decode)]
pub(super) enum Answer {
    /// For `Read` and `Head`. After that of `Read` comes the content: pieces, each after its length, the last one empty.
    Head(Head),
    Names(Vec<Vec<u8>>),
    Account(Option<Account>),
    System(i32),
    Unfit(String),
}

/// What is known about a regular file that was opened.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Head {
    /// Its length.
    pub bytes: u64,
    path: Vec<u8>,
}

impl Head {
    /// Its path without any links.
    pub fn path(&self) -> PathBuf {
        OsString::from_vec(self.path.clone()).into()
    }
}

/// A piece of content is at most this long.
pub(super) const PIECE: usize = 256 << 10;
/// In the place of a length: the rest cannot be read, and an [`Answer`] says why.
pub(super) const BROKEN: u32 = u32::MAX;
/// Maximum number of names that a directory may have.
const MAX_NAMES: usize = 100_000;
/// A message longer than this is nonsense.
const MAX_MESSAGE: usize = 64 << 20;

/// Serves the daemon on standard input until it hangs up.
pub fn serve() -> ExitCode {
    // A Ctrl-C on the daemon's terminal is for the daemon: what goes on there may still need something read.
    nix::unistd::setsid().ok();
    nix::sys::prctl::set_name(c"deployd-reader").ok();
    let socket = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    match socket.and_then(|socket| serve_on(&socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

pub(super) fn serve_on(mut socket: &UnixStream) -> io::Result<()> {
    let mut requests = BufReader::new(socket);
    loop {
        if requests.fill_buf()?.is_empty() {
            return Ok(());
        }
        match receive(&mut requests)? {
            Request::Read { path, max, account } => match opened(&path, max, account.as_ref()) {
                Ok((file, head)) => {
                    send(&mut socket, &Answer::Head(head))?;
                    copy(file, max, &mut socket)?;
                }
                Err(error) => send(&mut socket, &Answer::from(error))?,
            },
            Request::Head { path } => {
                let head = opened(&path, u64::MAX - 1, None).map(|(_, head)| Answer::Head(head));
                send(&mut socket, &head.unwrap_or_else(Answer::from))?;
            }
            Request::Names { path } => {
                let names = names(Path::new(OsStr::from_bytes(&path)));
                send(&mut socket, &names.map_or_else(Answer::from, Answer::Names))?;
            }
            Request::Account { name } => {
                let account = account(&name);
                send(&mut socket, &account.map_or_else(Answer::from, Answer::Account))?;
            }
        }
    }
}

impl From<Unread> for Answer {
    fn from(error: Unread) -> Self {
        match error {
            Unread::System(errno) => Self::System(errno),
            error => Self::Unfit(error.to_string()),
        }
    }
}

fn opened(path: &[u8], max: u64, account: Option<&Account>) -> Result<(File, Head), Unread> {
    let path = Path::new(OsStr::from_bytes(path));
    let file = match account {
        Some(account) => open_for(account, path)?,
        None => open(path)?,
    };
    let bytes = file.metadata()?.len();
    fits(bytes, max)?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok((file, Head { bytes, path: path.into_os_string().into_vec() }))
}

fn copy(file: File, max: u64, socket: &mut impl Write) -> io::Result<()> {
    // Each piece behind its length.
    let mut buffer = vec![0; 4 + PIECE];
    let mut copied = 0;
    // It may grow while it is read.
    let mut file = file.take(max.saturating_add(1));
    loop {
        let read = file.read(&mut buffer[4..]).map_err(Unread::from).and_then(|count| {
            copied += count as u64;
            fits(copied, max).map(|()| count)
        });
        match read {
            Ok(count) => {
                let length = u32::try_from(count).unwrap_or(BROKEN);
                buffer[..4].copy_from_slice(&length.to_le_bytes());
                socket.write_all(&buffer[..4 + count])?;
                if count == 0 {
                    return Ok(());
                }
            }
            Err(error) => {
                socket.write_all(&BROKEN.to_le_bytes())?;
                return send(socket, &Answer::from(error));
            }
        }
    }
}

fn names(path: &Path) -> Result<Vec<Vec<u8>>, Unread> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        if names.len() == MAX_NAMES {
            return Err(Unread::Unfit(format!("it has more than {MAX_NAMES} entries")));
        }
        names.push(entry?.file_name().into_vec());
    }
    Ok(names)
}

fn account(name: &str) -> Result<Option<Account>, Unread> {
    let system = |errno| Unread::System(errno as i32);
    let Some(user) = nix::unistd::User::from_name(name).map_err(system)? else { return Ok(None) };
    let c_name = CString::new(name).map_err(|_| Unread::System(nix::libc::EINVAL))?;
    let groups = nix::unistd::getgrouplist(&c_name, user.gid).map_err(system)?;
    Ok(Some(Account {
        name: name.to_string(),
        uid: user.uid.as_raw(),
        groups: groups.iter().map(|group| group.as_raw()).collect(),
        home: user.dir.to_string_lossy().into_owned(),
    }))
}

pub(super) fn send(socket: &mut impl Write, message: &impl bincode::Encode) -> io::Result<()> {
    let bytes = bincode::encode_to_vec(message, bincode::config::standard()).map_err(io::Error::other)?;
    socket.write_all(&bytes)
}

pub(super) fn receive<T: bincode::Decode<()>>(socket: &mut impl Read) -> io::Result<T> {
    let config = bincode::config::standard().with_limit::<MAX_MESSAGE>();
    bincode::decode_from_std_read(socket, config).map_err(|error| match error {
        bincode::error::DecodeError::Io { inner, .. } => inner,
        error => io::Error::other(error),
    })
}
