//! What an engine says of a container, and what that means: the words of all engines in one table.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A container, as an engine tells of it. Only what is used is read.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// Its id.
    pub id: String,
    /// How it is.
    pub state: State,
    /// How often the engine has started it again after it had ended.
    #[serde(default)]
    pub restart_count: i64,
    /// What it was made with.
    pub config: Config,
    /// What is mounted into it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub mounts: Vec<Mount>,
}

/// How a container is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `exited`, …; each engine has some of its own.
    pub status: String,
    /// Its program runs, says the engine. Docker says so of one that it is about to start again, too; Podman does
    /// not say so of one that is ending.
    pub running: bool,
    /// It is about to be started again.
    #[serde(default)]
    pub restarting: bool,
    /// Its processes stand still.
    #[serde(default)]
    pub paused: bool,
    /// Its main process, as the engine numbers it.
    #[serde(default)]
    pub pid: i64,
    /// How it ended.
    #[serde(default)]
    pub exit_code: i64,
    /// When it was last started, RFC 3339.
    #[serde(default)]
    pub started_at: String,
}

/// What a container was made with.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Its labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Something that is mounted into a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// `volume`, `bind`, …
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// The volume's name.
    #[serde(default)]
    pub name: String,
    /// Where the container sees it.
    #[serde(default)]
    pub destination: String,
}

/// What a container is doing. There are no others: what no engine is known to say is [`Phase::Unknown`], and may
/// run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was made; its program was never started.
    New,
    /// Its program runs.
    Up,
    /// Its program stands still, and goes on when it is unpaused.
    Paused,
    /// Its program has ended, and the engine is about to start it again.
    Restarting,
    /// Its program was asked to end, and may still run.
    Stopping,
    /// The engine is removing it; its program may still run.
    Removing,
    /// Its program has ended: no process is left.
    Down,
    /// The engine contradicts itself, or says a word that is not known: it may run.
    Unknown,
}

impl Mount {
    /// Whether it is a volume.
    pub fn is_volume(&self) -> bool {
        self.kind == "volume" && !self.name.is_empty()
    }
}

impl State {
    /// What it is doing.
    pub fn phase(&self) -> Phase {
        let has_process = self.running || self.pid != 0;
        match self.status.to_ascii_lowercase().as_str() {
            "created" | "configured" if has_process => Phase::Unknown,
            "created" | "configured" => Phase::New,
            // Podman: a process is there already, and waits for the start to become the program.
            "initialized" if self.running => Phase::Unknown,
            "initialized" => Phase::New,
            "running" if !self.running => Phase::Unknown,
            "running" if self.restarting => Phase::Restarting,
            "running" if self.paused => Phase::Paused,
            "running" => Phase::Up,
            "paused" => Phase::Paused,
            "restarting" => Phase::Restarting,
            "stopping" => Phase::Stopping,
            "removing" => Phase::Removing,
            "exited" | "stopped" | "dead" if has_process => Phase::Unknown,
            "exited" | "stopped" | "dead" => Phase::Down,
            // Podman's `unknown` and `improper` among them.
            _ => Phase::Unknown,
        }
    }

    /// Whether its program was ever started.
    pub fn was_started(&self) -> bool {
        // Engines write the year 1 for never.
        !self.started_at.is_empty() && !self.started_at.starts_with("0001-")
    }

    /// How it ended, as far as it fits.
    pub fn exit_code(&self) -> i32 {
        i32::try_from(self.exit_code).unwrap_or(i32::MAX)
    }

    /// Its main process, if it has one.
    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.pid).ok().filter(|pid| *pid > 0)
    }

    /// For people: the engine's own word, and what contradicts it.
    pub fn shown(&self) -> String {
        let word = self.status.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
        match self.phase() {
            Phase::Unknown => format!("{word}, Running: {}, Pid: {}", self.running, self.pid),
            _ => word,
        }
    }
}

pub(super) fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(status: &str, running: bool, pid: i64) -> Phase {
        State { status: status.into(), running, pid, ..State::default() }.phase()
    }

    #[test]
    fn each_word_of_an_engine_has_one_meaning() {
        let table = [
            ("created", Phase::New),
            ("configured", Phase::New),
            ("initialized", Phase::New),
            ("paused", Phase::Paused),
            ("restarting", Phase::Restarting),
            ("stopping", Phase::Stopping),
            ("removing", Phase::Removing),
            ("exited", Phase::Down),
            ("stopped", Phase::Down),
            ("dead", Phase::Down),
            ("Exited", Phase::Down),
        ];
        for (word, meaning) in table {
            assert_eq!(phase(word, false, 0), meaning, "{word}");
        }
        assert_eq!(phase("running", true, 7), Phase::Up);
        assert_eq!(phase("initialized", false, 7), Phase::New);
    }

    #[test]
    fn what_is_not_known_may_run() {
        for word in ["", "unknown", "improper", "hibernating", "exited ", "runn\u{e9}ing"] {
            for (running, pid) in [(false, 0), (true, 7)] {
                assert_eq!(phase(word, running, pid), Phase::Unknown, "{word}");
            }
        }
    }

    #[test]
    fn a_state_that_contradicts_itself_may_run() {
        for word in ["exited", "stopped", "dead", "created", "configured"] {
            assert_eq!(phase(word, true, 0), Phase::Unknown, "{word}, Running");
            assert_eq!(phase(word, false, 7), Phase::Unknown, "{word}, with a process");
        }
        assert_eq!(phase("running", false, 0), Phase::Unknown);
        assert_eq!(phase("initialized", true, 7), Phase::Unknown);
    }

    #[test]
    fn running_is_up_only_without_restarting_and_paused() {
        let state = |restarting, paused| State {
            status: "running".into(),
            running: true,
            pid: 7,
            restarting,
            paused,
            ..State::default()
        };
        assert_eq!(state(true, false).phase(), Phase::Restarting);
        assert_eq!(state(false, true).phase(), Phase::Paused);
        assert_eq!(state(false, false).phase(), Phase::Up);
    }

    #[test]
    fn what_an_engine_says_may_be_any_number() {
        let state: State = serde_json::from_str(
            r#"{"Status":"exited","Running":false,"ExitCode":3221225786,"Pid":0,"StartedAt":"0001-01-01T00:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!((state.exit_code(), state.pid(), state.was_started()), (i32::MAX, None, false));
    }
}
