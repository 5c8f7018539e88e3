//! How a container is run: `run`, or the unit that exists already.

use super::Host;
use super::fields::{Fields, Templates};
use crate::catalog::parse::{is_image, is_service_unit, percent, size};
use crate::catalog::{Limits, Run, RuntimeKind};
use crate::mistake::similar;
use crate::reading::get;

impl Fields<'_, '_> {
    /// The unit of a container: one that exists already.
    pub fn unit(&mut self, runtime: Option<RuntimeKind>) -> Option<String> {
        if matches!(runtime, Some(RuntimeKind::Process | RuntimeKind::Engine(_))) {
            self.needs("unit", "runtime systemd");
            return None;
        }
        let unit = self.text("unit")?;
        let path = self.path_of("unit");
        if matches!(&*unit.value, "deployd.service" | "deployd.socket") {
            self.mistakes.add(unit.place, &path, "deployd can't release itself");
        } else if !is_service_unit(&unit.value) {
            let text = format!(
                "`{}` is no service: NAME.service or NAME@INSTANCE.service",
                unit.value.escape_debug()
            );
            self.mistakes.add(unit.place, &path, text);
        }
        Some(unit.value)
    }

    /// Without `run` nothing says as whom commands of ours would run.
    pub fn units_only(&mut self) {
        if let Some(node) = get(self.entries, "hooks") {
            self.mistakes.add(node.place, "hooks", "hooks need `run`: its `user` is who runs them");
        }
        let health = get(self.entries, "health");
        if let Some(node) = health
            && let crate::yaml::Kind::Map(entries) = &node.kind
            && get(entries, "command").is_some()
        {
            self.mistakes.add(node.place, "health.command", "it needs `run`: its `user` is who runs it");
        }
    }

    fn needs(&mut self, key: &str, what: &str) {
        if let Some(node) = get(self.entries, key) {
            let path = self.path_of(key);
            self.mistakes.add(node.place, &path, format!("{key} needs {what}"));
        }
    }

    /// The image that an engine runs the command in.
    fn image(&mut self, runtime: Option<RuntimeKind>) -> Option<String> {
        let Some(RuntimeKind::Engine(engine)) = runtime else {
            if runtime.is_some() {
                self.needs("image", "runtime podman or docker");
            }
            return None;
        };
        let image = self.text("image");
        let path = self.path_of("image");
        match &image {
            None => {
                let text = format!("`image` is missing: {} runs the command in it", engine.name());
                self.mistakes.add(self.place, &path, text);
            }
            Some(image) if !is_image(&image.value) => {
                let text =
                    format!("`{}` is no image: NAME, NAME:TAG or NAME@DIGEST", image.value.escape_debug());
                self.mistakes.add(image.place, &path, text);
            }
            Some(_) => {}
        }
        image.map(|image| image.value)
    }

    pub fn run(&mut self, host: &Host<'_>, runtime: Option<RuntimeKind>) -> Option<(Run, Templates)> {
        if get(self.entries, "run").is_none() {
            let text = "`run` is missing: how a container is run";
            self.mistakes.add(self.place, "run", text);
            return None;
        }
        let known = [
            "command",
            "user",
            "environment",
            "environmentFile",
            "stopSignal",
            "stopTimeout",
            "limits",
            "image",
        ];
        self.section("run", &known, |run| {
            let image = run.image(runtime);
            let command = run.command("command", true);
            let user = run.user(host, true);
            let environment = run.environment("environment");
            let environment_file = run.text("environmentFile");
            if let Some(file) = &environment_file
                && !file.value.starts_with('/')
            {
                let path = run.path_of("environmentFile");
                run.mistakes.add(file.place, &path, "the environment file's path is absolute");
            }
            let stop_signal = run.signal();
            let stop_timeout = run.duration("stopTimeout", 10_000);
            let limits = run.limits(runtime);
            let templates = run.templates("command");
            let run = Run {
                command: command?,
                user: user?,
                environment,
                environment_file: environment_file.map(|file| file.value),
                stop_signal: stop_signal?,
                stop_timeout,
                limits,
                image,
            };
            Some((run, templates))
        })?
    }

    fn signal(&mut self) -> Option<String> {
        let Some(written) = self.text("stopSignal") else { return Some("SIGTERM".into()) };
        let names: Vec<&str> =
            nix::sys::signal::Signal::iterator().map(nix::sys::signal::Signal::as_str).collect();
        if names.contains(&&*written.value) {
            return Some(written.value);
        }
        let full = format!("SIG{}", written.value.to_ascii_uppercase().trim_start_matches("SIG"));
        let suggestion = similar(&full, &names).map(|name| format!("did you mean `{name}`?"));
        let path = self.path_of("stopSignal");
        let text = format!("`{}` is no signal", written.value.escape_debug());
        self.mistakes.suggest(written.place, &path, text, suggestion);
        None
    }

    pub fn limits(&mut self, runtime: Option<RuntimeKind>) -> Limits {
        let known = ["memoryMax", "cpuQuota", "tasksMax", "openFiles"];
        let limits = self.section("limits", &known, |limits| {
            if runtime == Some(RuntimeKind::Process) {
                for key in ["memoryMax", "cpuQuota", "tasksMax"] {
                    limits.needs(key, "runtime systemd, podman or docker");
                }
            }
            Limits {
                memory_max: limits.measure("memoryMax", "a size is written like 512M or 1G", size),
                cpu_quota: limits.measure(
                    "cpuQuota",
                    "a share of one processor is written like 50%",
                    percent,
                ),
                tasks_max: limits.number("tasksMax", 1, 1 << 30).map(u64::from),
                open_files: limits.number("openFiles", 16, 1 << 30).map(u64::from),
            }
        });
        limits.unwrap_or_default()
    }

    fn measure<T>(&mut self, key: &str, right: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        let value = read(&text.value);
        if value.is_none() {
            let path = self.path_of(key);
            self.mistakes.add(text.place, &path, right);
        }
        value
    }
}
