//! systemd, spoken to over D-Bus: jobs, reloads and the properties of units.
//!
//! Each call has a deadline: a systemd that does not answer is an error that says so, and nothing is
//! ever assumed. Signals say that there is something to look at; what is, is always read.

mod link;
mod live;
pub mod transient;
pub mod unit;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use link::Systemd;
pub use unit::UnitState;

/// How long systemd may take to answer a call.
const ANSWER: Duration = Duration::from_secs(25);

/// Which systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The system's, PID 1.
    System,
    /// A user's own, whose runtime directory this is.
    User(PathBuf),
}

impl Scope {
    /// The systemd that a daemon drives: root the system's (unless it runs for a user), others their own.
    /// `None` where none runs.
    pub fn find(for_user: bool) -> Option<Self> {
        if nix::unistd::geteuid().is_root() && !for_user {
            return Path::new("/run/systemd/system").is_dir().then_some(Self::System);
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
        if !runtime.join("systemd").is_dir() {
            return None;
        }
        let scope = Self::User(runtime);
        scope.bus_socket().exists().then_some(scope)
    }

    /// The socket of the bus on which it is reached.
    pub fn bus_socket(&self) -> PathBuf {
        match self {
            Self::System => "/run/dbus/system_bus_socket".into(),
            Self::User(runtime) => runtime.join("bus"),
        }
    }

    /// Where an administrator's units are.
    pub fn unit_directory(&self) -> PathBuf {
        match self {
            Self::System => "/etc/systemd/system".into(),
            Self::User(_) => {
                let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
                let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
                config.unwrap_or_else(|| home.join(".config")).join("systemd/user")
            }
        }
    }

    /// What starts the units that are enabled.
    pub const fn target(&self) -> &'static str {
        match self {
            Self::System => "multi-user.target",
            Self::User(_) => "default.target",
        }
    }
}

/// Why systemd did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SystemdError {
    /// It can't be reached.
    #[error("cannot reach systemd: {0}; see whether D-Bus runs: systemctl status dbus")]
    Unreachable(String),
    /// It took too long.
    #[error("systemd has not answered within {} s ({what}); see whether it hangs: systemctl is-system-running", ANSWER.as_secs())]
    NoAnswer {
        /// What was asked.
        what: String,
    },
    /// The connection ended before the answer came.
    #[error(
        "the connection to systemd was lost: {what}; whether it was done is found out when the task is resumed"
    )]
    Lost {
        /// What was asked.
        what: String,
    },
    /// It refused.
    #[error("systemd refused: {message}; journalctl -b _PID=1 may say more")]
    Refused {
        /// The error's name, as `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// In its words.
        message: String,
    },
    /// A job did not end well.
    #[error("the {verb} job of {unit} ended with `{result}`{}; see journalctl -u {unit}", more(.detail))]
    Job {
        /// `start` or `stop`.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        /// `failed`, `canceled`, `timeout`, `dependency`, `skipped`, …
        result: String,
        /// What the unit says, if it says something.
        detail: String,
    },
    /// A job has not ended in its time.
    #[error("the {verb} job of {unit} has not ended within {seconds} s; see systemctl list-jobs")]
    JobHangs {
        /// `start` or `stop`.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        /// Its time.
        seconds: u64,
    },
}

impl SystemdError {
    /// Whether what was asked for may still be done, or have been done.
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Lost { .. })
    }
}

fn more(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}
