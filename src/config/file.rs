//! The configuration file: each key is optional, an unknown one is refused, and so is one without a value.

use std::path::PathBuf;
use std::time::Duration;

use super::{Config, keys};
use crate::catalog::parse::{duration, size};
use crate::reading::{Fields, Mistakes};
use crate::yaml::Node;

/// Minimum of `builds.maxOutputBytes`: some lines of any length.
const LEAST_PRINTED: u64 = 64 << 10;

/// Puts what a file says into the configuration.
pub fn read(root: &Node, config: &mut Config, mistakes: &mut Mistakes) {
    let Some(entries) = mistakes.root(root, &keys::FILE) else { return };
    let mut file = Fields { place: root.place, path: String::new(), entries, mistakes };
    file.path_to("socket", &mut config.socket);
    file.path_to("stateDir", &mut config.state_dir);
    file.path_to("servicesDir", &mut config.services_dir);
    file.section("access", &keys::ACCESS, |access| {
        access.list_to("operators", &mut config.operators);
        access.list_to("viewers", &mut config.viewers);
    });
    file.section("git", &keys::GIT, |git| {
        git.list_to("allowedRepositories", &mut config.allowed_repositories);
    });
    file.section("packages", &keys::PACKAGES, |packages| {
        config.allowed_uris = packages.list("allowedUris").or(config.allowed_uris.take());
        packages.size_to("maxBytes", &mut config.limits.max_bytes);
        packages.size_to("maxUnpackedBytes", &mut config.limits.max_unpacked_bytes);
        if let Some(entries) = packages.number("maxEntries", 0, i128::from(u64::MAX)) {
            config.limits.max_entries = entries;
        }
    });
    file.section("builds", &keys::BUILDS, |builds| {
        builds.size_to("maxOutputBytes", &mut config.printed);
        if config.printed < LEAST_PRINTED {
            builds.wrong("maxOutputBytes", "expected a size of 64K or more");
        }
    });
    file.section("concurrency", &keys::CONCURRENCY, |concurrency| {
        concurrency.permits_to("services", &mut config.concurrency.services);
        concurrency.permits_to("downloads", &mut config.concurrency.downloads);
        concurrency.permits_to("builds", &mut config.concurrency.builds);
    });
    file.section("timeouts", &keys::TIMEOUTS, |timeouts| {
        timeouts.time_to("fetch", &mut config.timeouts.fetch);
        timeouts.time_to("git", &mut config.git_timeout);
        let mut unit = config.unit_timeout.unwrap_or(Duration::MAX);
        timeouts.time_to("unit", &mut unit);
        if unit.is_zero() {
            timeouts.wrong("unit", "expected a duration of 1s or more");
        }
        config.unit_timeout = Some(unit).filter(|unit| *unit < Duration::MAX);
    });
    config.prefetch = file.truth("prefetch").unwrap_or(config.prefetch);
    config.resume_on_start = file.truth("resumeOnStart").unwrap_or(config.resume_on_start);
    file.section("retention", &keys::RETENTION, |retention| {
        let tasks = retention.number("tasks", 0, i128::from(u64::MAX));
        config.retention.tasks = tasks.unwrap_or(config.retention.tasks);
        let days = retention.count("days", 0, u32::MAX);
        config.retention.age = days.map(|days| Duration::from_hours(24) * days).or(config.retention.age);
    });
    file.section("notify", &keys::NOTIFY, |notify| notify.program_to("command", &mut config.notify));
    file.section("engines", &keys::ENGINES, |engines| {
        engines.path_to("podman", &mut config.podman);
        engines.path_to("docker", &mut config.docker);
    });
    if file.truth("systemd") == Some(false) {
        config.systemd = None;
    }
    file.time_to("shutdownGrace", &mut config.shutdown_grace);
}

impl Fields<'_, '_> {
    fn path_to(&mut self, key: &str, to: &mut PathBuf) {
        if let Some(path) = self.text(key) {
            *to = path.value.into();
        }
    }

    fn list(&mut self, key: &str) -> Option<Vec<String>> {
        Some(self.texts(key)?.into_iter().map(|text| text.value).collect())
    }

    fn list_to(&mut self, key: &str, to: &mut Vec<String>) {
        if let Some(list) = self.list(key) {
            *to = list;
        }
    }

    fn time_to(&mut self, key: &str, to: &mut Duration) {
        let Some(text) = self.text(key) else { return };
        match duration(&text.value) {
            Some(time) => *to = time,
            None => self.wrong(key, "expected a duration: a number and a unit, for example 30s or 10m"),
        }
    }

    fn size_to(&mut self, key: &str, to: &mut u64) {
        let Some(node) = self.get(key) else { return };
        if node.integer().is_some() {
            *to = self.number(key, 0, i128::from(u64::MAX)).unwrap_or(*to);
        } else if let Some(text) = self.text(key) {
            match size(&text.value) {
                Some(bytes) => *to = bytes,
                None => self.wrong(key, "expected a size, for example 512M or 4G"),
            }
        }
    }

    fn permits_to(&mut self, key: &str, to: &mut usize) {
        let Some(permits) = self.number(key, 1, i128::from(u64::MAX)) else { return };
        *to = usize::try_from(permits).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS);
    }

    /// A command with the whole path of its program; an empty list is none.
    fn program_to(&mut self, key: &str, to: &mut Vec<String>) {
        if self.get(key).is_some_and(Node::is_empty_list) {
            to.clear();
            return;
        }
        let Some(command) = self.command(key) else { return };
        if command.first().is_some_and(|program| program.starts_with('/')) {
            *to = command;
        } else {
            self.wrong(key, "expected a program with its whole path, and its arguments");
        }
    }

    /// What is empty was told of by the section that holds it.
    fn wrong(&mut self, key: &str, text: &str) {
        if self.is_empty(key) {
            return;
        }
        let path = self.path_of(key);
        let place = self.get(key).map_or(self.place, |node| node.place);
        self.mistakes.add(place, &path, text);
    }
}
