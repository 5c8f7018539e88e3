//! The rules of a plan, checked against the catalog: all mistakes at once.

use std::collections::HashMap;

use super::parse::{ITEM_KEYS, RawItem, RawPlan, parse};
use super::{ContainerOrder, Item, Plan, Way, address};
use crate::catalog::{Catalog, Label, Service, ServiceId};
use crate::mistake::{Mistake, similar};
use crate::reading::{Key, Mistakes};
use crate::yaml::{Place, Spanned};

pub use super::address::{
    Policy, Repository, check_package_uri, file_path, is_allowed_file, is_repository_name, resolve_repository,
};

/// The ways of release, as they are spelt.
pub const WAYS: [&str; 5] = ["START", "STOP", "RESTART", "HTTP_UPLOAD_DEPLOY", "COMPILE_DEPLOY"];
const ORDERS: [&str; 2] = ["PARALLEL", "SEQUENTIAL"];

/// Reads and checks a plan.
///
/// # Errors
/// All its mistakes, in the order of the file.
pub fn read(text: &[u8], catalog: &Catalog, policy: &Policy) -> Result<Plan, Vec<Mistake>> {
    let (raw, shape) = parse(text);
    let mut mistakes = Mistakes::default();
    mistakes.extend(shape);
    let checker = Checker { catalog, policy };
    let items: Vec<Item> = raw.items.iter().filter_map(|item| checker.item(item, &mut mistakes)).collect();
    refuse_twice_in_a_batch(&raw, &mut mistakes);
    mistakes.or(Plan { comment: raw.comment, items })
}

/// The same service twice in one batch would be released twice at the same time.
fn refuse_twice_in_a_batch(raw: &RawPlan, mistakes: &mut Mistakes) {
    let mut seen: HashMap<(u64, i64), Place> = HashMap::new();
    for item in &raw.items {
        let Some(service) = &item.service else { continue };
        if item.broken.contains(&"priority") {
            continue;
        }
        let priority = item.priority.as_ref().map_or(0, |priority| priority.value);
        if let Some(first) = seen.insert((service.value, priority), service.place) {
            let text = format!(
                "service {} stands twice in the batch of priority {priority}, first in line {}; \
                 give the two items different priorities",
                service.value, first.line
            );
            mistakes.add(service.place, &item.path("serviceId"), text);
        }
    }
}

struct Checker<'a> {
    catalog: &'a Catalog,
    policy: &'a Policy,
}

impl Checker<'_> {
    fn item(&self, raw: &RawItem, mistakes: &mut Mistakes) -> Option<Item> {
        let service = self.service(raw, mistakes);
        let order = order(raw, mistakes);
        let labels = labels(raw, service, mistakes);
        let way = self.way(raw, service, mistakes);
        Some(Item {
            service: service?.id,
            priority: raw.priority.as_ref().map_or(0, |priority| priority.value),
            way: way?,
            order: order?,
            labels: labels?,
        })
    }

    fn service(&self, raw: &RawItem, mistakes: &mut Mistakes) -> Option<&Service> {
        let id = required(
            raw,
            "serviceId",
            raw.service.as_ref(),
            "the service's number in the catalog",
            mistakes,
        )?;
        let found = ServiceId::new(id.value).and_then(|id| self.catalog.get(id));
        if found.is_none() {
            let text = format!("service {} is not in the catalog", id.value);
            mistakes.suggest(id.place, &raw.path("serviceId"), text, Some(self.known_services()));
        }
        found.map(|service| &**service)
    }

    fn known_services(&self) -> String {
        let mut services = self.catalog.services();
        let total = services.len();
        let few: Vec<_> =
            services.by_ref().take(8).map(|service| format!("{} ({})", service.id, service.name)).collect();
        match total {
            0 => "the catalog is empty: describe the service in a file of services.d".into(),
            1..=8 => format!("services: {}", few.join(", ")),
            _ => format!("services: {}, … ({total} in all)", few.join(", ")),
        }
    }

    fn way(&self, raw: &RawItem, service: Option<&Service>, mistakes: &mut Mistakes) -> Option<Way> {
        let written = required(raw, "deployment", raw.deployment.as_ref(), "one of the five ways", mistakes)?;
        match &*written.value {
            "START" => Some(Way::Start),
            "STOP" => Some(Way::Stop),
            "RESTART" => Some(Way::Restart),
            "HTTP_UPLOAD_DEPLOY" => self.http_upload(raw, mistakes),
            "COMPILE_DEPLOY" => self.compile(raw, service, mistakes),
            _ => {
                unknown_word(raw, "deployment", written, &WAYS, mistakes);
                None
            }
        }
    }

    fn http_upload(&self, raw: &RawItem, mistakes: &mut Mistakes) -> Option<Way> {
        let why = "HTTP_UPLOAD_DEPLOY needs the package's address";
        let uri = required(raw, "httpSrcUri", raw.uri.as_ref(), why, mistakes);
        if let Some(uri) = uri
            && let Err(error) = address::check_package_uri(&uri.value, self.policy)
        {
            mistakes.add(uri.place, &raw.path("httpSrcUri"), error);
        }
        let sha256 = raw.sha256.as_ref().map(|sha| (sha.place, sha.value.to_ascii_lowercase()));
        if let Some((place, sha)) = &sha256
            && (sha.len() != 64 || !is_hex(sha))
        {
            mistakes.add(*place, &raw.path("httpSrcSha256"), "a SHA-256 has 64 hexadecimal digits");
        }
        Some(Way::HttpUpload { uri: uri?.value.as_str().into(), sha256: sha256.map(|sha| sha.1) })
    }

    fn compile(&self, raw: &RawItem, service: Option<&Service>, mistakes: &mut Mistakes) -> Option<Way> {
        let why = "COMPILE_DEPLOY needs the Git repository";
        let repository = required(raw, "compileRepoPath", raw.repository.as_ref(), why, mistakes);
        if let Some(repository) = repository
            && let Err(error) = resolve_repository(&repository.value, self.policy)
        {
            mistakes.add(repository.place, &raw.path("compileRepoPath"), error);
        }
        let why = "COMPILE_DEPLOY needs the branch";
        let branch = required(raw, "compileRepoBranch", raw.branch.as_ref(), why, mistakes);
        if let Some(branch) = branch
            && let Err(error) = address::check_branch(&branch.value)
        {
            mistakes.add(branch.place, &raw.path("compileRepoBranch"), error);
        }
        let commit = raw.commit.as_ref().map(|commit| (commit.place, commit.value.to_ascii_lowercase()));
        if let Some((place, commit)) = &commit
            && (!(7..=40).contains(&commit.len()) || !is_hex(commit))
        {
            mistakes.add(*place, &raw.path("compileRepoCommit"), "a commit has 7 to 40 hexadecimal digits");
        }
        if let (Some(service), Some(written)) = (service, &raw.deployment)
            && service.build.is_none()
        {
            let text = format!("service {} ({}) has no `build` in the catalog", service.id, service.name);
            mistakes.add(written.place, &raw.path("deployment"), text);
        }
        let commit = commit.map(|commit| commit.1);
        Some(Way::Compile {
            repository: repository?.value.as_str().into(),
            branch: branch?.value.clone(),
            commit,
        })
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn required<'a, T>(
    raw: &RawItem,
    key: &str,
    value: Option<&'a Spanned<T>>,
    why: &str,
    mistakes: &mut Mistakes,
) -> Option<&'a Spanned<T>> {
    if value.is_none() && !raw.broken.contains(&key) {
        mistakes.add(raw.place, &raw.path(key), format!("`{key}` is missing: {why}"));
    }
    value
}

fn order(raw: &RawItem, mistakes: &mut Mistakes) -> Option<ContainerOrder> {
    match &raw.order {
        None => Some(ContainerOrder::default()),
        Some(written) => match &*written.value {
            "PARALLEL" => Some(ContainerOrder::Parallel),
            "SEQUENTIAL" => Some(ContainerOrder::Sequential),
            _ => {
                unknown_word(raw, "containerExecMethod", written, &ORDERS, mistakes);
                None
            }
        },
    }
}

fn unknown_word(
    raw: &RawItem,
    key: &str,
    written: &Spanned<String>,
    known: &[&str],
    mistakes: &mut Mistakes,
) {
    let suggestion = match similar(&written.value, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("possible: {}", known.join(", ")),
    };
    let text = format!("`{}` is not known here", written.value.escape_debug());
    mistakes.suggest(written.place, &raw.path(key), text, Some(suggestion));
}

fn labels(raw: &RawItem, service: Option<&Service>, mistakes: &mut Mistakes) -> Option<Vec<Label>> {
    let Some(written) = &raw.labels else { return Some(Vec::new()) };
    let path = raw.path("deployLabel");
    let mut labels = Vec::new();
    let parts = || written.value.split(',').map(str::trim);
    if parts().all(str::is_empty) {
        let text = ITEM_KEYS.iter().find(|key| key.name == "deployLabel").and_then(Key::emptiness);
        mistakes.add(written.place, &path, text.unwrap_or_default());
        return None;
    }
    for label in parts() {
        if label.is_empty() {
            let text = "one of the labels is empty: separate labels by one comma each";
            mistakes.add(written.place, &path, text);
            return None;
        }
        let label = Label(label.to_string());
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let service = service?;
    for label in &labels {
        if service.containers.iter().any(|container| container.has(label)) {
            continue;
        }
        let mut has: Vec<&str> = service
            .containers
            .iter()
            .flat_map(|container| &container.labels)
            .map(|label| &*label.0)
            .collect();
        has.sort_unstable();
        has.dedup();
        let suggestion = match similar(&label.0, &has) {
            Some(similar) => format!("did you mean `{similar}`?"),
            None if has.is_empty() => "its containers have no labels".into(),
            None => format!("its labels: {}", has.join(", ")),
        };
        let text =
            format!("no container of service {} has the label `{}`", service.name, label.0.escape_debug());
        mistakes.suggest(written.place, &path, text, Some(suggestion));
    }
    Some(labels)
}
