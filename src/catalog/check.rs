//! The catalog's files, read and checked: all services, or all mistakes of all files.

mod fields;
mod run;

use std::collections::HashMap;

use super::generated_name;
use super::parse::is_name;
use super::{Build, Catalog, Container, Engine, Hooks, RuntimeKind, Service, ServiceId};
use crate::mistake::{FileMistake, similar};
use crate::reading::{Entries, Mistakes, get};
use crate::yaml::{self, Place, Spanned};
use fields::Fields;

/// A longer file is refused.
const MAX_BYTES: usize = 1 << 20;

const SERVICE_KEYS: [&str; 12] = [
    "serviceId",
    "name",
    "description",
    "runtime",
    "containers",
    "run",
    "health",
    "build",
    "hooks",
    "sharedPaths",
    "releases",
    "stripComponents",
];
const RUNTIMES: [&str; 5] = ["auto", "process", "systemd", "podman", "docker"];

/// A file of the catalog.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name, for messages.
    pub file: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// What the rules have to know of the host.
pub struct Host<'a> {
    /// The daemon is root.
    pub is_root: bool,
    /// The daemon's own user.
    pub user: String,
    /// Whether systemd runs here, as the one that the daemon drives.
    pub has_systemd: bool,
    /// Whether there is such a user.
    pub has_user: &'a dyn Fn(&str) -> bool,
}

impl Host<'_> {
    /// The runtime of whoever does not choose one; builds have what it can do.
    const fn best_runtime(&self) -> RuntimeKind {
        if self.has_systemd { RuntimeKind::Systemd } else { RuntimeKind::Process }
    }
}

/// Reads the catalog.
///
/// # Errors
/// All mistakes of all files, by file and place.
pub fn read(sources: &[Source], host: &Host<'_>) -> Result<Catalog, Vec<FileMistake>> {
    let mut services = Vec::new();
    let mut mistakes = Vec::new();
    let mut unique = Unique::default();
    for source in sources {
        let mut found = Mistakes::default();
        match yaml::parse(&source.text, MAX_BYTES) {
            Ok(root) => {
                if let Some(entries) = found.map(&root, "", &SERVICE_KEYS) {
                    unique.check(entries, &source.file, &mut found);
                    if let Some(service) = service(root.place, entries, host, &mut found) {
                        unique.check_names(root.place, &service, &source.file, &mut found);
                        services.push(service);
                    }
                }
            }
            Err(errors) => found.extend(errors),
        }
        let found = found.or(()).err().unwrap_or_default();
        let file = &source.file;
        mistakes.extend(found.into_iter().map(|mistake| FileMistake { file: file.clone(), mistake }));
    }
    if mistakes.is_empty() { Ok(Catalog::new(services)) } else { Err(mistakes) }
}

/// Ids and names of services, and where they stand.
#[derive(Default)]
struct Unique {
    seen: HashMap<(&'static str, String), String>,
}

impl Unique {
    fn check(&mut self, entries: Entries<'_>, file: &str, mistakes: &mut Mistakes) {
        for key in ["serviceId", "name"] {
            let Some(node) = get(entries, key) else { continue };
            let crate::yaml::Kind::Scalar { text, .. } = &node.kind else { continue };
            if let Some(other) = self.seen.insert((key, text.clone()), file.to_string()) {
                let text = format!("{key} {} stands in {other} already", text.escape_debug());
                mistakes.add(node.place, key, text);
            }
        }
    }
}

impl Unique {
    /// Two containers with one unit, or with one name at an engine, would start and stop each other.
    fn check_names(&mut self, place: Place, service: &Service, file: &str, mistakes: &mut Mistakes) {
        for (index, container) in service.containers.iter().enumerate() {
            let generated = || generated_name(&service.name, &container.name);
            let (what, name) = match service.runtime {
                RuntimeKind::Process => continue,
                RuntimeKind::Systemd => {
                    ("unit", container.unit.clone().unwrap_or_else(|| format!("{}.service", generated())))
                }
                RuntimeKind::Engine(engine) => (engine.name(), generated()),
            };
            if let Some(other) = self.seen.insert((what, name.clone()), file.to_string()) {
                let text = format!("{what} {name} belongs to another container already, in {other}");
                mistakes.add(place, &format!("containers[{index}]"), text);
            }
        }
    }
}

fn service(place: Place, entries: Entries<'_>, host: &Host<'_>, mistakes: &mut Mistakes) -> Option<Service> {
    let mut fields = Fields { place, path: String::new(), entries, mistakes };
    let id = fields.required("serviceId").and_then(|node| {
        let id = fields.mistakes.integer(node, "serviceId", 1, i128::from(i64::MAX))?;
        ServiceId::new(u64::try_from(id.value).ok()?)
    });
    let name = fields.required_text("name");
    check_name(name.as_ref(), "name", fields.mistakes);
    let description = fields.text("description").map(|text| text.value);
    let runtime = runtime(&mut fields, host);
    let keep_releases = fields.section("releases", &["keep"], |releases| releases.number("keep", 1, 10_000));
    let strip_components = fields.number("stripComponents", 0, 16);
    let shared_paths = fields.shared_paths();
    let containers = containers(&mut fields, runtime);
    let units_only = containers.iter().flatten().all(|(_, container)| container.unit.is_some());
    let run = if units_only && get(fields.entries, "run").is_none() {
        fields.units_only();
        Some(None)
    } else {
        fields.run(host, runtime).map(Some)
    };
    let health = fields.health();
    let build = build(&mut fields, host);
    let hooks = hooks(&mut fields);
    let containers = containers?;
    if let Some(Some((run, places))) = &run {
        fields.check_variables(run, &containers, health.as_ref(), places);
    }
    Some(Service {
        id: id?,
        name: name?.value,
        description,
        runtime: runtime?,
        containers: containers.into_iter().map(|container| container.1).collect(),
        run: run?.map(|run| run.0),
        health: health?.0,
        build: build?,
        hooks: hooks?,
        shared_paths,
        keep_releases: keep_releases.flatten().unwrap_or(5),
        strip_components: strip_components.unwrap_or(0),
    })
}

fn check_name(name: Option<&Spanned<String>>, path: &str, mistakes: &mut Mistakes) {
    if let Some(name) = name
        && !is_name(&name.value)
    {
        let text = format!(
            "`{}` is no name: 1 to 63 of a-z, 0-9 and -, not beginning with -",
            name.value.escape_debug()
        );
        mistakes.add(name.place, path, text);
    }
}

fn runtime(fields: &mut Fields<'_, '_>, host: &Host<'_>) -> Option<RuntimeKind> {
    let auto = host.best_runtime();
    let Some(written) = fields.text("runtime") else { return Some(auto) };
    match &*written.value {
        "auto" => Some(auto),
        "process" => Some(RuntimeKind::Process),
        "systemd" if host.has_systemd => Some(RuntimeKind::Systemd),
        "systemd" => {
            let text = "no systemd that deployd could drive runs here; use `process` or `auto`";
            fields.mistakes.add(written.place, "runtime", text);
            None
        }
        other => {
            if let Some(engine) = Engine::from_name(other) {
                return Some(RuntimeKind::Engine(engine));
            }
            let suggestion = match similar(other, &RUNTIMES) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("possible: {}", RUNTIMES.join(", ")),
            };
            let text = format!("`{}` is no runtime", other.escape_debug());
            fields.mistakes.suggest(written.place, "runtime", text, Some(suggestion));
            None
        }
    }
}

fn containers(fields: &mut Fields<'_, '_>, runtime: Option<RuntimeKind>) -> Option<Vec<(Place, Container)>> {
    let node = fields.required("containers")?;
    let nodes = fields.mistakes.list(node, "containers")?;
    if nodes.is_empty() {
        fields.mistakes.add(node.place, "containers", "a service has at least one container");
        return None;
    }
    let mut names: HashMap<String, u32> = HashMap::new();
    let mut containers = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let path = format!("containers[{index}]");
        let known = ["name", "labels", "environment", "unit"];
        let Some(entries) = fields.mistakes.map(node, &path, &known) else { continue };
        let mut fields = Fields { place: node.place, path, entries, mistakes: fields.mistakes };
        let unit = fields.unit(runtime);
        let name = fields.required_text("name");
        let path = fields.path_of("name");
        check_name(name.as_ref(), &path, fields.mistakes);
        let labels = fields.labels();
        let environment = fields.environment("environment");
        let Some(name) = name else { continue };
        if let Some(first) = names.insert(name.value.clone(), name.place.line) {
            let text = format!("container {} stands in line {first} already", name.value.escape_debug());
            fields.mistakes.add(name.place, &path, text);
        }
        containers.push((node.place, Container { name: name.value, labels, environment, unit }));
    }
    Some(containers)
}

fn build(fields: &mut Fields<'_, '_>, host: &Host<'_>) -> Option<Option<Build>> {
    if get(fields.entries, "build").is_none() {
        return Some(None);
    }
    let known = ["command", "output", "timeout", "environment", "user", "network", "limits"];
    fields
        .section("build", &known, |build| {
            let command = build.command("command", true);
            let user = build.user(host, false);
            let output = build.required_text("output");
            if let Some(output) = &output
                && !super::parse::is_inner_path(&output.value)
            {
                let text = "the output lies in the checkout: a relative path without `.` and `..`";
                let path = build.path_of("output");
                build.mistakes.add(output.place, &path, text);
            }
            let timeout = build.duration("timeout", 30 * 60_000);
            let environment = build.environment("environment");
            let (network, limits) = (build.truth("network"), build.limits(Some(host.best_runtime())));
            let (command, user, output) = (command?, user?, output?.value);
            Some(Build { command, user, output, timeout, environment, network, limits })
        })?
        .map(Some)
}

fn hooks(fields: &mut Fields<'_, '_>) -> Option<Hooks> {
    if get(fields.entries, "hooks").is_none() {
        return Some(Hooks::default());
    }
    fields.section("hooks", &["preDeploy", "postDeploy"], |hooks| Hooks {
        pre_deploy: hooks.command("preDeploy", false),
        post_deploy: hooks.command("postDeploy", false),
    })
}
