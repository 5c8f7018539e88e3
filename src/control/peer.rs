//! Who calls, and what they may do: as the kernel says, taken once for each connection.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixStream;

use super::places::Places;
use super::problem::Fault;
use crate::task::Caller;

/// Groups that may use the socket.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Everything but the catalog's reload.
    pub operators: Vec<String>,
    /// Reading.
    pub viewers: Vec<String>,
}

/// What a caller may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reading.
    Viewer,
    /// Everything but the catalog's reload.
    Operator,
    /// Everything: root and the daemon's own user.
    Admin,
}

impl Role {
    /// As shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who.
    pub caller: Caller,
    /// What they may do; `None`: nothing.
    pub role: Option<Role>,
}

/// Finds out who has connected. Without a [`Peer`], every request is refused; without a place, the
/// connection is ended.
pub fn on_connect(stream: &UnixStream, data: &mut Extensions, access: &Access, places: &Arc<Places>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let groups = groups_of(stream);
    let uid = Uid::from_raw(credentials.uid());
    let groups: Vec<Gid> = groups.into_iter().chain([Gid::from_raw(credentials.gid())]).collect();
    let role = access.role(uid, &groups);
    let Some(place) = places.take(uid.as_raw(), role) else {
        shutdown(stream.as_raw_fd(), Shutdown::Both).ok();
        return;
    };
    data.insert(place);
    let pid = credentials.pid();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let program = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let program = program.map(|program| program.trim_end().escape_debug().to_string());
    let caller = Caller { uid: uid.as_raw(), user, pid, program };
    data.insert(Peer { caller, role });
}

/// The caller of an admitted request.
pub fn caller(request: &HttpRequest) -> Result<Caller, Fault> {
    let peer = request.conn_data::<Peer>();
    peer.map(|peer| peer.caller.clone())
        .ok_or_else(|| Fault::NotPermitted("the caller is not known; connect to the socket directly".into()))
}

impl Access {
    /// What somebody with this user and these groups may do.
    pub fn role(&self, uid: Uid, groups: &[Gid]) -> Option<Role> {
        if uid.is_root() || uid == Uid::effective() {
            return Some(Role::Admin);
        }
        let is_in = |names: &[String]| {
            names.iter().any(|name| {
                let group = Group::from_name(name).ok().flatten();
                group.is_some_and(|group| groups.contains(&group.gid))
            })
        };
        if is_in(&self.operators) {
            Some(Role::Operator)
        } else if is_in(&self.viewers) {
            Some(Role::Viewer)
        } else {
            None
        }
    }
}

/// The supplementary groups that the peer's process had when it connected.
#[allow(unsafe_code, reason = "no library offers SO_PEERGROUPS")]
fn groups_of(stream: &UnixStream) -> Vec<Gid> {
    const MAX: usize = 65_536;
    let mut groups = vec![0 as nix::libc::gid_t; MAX];
    let mut length = nix::libc::socklen_t::try_from(std::mem::size_of_val(&*groups)).unwrap_or(0);
    // SAFETY: pointer and length describe `groups`, which the kernel fills with at most that many bytes.
    let result = unsafe {
        nix::libc::getsockopt(
            stream.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            nix::libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Vec::new();
    }
    groups.truncate(length as usize / std::mem::size_of::<nix::libc::gid_t>());
    groups.into_iter().map(Gid::from_raw).collect()
}
