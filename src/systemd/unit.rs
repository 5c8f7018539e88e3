//! Units: their names, and what systemd says of them.

use std::collections::HashMap;

use zbus::OwnedVariant;

use crate::spawn::ExitStatus;

/// The properties that say how a service's run has ended.
pub const END: [&str; 4] = ["Type", "Result", "ExecMainCode", "ExecMainStatus"];

/// The same, and how often systemd had started it again.
pub const ENDED: [&str; 5] = ["Type", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts"];

/// A program's own words about its state are cut here.
const MAX_TEXT: usize = 200;

/// Where a unit stands between down and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it runs, and systemd does not start it by itself.
    Down,
    /// A start is under way.
    Starting,
    /// Up, as its type defines it.
    Up,
    /// Up, and reading its configuration again.
    Reloading,
    /// A stop is under way, or its main process has ended and the rest of its group is being ended.
    Stopping,
    /// It ended, and systemd starts it again by itself (`Restart=`).
    Restarting,
}

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
    /// The object of that job.
    pub(super) job_path: String,
    /// What that job does and whether it `waiting`s for other jobs or is `running`, when that was asked for.
    pub job: Option<(String, String)>,
    /// What its program says of itself (`StatusText`), cut.
    pub text: String,
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
    /// The file that systemd has read it from; empty when there is none.
    pub fragment: String,
}

impl UnitState {
    /// Where it stands. An automatic restart past its delay is only told from a start by `restarts`.
    pub fn phase(&self) -> Phase {
        // `auto-restart`, `auto-restart-queued`, `dead-before-auto-restart`, `failed-before-auto-restart`.
        if self.sub.contains("auto-restart") {
            return Phase::Restarting;
        }
        match &*self.active {
            "active" => Phase::Up,
            "reloading" | "refreshing" => Phase::Reloading,
            "activating" if self.restarts > 0 => Phase::Restarting,
            "activating" => Phase::Starting,
            // `maintenance`: its directories are being cleaned, and nothing can be started meanwhile.
            "deactivating" | "maintenance" => Phase::Stopping,
            _ => Phase::Down,
        }
    }

    /// Its main process runs, or it counts as active without one, and it is not on its way down.
    pub fn is_up(&self) -> bool {
        self.phase() == Phase::Up
    }

    /// Nothing of it runs, and systemd is not going to change that by itself.
    pub fn is_down(&self) -> bool {
        self.phase() == Phase::Down && !self.has_job
    }

    /// Something is going on that will end.
    pub fn is_under_way(&self) -> bool {
        self.has_job || matches!(self.phase(), Phase::Starting | Phase::Reloading | Phase::Stopping)
    }

    /// In systemd's own words, as `systemctl status` shows it: `deactivating (stop-sigterm)`.
    pub fn words(&self) -> String {
        if self.sub.is_empty() || self.sub == self.active {
            return self.active.clone();
        }
        format!("{} ({})", self.active, self.sub)
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
        text(&mut self.fragment, "FragmentPath");
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
        if let Some(Ok((job, path))) = value("Job").map(<(u32, zbus::OwnedObjectPath)>::try_from) {
            self.has_job = job != 0;
            self.job_path = path.as_str().to_string();
        }
        if let Some(Ok(said)) = value("StatusText").map(String::try_from) {
            // It is shown to people, and may hold anything.
            self.text = said.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
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

    fn state(active: &str, sub: &str, restarts: u32) -> UnitState {
        UnitState { active: active.into(), sub: sub.into(), restarts, ..UnitState::default() }
    }

    #[test]
    fn only_an_active_unit_is_up() {
        let cases = [
            ("active", "running", 0, Phase::Up),
            ("active", "running", 3, Phase::Up),
            // RemainAfterExit=
            ("active", "exited", 0, Phase::Up),
            ("reloading", "reload", 0, Phase::Reloading),
            ("reloading", "reload-notify", 0, Phase::Reloading),
            ("refreshing", "refresh-extensions", 0, Phase::Reloading),
            ("activating", "start-pre", 0, Phase::Starting),
            ("activating", "start", 0, Phase::Starting),
            ("activating", "start-post", 0, Phase::Starting),
            ("activating", "start-pre", 1, Phase::Restarting),
            ("activating", "auto-restart", 0, Phase::Restarting),
            ("activating", "auto-restart-queued", 2, Phase::Restarting),
            ("inactive", "dead-before-auto-restart", 1, Phase::Restarting),
            ("failed", "failed-before-auto-restart", 1, Phase::Restarting),
            ("deactivating", "stop", 0, Phase::Stopping),
            ("deactivating", "stop-sigterm", 0, Phase::Stopping),
            ("deactivating", "final-sigkill", 5, Phase::Stopping),
            ("maintenance", "cleaning", 0, Phase::Stopping),
            ("inactive", "dead", 0, Phase::Down),
            ("failed", "failed", 9, Phase::Down),
        ];
        for (active, sub, restarts, phase) in cases {
            let state = state(active, sub, restarts);
            assert_eq!(state.phase(), phase, "{active} ({sub}), restarted {restarts} times");
            assert_eq!(state.is_up(), phase == Phase::Up, "{active} ({sub})");
            assert_eq!(state.is_down(), phase == Phase::Down, "{active} ({sub})");
        }
    }

    #[test]
    fn a_unit_with_a_job_is_neither_down_nor_settled() {
        let waits = UnitState { has_job: true, ..state("inactive", "dead", 0) };
        assert!(!waits.is_down() && waits.is_under_way());
        assert!(!state("active", "running", 0).is_under_way());
        // The next try may be minutes away.
        assert!(!state("activating", "auto-restart", 1).is_under_way());
        assert!(state("deactivating", "stop-sigterm", 0).is_under_way());
        assert_eq!(state("deactivating", "stop-sigterm", 0).words(), "deactivating (stop-sigterm)");
        assert_eq!(state("failed", "failed", 0).words(), "failed");
    }
}
