//! What is said about the host: systemd, the state directory, files that others own.

use std::path::PathBuf;
use std::time::Duration;

use deployd::foreign::Unread;
use deployd::identity::IdentityError;
use deployd::systemd::SystemdError;

use super::{no_entry, text};

pub fn systemd() -> Vec<SystemdError> {
    let unit = || text("web@1.service");
    vec![
        SystemdError::Unreachable(text("connection refused")),
        SystemdError::NoAnswer { what: text("StartUnit") },
        SystemdError::Lost { what: text("StartUnit") },
        SystemdError::Refused {
            name: text("org.freedesktop.DBus.Error.AccessDenied"),
            message: text("access denied"),
        },
        SystemdError::Job { verb: "start", unit: unit(), result: text("failed"), detail: text("exit-code") },
        SystemdError::JobHangs {
            verb: "start",
            unit: unit(),
            limit: std::time::Duration::from_secs(90),
            state: "it is activating (start-pre)".into(),
        },
    ]
}

pub fn identity() -> Vec<IdentityError> {
    let (path, why) = (PathBuf::from("/var/lib/deployd/identity"), text("no answer within 5 s"));
    vec![
        IdentityError::Io { what: "write", path: path.clone(), source: no_entry() },
        IdentityError::Damaged { path, why: text("it is not a regular file") },
        IdentityError::Unclear { state: "/srv/new".into(), before: "/srv/old".into(), why },
    ]
}

pub fn unread() -> Vec<Unread> {
    vec![
        Unread::System(nix::libc::ENOENT),
        Unread::Unfit(text("it is not a regular file")),
        Unread::Silent(Duration::from_secs(5)),
        Unread::Crowded(text("too many earlier reads still hang")),
        Unread::Cancelled,
    ]
}
