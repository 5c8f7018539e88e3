//! What the keys of a catalog file hold: durations, labels, variables, users, health checks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Host;
use crate::catalog::keys;
use crate::catalog::parse::{duration, is_inner_path, is_variable, variables};
use crate::catalog::{Container, Health, Label, Probe, Run};
use crate::reading::Fields;
use crate::yaml::{Kind, Node, Place, join};

/// Where the values stand in which variables may be named.
pub type Templates = Vec<(Place, String, String)>;

impl Fields<'_, '_> {
    /// `500ms`, `10s`, `1h30m`.
    pub(super) fn duration(&mut self, key: &str, default_millis: u64) -> Duration {
        let default = Duration::from_millis(default_millis);
        let Some(text) = self.text(key) else { return default };
        duration(&text.value).unwrap_or_else(|| {
            let path = self.path_of(key);
            let message = format!(
                "invalid duration `{}`: expected a number and a unit, for example 500ms, 10s or 1h30m",
                text.value.escape_debug()
            );
            self.mistakes.add(text.place, &path, message);
            default
        })
    }

    pub(super) fn labels(&mut self) -> Vec<Label> {
        let path = self.path_of("labels");
        let mut labels: Vec<Label> = Vec::new();
        for label in self.texts("labels").unwrap_or_default() {
            let text = label.value.trim();
            if text.contains(',') {
                let text = format!(
                    "a label cannot contain a comma: write `{}` as several labels",
                    label.value.escape_debug()
                );
                self.mistakes.add(label.place, &path, text);
            } else if !labels.iter().any(|known| known.0 == text) {
                labels.push(Label(text.to_string()));
            }
        }
        labels
    }

    pub(super) fn environment(&mut self, key: &str) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let Some(node) = self.get(key) else { return environment };
        let path = self.path_of(key);
        let Kind::Map(entries) = &node.kind else {
            self.mistakes.expected("variables and their values", node, &path);
            return environment;
        };
        for (name, value) in entries {
            let path = join(&path, &name.value);
            if !is_variable(&name.value) {
                self.mistakes.add(name.place, &path, "a variable is made of letters, digits and _");
            } else if name.value.starts_with("DEPLOYD_") {
                self.mistakes.add(name.place, &path, "variables that begin with DEPLOYD_ are set by deployd");
            }
            match &value.kind {
                Kind::Scalar { .. } if value.is_null() => {
                    let variable = name.value.escape_debug();
                    let text = format!(
                        "{variable} is empty: remove the variable, or write `{variable}: \"\"` for the empty string"
                    );
                    self.mistakes.add(name.place, &path, text);
                }
                // Numbers and truth values are their text as written: `1.10` stays `1.10`.
                Kind::Scalar { text, .. } => {
                    environment.insert(name.value.clone(), text.clone());
                }
                _ => self.mistakes.expected("text", value, &path),
            }
        }
        environment
    }

    pub(super) fn shared_paths(&mut self) -> Vec<String> {
        let path = self.path_of("sharedPaths");
        let mut paths: Vec<String> = Vec::new();
        for (index, shared) in self.texts("sharedPaths").unwrap_or_default().into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let inside =
                |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            if !is_inner_path(&shared.value) {
                let text = "a shared path lies in the release: a relative path without `.` and `..`";
                self.mistakes.add(shared.place, &path, text);
            } else if paths.iter().any(|other| inside(&shared.value, other) || inside(other, &shared.value)) {
                self.mistakes.add(shared.place, &path, "it lies in another shared path, or is the same");
            } else {
                paths.push(shared.value);
            }
        }
        paths
    }

    /// `user`: whom the daemon may become. The outer `None` is a mistake.
    pub(super) fn user(&mut self, host: &Host<'_>, required_for_root: bool) -> Option<Option<String>> {
        let path = self.path_of("user");
        match self.text("user") {
            None if self.is_empty("user") => None,
            None if host.is_root && required_for_root => {
                let text = "`user` is missing: a daemon that is root starts nothing as root unless `user: root` stands here";
                self.mistakes.add(self.place, &path, text);
                None
            }
            None => Some(None),
            Some(user) if !host.is_root && user.value != host.user => {
                let text = format!(
                    "deployd runs as {}, so it can't start anything as {}; leave `user` out, or run deployd as root",
                    host.user,
                    user.value.escape_debug()
                );
                self.mistakes.add(user.place, &path, text);
                None
            }
            Some(user) if !(host.has_user)(&user.value) => {
                let text =
                    format!("there is no user `{}` on this host; create it first", user.value.escape_debug());
                self.mistakes.add(user.place, &path, text);
                None
            }
            Some(user) => Some(Some(user.value)),
        }
    }

    pub(super) fn health(&mut self) -> Option<(Health, Templates)> {
        let default = Health {
            probe: None,
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            settle: Duration::from_secs(1),
        };
        if self.get("health").is_none() {
            return Some((default, Vec::new()));
        }
        self.section("health", &keys::HEALTH, |health| {
            let asked = ["http", "tcp", "command"];
            if asked.iter().filter(|key| health.get(key).is_some()).count() > 1 {
                let text = "only one of http, tcp and command can be asked";
                let path = health.path.clone();
                health.mistakes.add(health.place, &path, text);
            }
            let probe = health.probe();
            let templates = asked.iter().flat_map(|key| health.templates(key)).collect();
            let interval = health.duration("interval", 500).max(Duration::from_millis(10));
            let timeout = health.duration("timeout", 30_000);
            let settle = health.duration("settle", 1_000);
            (Health { probe, interval, timeout, settle }, templates)
        })
    }

    fn probe(&mut self) -> Option<Probe> {
        if let Some(url) = self.text("http") {
            if !url.value.starts_with("http://") && !url.value.starts_with("https://") {
                let path = self.path_of("http");
                self.mistakes.add(url.place, &path, "the address begins with http:// or https://");
            }
            return Some(Probe::Http(url.value.into()));
        }
        if let Some(address) = self.text("tcp") {
            if address.value.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.is_empty()) {
                let path = self.path_of("tcp");
                self.mistakes.add(address.place, &path, "the address is host:port");
            }
            return Some(Probe::Tcp(address.value.into()));
        }
        self.command("command").map(Probe::Command)
    }

    /// The texts under a key, with their places and paths.
    pub(super) fn templates(&mut self, key: &str) -> Templates {
        let Some(node) = self.get(key) else { return Vec::new() };
        let path = self.path_of(key);
        let nodes = match &node.kind {
            Kind::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let text = |node: &Node| match &node.kind {
            Kind::Scalar { text, .. } => Some((node.place, path.clone(), text.clone())),
            _ => None,
        };
        nodes.iter().filter_map(text).collect()
    }

    /// Each `${VAR}` must be set in every container, unless a file that is read later may set it.
    pub(super) fn check_variables(
        &mut self,
        run: &Run,
        containers: &[(Place, Container)],
        health: Option<&(Health, Templates)>,
        templates: &Templates,
    ) {
        let all = templates.iter().chain(health.into_iter().flat_map(|health| &health.1));
        for (place, path, template) in all {
            let names = match variables(template) {
                Ok(names) => names,
                Err(error) => {
                    self.mistakes.add(*place, path, error);
                    continue;
                }
            };
            for name in names {
                let known = |container: &Container| {
                    name.starts_with("DEPLOYD_")
                        || matches!(name, "PATH" | "HOME" | "USER" | "LOGNAME")
                        || run.environment_file.is_some()
                        || run.environment.contains_key(name)
                        || container.environment.contains_key(name)
                };
                if let Some((_, container)) = containers.iter().find(|container| !known(&container.1)) {
                    let text = format!(
                        "${{{name}}} is set neither in run.environment nor in container {}",
                        container.name
                    );
                    self.mistakes.add(*place, path, text);
                }
            }
        }
    }
}
