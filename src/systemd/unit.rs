//! Units: their names, and what systemd says of them.

use std::collections::HashMap;

use zbus::OwnedVariant;

use crate::spawn::ExitStatus;

/// The properties that say how a service's run has ended.
pub const END: [&str; 4] = ["Type", "Result", "ExecMainCode", "ExecMainStatus"];

/// What systemd says of a unit. What only services have is there when it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// `running`, `auto-restart`, …
    pub sub: String,
    /// `simple`, `oneshot`, `notify`, …
    pub kind: String,
    /// Which run: 32 hex digits; empty when it never ran.
    pub invocation: String,
    /// Why it failed: `exit-code`, `timeout`, …
    pub result: String,
    /// The main process; 0 when there is none.
    pub main_pid: u32,
    /// How the main process ended, once it has.
    pub exit: Option<ExitStatus>,
    /// A job waits or runs.
    pub has_job: bool,
    /// Its file differs from what systemd has read.
    pub needs_reload: bool,
    /// How long it may take to start, in microseconds.
    pub start_limit: u64,
    /// How long it may take to stop, in microseconds.
    pub stop_limit: u64,
    /// When it became active, in microseconds since the epoch; 0: never.
    pub active_since: u64,
    /// For people.
    pub description: String,
}

impl UnitState {
    /// Something of it runs (or counts as running), or is about to.
    pub fn is_up(&self) -> bool {
        match &*self.active {
            "active" | "reloading" | "refreshing" | "deactivating" => true,
            "activating" => self.sub != "auto-restart" && self.sub != "auto-restart-queued",
            _ => false,
        }
    }

    /// Nothing of it runs, and systemd is not going to change that by itself.
    pub fn is_down(&self) -> bool {
        matches!(&*self.active, "inactive" | "failed") && !self.has_job
    }

    /// Something is going on that will end.
    pub fn is_under_way(&self) -> bool {
        let changing = matches!(&*self.active, "activating" | "deactivating" | "reloading");
        self.has_job || (changing && self.is_up())
    }

    /// Why it is not as it should be, for people.
    pub fn why(&self) -> String {
        match (&*self.result, self.exit) {
            ("" | "success", None) => String::new(),
            ("exit-code" | "signal" | "core-dump" | "" | "success", Some(status)) => {
                format!("its main process {status}")
            }
            (result, _) => format!("result {result}"),
        }
    }

    /// Out of the properties of the interfaces Unit and Service.
    pub(super) fn of(properties: &HashMap<String, OwnedVariant>) -> Self {
        let text = |key: &str| {
            let value = properties.get(key).and_then(|value| String::try_from(value.clone()).ok());
            value.unwrap_or_default()
        };
        let number = |key: &str| properties.get(key).and_then(|value| u32::try_from(value.clone()).ok());
        let long = |key: &str| properties.get(key).and_then(|value| u64::try_from(value.clone()).ok());
        let signed = |key: &str| properties.get(key).and_then(|value| i32::try_from(value.clone()).ok());
        let bytes = properties.get("InvocationID").and_then(|id| Vec::<u8>::try_from(id.clone()).ok());
        let job =
            properties.get("Job").and_then(|job| <(u32, zbus::OwnedObjectPath)>::try_from(job.clone()).ok());
        let status = signed("ExecMainStatus").unwrap_or_default();
        // CLD_EXITED, CLD_KILLED, CLD_DUMPED
        let exit = match signed("ExecMainCode").unwrap_or_default() {
            1 => Some(ExitStatus::Code(status)),
            2 | 3 => Some(ExitStatus::Signal(status)),
            _ => None,
        };
        Self {
            load: text("LoadState"),
            active: text("ActiveState"),
            sub: text("SubState"),
            kind: text("Type"),
            invocation: hex(&bytes.unwrap_or_default()),
            result: text("Result"),
            main_pid: number("MainPID").unwrap_or_default(),
            exit,
            has_job: job.is_some_and(|job| job.0 != 0),
            needs_reload: properties
                .get("NeedDaemonReload")
                .is_some_and(|value| bool::try_from(value.clone()).unwrap_or_default()),
            start_limit: long("TimeoutStartUSec").unwrap_or_default(),
            stop_limit: long("TimeoutStopUSec").unwrap_or_default(),
            active_since: long("ActiveEnterTimestamp").unwrap_or_default(),
            description: text("Description"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The object of a unit.
pub fn path_of(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (index, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push('_');
            path.push_str(&hex(&[byte]));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_unit_is_escaped() {
        assert_eq!(path_of("web@1.service"), "/org/freedesktop/systemd1/unit/web_401_2eservice");
        assert_eq!(path_of("9-a.service"), "/org/freedesktop/systemd1/unit/_39_2da_2eservice");
    }

    #[test]
    fn a_unit_that_waits_for_its_next_try_is_not_up() {
        let state = |active: &str, sub: &str| UnitState {
            active: active.into(),
            sub: sub.into(),
            ..UnitState::default()
        };
        assert!(!state("activating", "auto-restart").is_up());
        assert!(state("activating", "start").is_up());
        assert!(state("activating", "start").is_under_way());
        assert!(!state("active", "running").is_under_way());
        assert!(state("failed", "failed").is_down());
    }
}
