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
    /// How often systemd has started it again by itself since somebody had it started.
    pub restarts: u32,
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

    /// Takes what these properties of the interfaces Unit and Service say; what they don't say stays.
    pub(super) fn take(&mut self, properties: &HashMap<String, OwnedVariant>) {
        let value = |key: &str| properties.get(key).cloned();
        let text = |place: &mut String, key| {
            if let Some(Ok(text)) = value(key).map(String::try_from) {
                *place = text;
            }
        };
        text(&mut self.load, "LoadState");
        text(&mut self.active, "ActiveState");
        text(&mut self.sub, "SubState");
        text(&mut self.kind, "Type");
        text(&mut self.result, "Result");
        text(&mut self.description, "Description");
        let number = |place: &mut u32, key| {
            if let Some(Ok(number)) = value(key).map(u32::try_from) {
                *place = number;
            }
        };
        number(&mut self.main_pid, "MainPID");
        number(&mut self.restarts, "NRestarts");
        let long = |place: &mut u64, key| {
            if let Some(Ok(number)) = value(key).map(u64::try_from) {
                *place = number;
            }
        };
        long(&mut self.start_limit, "TimeoutStartUSec");
        long(&mut self.stop_limit, "TimeoutStopUSec");
        long(&mut self.active_since, "ActiveEnterTimestamp");
        if let Some(Ok(bytes)) = value("InvocationID").map(Vec::<u8>::try_from) {
            self.invocation = hex(&bytes);
        }
        if let Some(Ok((job, _))) = value("Job").map(<(u32, zbus::OwnedObjectPath)>::try_from) {
            self.has_job = job != 0;
        }
        if let Some(Ok(needs)) = value("NeedDaemonReload").map(bool::try_from) {
            self.needs_reload = needs;
        }
        let signed = |key: &str| value(key).and_then(|value| i32::try_from(value).ok());
        if let (Some(code), Some(status)) = (signed("ExecMainCode"), signed("ExecMainStatus")) {
            // CLD_EXITED, CLD_KILLED, CLD_DUMPED
            self.exit = match code {
                1 => Some(ExitStatus::Code(status)),
                2 | 3 => Some(ExitStatus::Signal(status)),
                _ => None,
            };
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
