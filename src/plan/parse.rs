//! A plan's file, read with the position of everything, and its shape checked.

use crate::mistake::Mistake;
use crate::reading::{Key, Mistakes, get};
use crate::yaml::{self, Node, Place, Spanned, join};

/// A longer file is refused.
pub const MAX_BYTES: usize = 16 << 20;
/// More items are refused.
pub const MAX_ITEMS: usize = 100_000;

/// The keys of a plan, each with what to do instead of leaving its value empty.
pub const PLAN_KEYS: [Key; 2] =
    [Key::or_empty("comment"), Key::new("deployPlanItems", "list at least one item")];

/// The keys of an item.
pub const ITEM_KEYS: [Key; 11] = [
    Key::new("serviceId", "write the service's number in the catalog"),
    Key::new("deployment", "write START, STOP, RESTART, HTTP_UPLOAD_DEPLOY or COMPILE_DEPLOY"),
    Key::new("priority", "remove the key for priority 0"),
    Key::new("containerExecMethod", "remove the key for SEQUENTIAL"),
    Key::new("deployLabel", "remove the key to choose all containers"),
    Key::new("httpSrcUri", "write the package's address; only HTTP_UPLOAD_DEPLOY needs the key"),
    Key::new("httpSrcSha256", "remove the key to deploy the package without checking what it hashes to"),
    Key::new("compileRepoPath", "write the repository; only COMPILE_DEPLOY needs the key"),
    Key::new("compileRepoBranch", "write the branch; only COMPILE_DEPLOY needs the key"),
    Key::new("compileRepoTag", "write the tag, or remove the key to build a branch"),
    Key::new("compileRepoCommit", "remove the key to build the tip of the branch, or the commit of the tag"),
];

/// A plan as written: the types are right, the rules are not checked yet.
#[derive(Debug, Clone, Default)]
pub struct RawPlan {
    /// `comment`
    pub comment: Option<String>,
    /// `deployPlanItems`
    pub items: Vec<RawItem>,
}

/// An item as written.
#[derive(Debug, Clone, Default)]
pub struct RawItem {
    /// Where it begins.
    pub place: Place,
    /// Its place in the list.
    pub index: usize,
    /// `serviceId`
    pub service: Option<Spanned<u64>>,
    /// `deployment`
    pub deployment: Option<Spanned<String>>,
    /// `priority`
    pub priority: Option<Spanned<i64>>,
    /// `containerExecMethod`
    pub order: Option<Spanned<String>>,
    /// `deployLabel`
    pub labels: Option<Spanned<String>>,
    /// `httpSrcUri`
    pub uri: Option<Spanned<String>>,
    /// `httpSrcSha256`
    pub sha256: Option<Spanned<String>>,
    /// `compileRepoPath`
    pub repository: Option<Spanned<String>>,
    /// `compileRepoBranch`
    pub branch: Option<Spanned<String>>,
    /// `compileRepoTag`
    pub tag: Option<Spanned<String>>,
    /// `compileRepoCommit`
    pub commit: Option<Spanned<String>>,
    /// Keys without a value, or with one of the wrong type: that they are missing is no further mistake.
    pub broken: Vec<&'static str>,
}

impl RawItem {
    /// The path of one of its keys.
    pub fn path(&self, key: &str) -> String {
        join(&format!("deployPlanItems[{}]", self.index), key)
    }
}

/// Reads a plan as far as possible: what is right, and all mistakes of its shape.
pub fn parse(text: &[u8]) -> (RawPlan, Vec<Mistake>) {
    let root = match yaml::parse(text, MAX_BYTES) {
        Ok(root) => root,
        Err(mistakes) => return (RawPlan::default(), mistakes),
    };
    let mut mistakes = Mistakes::default();
    let plan = plan(&root, &mut mistakes);
    (plan, mistakes.or(()).err().unwrap_or_default())
}

fn plan(root: &Node, mistakes: &mut Mistakes) -> RawPlan {
    let mut plan = RawPlan::default();
    let Some(entries) = mistakes.root(root, &PLAN_KEYS) else { return plan };
    if let Some(node) = get(entries, "comment") {
        plan.comment = mistakes.scalar(node, "comment").map(|comment| comment.value);
    }
    let Some(node) = get(entries, "deployPlanItems") else {
        mistakes.add(root.place, "", "`deployPlanItems` is missing: the list of what the plan does");
        return plan;
    };
    let Some(nodes) = mistakes.list(node, "deployPlanItems") else { return plan };
    if nodes.is_empty() {
        mistakes.add(node.place, "deployPlanItems", "the list is empty; a plan needs at least one item");
    }
    if nodes.len() > MAX_ITEMS {
        let text = format!("{} items; at most {MAX_ITEMS} are allowed", nodes.len());
        mistakes.add(node.place, "deployPlanItems", text);
        return plan;
    }
    plan.items = nodes.iter().enumerate().filter_map(|(index, node)| item(index, node, mistakes)).collect();
    plan
}

fn item(index: usize, node: &Node, mistakes: &mut Mistakes) -> Option<RawItem> {
    let path = format!("deployPlanItems[{index}]");
    let entries = mistakes.map(node, &path, &ITEM_KEYS)?;
    let mut item = RawItem { place: node.place, index, ..RawItem::default() };
    for (key, node) in entries {
        let Some(key) = ITEM_KEYS.iter().map(|known| known.name).find(|known| **known == key.value) else {
            continue;
        };
        let path = join(&path, key);
        let is_read = match key {
            "serviceId" => {
                let id = mistakes.integer(node, &path, 1, i128::from(i64::MAX));
                item.service = id.and_then(|id| spanned(id.place, u64::try_from(id.value).ok()));
                item.service.is_some()
            }
            "priority" => {
                let priority = mistakes.integer(node, &path, i128::from(i64::MIN), i128::from(i64::MAX));
                item.priority = priority.and_then(|it| spanned(it.place, i64::try_from(it.value).ok()));
                item.priority.is_some()
            }
            _ => {
                // Labels, hashes and commits may look like numbers: they are taken as written.
                let text = item.text_of(key);
                *text = mistakes.scalar(node, &path);
                text.is_some()
            }
        };
        if !is_read {
            item.broken.push(key);
        }
    }
    Some(item)
}

fn spanned<T>(place: Place, value: Option<T>) -> Option<Spanned<T>> {
    value.map(|value| Spanned { place, value })
}

impl RawItem {
    fn text_of(&mut self, key: &str) -> &mut Option<Spanned<String>> {
        match key {
            "deployment" => &mut self.deployment,
            "containerExecMethod" => &mut self.order,
            "deployLabel" => &mut self.labels,
            "httpSrcUri" => &mut self.uri,
            "httpSrcSha256" => &mut self.sha256,
            "compileRepoPath" => &mut self.repository,
            "compileRepoBranch" => &mut self.branch,
            "compileRepoTag" => &mut self.tag,
            _ => &mut self.commit,
        }
    }
}
