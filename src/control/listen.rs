//! The listening socket: never reachable with a wrong mode or owner, never taken from another daemon.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::socket::SockType;
use rustix::fs::{CWD, RenameFlags};

/// The group whose members may connect.
const GROUP: &str = "deployd";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("cannot listen on {0}: another process answers there; stop it, or use another socket")]
    Taken(PathBuf),
    /// Something that is no socket is there.
    #[error("cannot listen on {0}: it exists and is no socket; remove it, or use another path")]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}: {source}; see that its directory is there, and writable for deployd")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Binds the socket, or takes the one that systemd has bound.
pub fn bind(path: &Path) -> Result<UnixListener, ListenError> {
    let io = |source| ListenError::Io { path: path.to_path_buf(), source };
    if let Some(listener) = activated().map_err(io)? {
        return Ok(listener);
    }
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(io)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ListenError::NoSocket(path.into())),
        Ok(_) if answers(path) => return Err(ListenError::Taken(path.into())),
        _ => {}
    }
    // Bound where nobody looks for it, in a directory that only we can enter; then it gets its
    // mode and owner; only then its name. What a killed daemon left is replaced.
    let hidden = directory.join(format!(".deployd-{}", std::process::id()));
    fs::remove_dir_all(&hidden).ok();
    fs::DirBuilder::new().mode(0o700).create(&hidden).map_err(io)?;
    let bound = bind_hidden(&hidden.join("sock")).map_err(io);
    let claimed = bound.and_then(|listener| claim(&hidden, path).map(|()| listener));
    fs::remove_dir_all(&hidden).ok();
    claimed
}

fn bind_hidden(hidden: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(hidden)?;
    let group = nix::unistd::Group::from_name(GROUP).ok().flatten();
    let mode = match group {
        Some(group) if std::os::unix::fs::chown(hidden, None, Some(group.gid.as_raw())).is_ok() => 0o660,
        _ => 0o600,
    };
    fs::set_permissions(hidden, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Gives the socket its name, unless somebody has it, though only for a moment.
fn claim(hidden: &Path, path: &Path) -> Result<(), ListenError> {
    let (sock, old) = (hidden.join("sock"), hidden.join("old"));
    let rename = |from: &Path, to: &Path| {
        rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
    };
    let io = |source| ListenError::Io { path: path.to_path_buf(), source };
    loop {
        match rename(&sock, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done.map_err(io),
        }
        // Another daemon may just have replaced what was dead: what is moved away is asked once more.
        match fs::rename(path, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Ok(()) if answers(&old) => {
                rename(&old, path).map_err(io)?;
                return Err(ListenError::Taken(path.into()));
            }
            _ => {}
        }
    }
}

/// Whether somebody listens there. Who has no time to answer, or for us, is there all the same.
fn answers(path: &Path) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connected = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .and_then(|client| connect(client.as_raw_fd(), &UnixAddr::new(path)?));
    !matches!(connected, Err(Errno::ECONNREFUSED | Errno::ENOENT))
}

/// Removes the socket at the end, unless systemd owns it.
pub fn remove(path: &Path) {
    let is_ours = |metadata: &fs::Metadata| {
        metadata.file_type().is_socket() && metadata.uid() == nix::unistd::geteuid().as_raw()
    };
    if !ACTIVATED.load(Ordering::Relaxed) && fs::symlink_metadata(path).is_ok_and(|m| is_ours(&m)) {
        fs::remove_file(path).ok();
    }
}

/// Whether the socket is systemd's.
static ACTIVATED: AtomicBool = AtomicBool::new(false);

/// The socket of socket activation, if this process was started so. (The library has checked that the
/// descriptors are meant for this process, and has made them close-on-exec.)
fn activated() -> io::Result<Option<UnixListener>> {
    use nix::sys::socket::{getsockopt, sockopt};
    let mut passed = sd_notify::listen_fds_with_names()?;
    let Some((number, name)) = passed.next() else { return Ok(None) };
    if passed.next().is_some() {
        return Err(io::Error::other("systemd passed several sockets: deployd has one"));
    }
    let socket = owned(number);
    if !matches!(getsockopt(&socket, sockopt::SockType), Ok(SockType::Stream))
        || !matches!(getsockopt(&socket, sockopt::AcceptConn), Ok(true))
    {
        return Err(io::Error::other(format!("what systemd passed as {name} is no listening stream socket")));
    }
    let listener = UnixListener::from(socket);
    listener.local_addr().map_err(|_| io::Error::other(format!("{name} is no Unix socket")))?;
    listener.set_nonblocking(true)?;
    ACTIVATED.store(true, Ordering::Relaxed);
    Ok(Some(listener))
}

#[allow(unsafe_code, reason = "the descriptor's number is systemd's promise")]
fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: by the protocol the descriptor is ours alone; this is called once, at start.
    unsafe { OwnedFd::from_raw_fd(number) }
}
