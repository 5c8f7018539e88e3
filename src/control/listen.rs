//! The listening socket: never reachable with a wrong mode or owner, never taken from another daemon.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

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
    #[error("cannot listen on {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Binds the socket, or takes the one that systemd has bound.
pub fn bind(path: &Path) -> Result<UnixListener, ListenError> {
    if let Some(listener) = activated() {
        return Ok(listener);
    }
    let io = |source| ListenError::Io { path: path.to_path_buf(), source };
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(io)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ListenError::NoSocket(path.into())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ListenError::Taken(path.into())),
        _ => {}
    }
    // Bound where nobody looks for it, in a directory that only we can enter; then it gets its
    // mode and owner; only then its name. The rename also replaces what a killed daemon left.
    let hidden = directory.join(format!(".deployd-{}", std::process::id()));
    fs::remove_dir_all(&hidden).ok();
    fs::DirBuilder::new().mode(0o700).create(&hidden).map_err(io)?;
    let bound = bind_hidden(&hidden.join("sock"), path);
    fs::remove_dir_all(&hidden).ok();
    bound.map_err(io)
}

fn bind_hidden(hidden: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(hidden)?;
    let group = nix::unistd::Group::from_name(GROUP).ok().flatten();
    let mode = match group {
        Some(group) if std::os::unix::fs::chown(hidden, None, Some(group.gid.as_raw())).is_ok() => 0o660,
        _ => 0o600,
    };
    fs::set_permissions(hidden, fs::Permissions::from_mode(mode))?;
    fs::rename(hidden, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket at the end, unless systemd owns it.
pub fn remove(path: &Path) {
    let is_ours = |metadata: &fs::Metadata| {
        metadata.file_type().is_socket() && metadata.uid() == nix::unistd::geteuid().as_raw()
    };
    if std::env::var_os("LISTEN_FDS").is_none() && fs::symlink_metadata(path).is_ok_and(|m| is_ours(&m)) {
        fs::remove_file(path).ok();
    }
}

/// The socket of socket activation, if this process was started so.
#[allow(unsafe_code, reason = "the descriptor's number is systemd's promise")]
fn activated() -> Option<UnixListener> {
    let pid: u32 = std::env::var("LISTEN_PID").ok()?.parse().ok()?;
    let count: u32 = std::env::var("LISTEN_FDS").ok()?.parse().ok()?;
    if pid != std::process::id() || count == 0 {
        return None;
    }
    // SAFETY: by the protocol descriptor 3 is ours alone; this is called once, at start.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).ok()?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true).ok()?;
    Some(listener)
}
