//! The daemon's configuration: `/etc/deployd/deployd.yaml`, every key optional.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::artifact::fetch::{Limits, Timeouts};
use crate::catalog::Engine;
use crate::catalog::parse::{duration, size};
use crate::retention::Retention;
use crate::systemd::Scope;
use crate::yaml;
use file::File;

/// Where the system's daemon finds its configuration.
pub const SYSTEM_FILE: &str = "/etc/deployd/deployd.yaml";

/// A longer file is refused.
const MAX_BYTES: usize = 1 << 20;

/// The configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control socket.
    pub socket: PathBuf,
    /// Store, artifacts, releases, repositories.
    pub state_dir: PathBuf,
    /// The catalog.
    pub services_dir: PathBuf,
    /// Groups whose members may do everything but reload the catalog.
    pub operators: Vec<String>,
    /// Groups whose members may read.
    pub viewers: Vec<String>,
    /// Prefixes of Git repositories beside the built-in ones.
    pub allowed_repositories: Vec<String>,
    /// Prefixes of packages; `None`: any http(s) address.
    pub allowed_uris: Option<Vec<String>>,
    /// What is fetched and unpacked at most.
    pub limits: Limits,
    /// How long a download may take.
    pub timeouts: Timeouts,
    /// How long a git command may take.
    pub git_timeout: Duration,
    /// How many deployments, downloads and builds go on at the same time.
    pub concurrency: Concurrency,
    /// What later batches need is fetched, built and unpacked while an earlier one runs.
    pub prefetch: bool,
    /// Interrupted tasks are resumed when the daemon starts.
    pub resume_on_start: bool,
    /// How long operations may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// Which tasks are kept.
    pub retention: Retention,
    /// The command that is told of each change of a task's state; empty: none.
    pub notify: Vec<String>,
    /// The systemd that runs containers, if one does.
    pub systemd: Option<Scope>,
    /// Where Podman listens.
    pub podman: PathBuf,
    /// Where Docker listens.
    pub docker: PathBuf,
    /// The binary that is started as spawner and for checks.
    pub binary: PathBuf,
}

/// How many things go on at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Concurrency {
    /// Deployments.
    pub services: usize,
    /// Downloads.
    pub downloads: usize,
    /// Builds.
    pub builds: usize,
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--services-dir`
    pub services_dir: Option<PathBuf>,
    /// `--user`: the directories of the XDG specification instead of the system's.
    pub user: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {path}: {source}; see that it is there, and readable for deployd")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has mistakes.
    #[error("the configuration is not valid; mend this, and try `deployd check`:\n{0}")]
    Invalid(String),
    /// `--user` without a home.
    #[error("cannot find the user's directories: HOME is not set; set it, or run without --user")]
    NoHome,
}

impl Config {
    /// The configuration of this command line.
    pub fn load(overrides: &Overrides, binary: PathBuf) -> Result<Self, ConfigError> {
        let (mut config, default_file) = if overrides.user {
            Self::of_user(binary)?
        } else {
            (Self::of_system(binary), PathBuf::from(SYSTEM_FILE))
        };
        match &overrides.config {
            Some(path) => config.read(path)?,
            None if default_file.exists() => config.read(&default_file)?,
            None => {}
        }
        let set = |place: &mut PathBuf, value: &Option<PathBuf>| {
            if let Some(value) = value {
                place.clone_from(value);
            }
        };
        set(&mut config.socket, &overrides.socket);
        set(&mut config.state_dir, &overrides.state_dir);
        set(&mut config.services_dir, &overrides.services_dir);
        for path in [&mut config.socket, &mut config.state_dir, &mut config.services_dir] {
            // Children have other working directories.
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        Ok(config)
    }

    /// Where an engine listens.
    pub fn engine(&self, engine: Engine) -> &Path {
        match engine {
            Engine::Podman => &self.podman,
            Engine::Docker => &self.docker,
        }
    }

    /// The runtimes that work here and now.
    pub fn runtimes(&self) -> Vec<&'static str> {
        let engines = Engine::ALL.into_iter().filter(|engine| self.engine(*engine).exists());
        let systemd = self.systemd.is_some().then_some("systemd");
        std::iter::once("process").chain(systemd).chain(engines.map(Engine::name)).collect()
    }

    /// The defaults of the system's daemon.
    pub fn of_system(binary: PathBuf) -> Self {
        Self {
            socket: "/run/deployd/deployd.sock".into(),
            state_dir: "/var/lib/deployd".into(),
            services_dir: "/etc/deployd/services.d".into(),
            operators: vec!["deployd".into()],
            viewers: Vec::new(),
            allowed_repositories: Vec::new(),
            allowed_uris: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            git_timeout: crate::artifact::git::TIMEOUT,
            concurrency: Concurrency { services: 512, downloads: 4, builds: 2 },
            prefetch: false,
            resume_on_start: false,
            shutdown_grace: Duration::from_secs(30),
            retention: Retention { tasks: 10_000, age: None },
            notify: Vec::new(),
            systemd: Scope::find(false),
            podman: "/run/podman/podman.sock".into(),
            docker: "/run/docker.sock".into(),
            binary,
        }
    }

    fn of_user(binary: PathBuf) -> Result<(Self, PathBuf), ConfigError> {
        let home = std::env::var_os("HOME").map(PathBuf::from).ok_or(ConfigError::NoHome)?;
        let directory = |variable: &str, default: &str| {
            std::env::var_os(variable).map_or_else(|| home.join(default), PathBuf::from).join("deployd")
        };
        let config_dir = directory("XDG_CONFIG_HOME", ".config");
        let state_dir = directory("XDG_STATE_HOME", ".local/state");
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let socket =
            runtime_dir.map_or_else(|| state_dir.clone(), |dir| dir.join("deployd")).join("deployd.sock");
        let services_dir = config_dir.join("services.d");
        let system = Self::of_system(binary);
        let podman = std::env::var_os("XDG_RUNTIME_DIR")
            .map_or(system.podman, |dir| PathBuf::from(dir).join("podman/podman.sock"));
        let config = Self { socket, state_dir, services_dir, systemd: Scope::find(true), podman, ..system };
        Ok((config, config_dir.join("deployd.yaml")))
    }

    fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let bytes =
            std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        self.merge(&bytes).map_err(|mistakes| {
            let lines: Vec<_> =
                mistakes.iter().map(|mistake| format!("{}:{mistake}", path.display())).collect();
            ConfigError::Invalid(lines.join("\n"))
        })
    }

    fn merge(&mut self, bytes: &[u8]) -> Result<(), Vec<String>> {
        let texts = |mistakes: Vec<crate::mistake::Mistake>| {
            mistakes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let says_nothing = |line: &[u8]| matches!(line.trim_ascii_start().first(), None | Some(b'#'));
        let file: File = if bytes.split(|&byte| byte == b'\n').all(says_nothing) {
            File::default()
        } else {
            yaml::parse(bytes, MAX_BYTES).map_err(texts)?;
            serde_yaml::from_slice(bytes).map_err(|error| vec![error.to_string()])?
        };
        let mut wrong = Vec::new();
        self.take(file, &mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn take(&mut self, file: File, wrong: &mut Vec<String>) {
        let mut time = |place: &mut Duration, key: &str, text: Option<String>| {
            let Some(text) = text else { return };
            match duration(&text) {
                Some(value) => *place = value,
                None => wrong.push(format!(" {key}: `{text}` is no duration; write it like 30s or 10m")),
            }
        };
        time(&mut self.shutdown_grace, "shutdownGrace", file.shutdown_grace);
        time(&mut self.timeouts.fetch, "timeouts.fetch", file.timeouts.fetch);
        time(&mut self.git_timeout, "timeouts.git", file.timeouts.git);
        let mut bytes = |place: &mut u64, key: &str, value: Option<serde_yaml::Value>| {
            let Some(value) = value else { return };
            let read = value.as_u64().or_else(|| size(value.as_str()?));
            match read {
                Some(value) => *place = value,
                None => wrong.push(format!(" {key}: a size is written like 512M or 4G")),
            }
        };
        bytes(&mut self.limits.max_bytes, "packages.maxBytes", file.packages.max_bytes);
        bytes(
            &mut self.limits.max_unpacked_bytes,
            "packages.maxUnpackedBytes",
            file.packages.max_unpacked_bytes,
        );
        let set = |place: &mut PathBuf, value: Option<PathBuf>| {
            if let Some(value) = value {
                *place = value;
            }
        };
        set(&mut self.socket, file.socket);
        set(&mut self.state_dir, file.state_dir);
        set(&mut self.services_dir, file.services_dir);
        set(&mut self.podman, file.engines.podman);
        set(&mut self.docker, file.engines.docker);
        let mut count = |place: &mut usize, key: &str, value: Option<usize>| match value {
            Some(0) => wrong.push(format!(" concurrency.{key}: at least 1")),
            Some(value) => *place = value.min(tokio::sync::Semaphore::MAX_PERMITS),
            None => {}
        };
        count(&mut self.concurrency.services, "services", file.concurrency.services);
        count(&mut self.concurrency.downloads, "downloads", file.concurrency.downloads);
        count(&mut self.concurrency.builds, "builds", file.concurrency.builds);
        match file.notify.command {
            Some(command) if command.first().is_none_or(|program| !program.starts_with('/')) => {
                wrong.push(" notify.command: a program with its whole path, and its arguments".into());
            }
            command => self.notify = command.unwrap_or_default(),
        }
        self.limits.max_entries = file.packages.max_entries.unwrap_or(self.limits.max_entries);
        self.operators = file.access.operators.unwrap_or_else(|| std::mem::take(&mut self.operators));
        self.viewers = file.access.viewers;
        self.allowed_repositories = file.git.allowed_repositories;
        self.allowed_uris = file.packages.allowed_uris;
        self.prefetch = file.prefetch;
        self.resume_on_start = file.resume_on_start;
        self.retention.tasks = file.retention.tasks.unwrap_or(self.retention.tasks);
        let days = file.retention.days.map(|days| Duration::from_hours(24) * days);
        self.retention.age = days.or(self.retention.age);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str) -> Result<Config, Vec<String>> {
        let mut config = Config::of_system("deployd".into());
        config.merge(text.as_bytes()).map(|()| config)
    }

    #[test]
    fn every_key_is_optional() {
        assert!(!merged("# socket: /x\n\n  # all of it\n").unwrap().resume_on_start);
        assert_eq!(merged("").unwrap().socket, PathBuf::from("/run/deployd/deployd.sock"));
        assert_eq!(merged("# nothing\nresumeOnStart: true\n").unwrap().operators, ["deployd"]);
    }

    #[test]
    fn values_are_taken() {
        let text = "access: {operators: [ops], viewers: [dev]}\ngit: {allowedRepositories: [https://g/]}\n\
                    packages: {allowedUris: [https://p/], maxBytes: 1G, maxEntries: 5}\n\
                    concurrency: {services: 3}\nshutdownGrace: 5s\ntimeouts: {fetch: 1m}\n";
        let config = merged(text).unwrap();
        assert_eq!(config.operators, ["ops"]);
        assert_eq!(config.limits.max_bytes, 1 << 30);
        assert_eq!(config.limits.max_entries, 5);
        assert_eq!(config.concurrency.services, 3);
        assert_eq!(config.shutdown_grace, Duration::from_secs(5));
        assert_eq!(config.timeouts.fetch, Duration::from_mins(1));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(merged("soket: /x").unwrap_err()[0].contains("soket"));
        assert!(merged("shutdownGrace: soon").unwrap_err()[0].contains("shutdownGrace"));
        assert!(merged("concurrency: {builds: 0}").unwrap_err()[0].contains("builds"));
        assert!(merged("notify: {command: [mail]}").unwrap_err()[0].contains("notify.command"));
        assert!(merged("a: 1\na: 2").unwrap_err()[0].contains("duplicate"));
    }
}
