//! A plan's file, read with the position of everything, and its shape checked.

use crate::mistake::Mistake;
use crate::reading::{Mistakes, get};
use crate::yaml::{self, Kind, Meaning, Node, Place, Spanned, join};

/// A longer file is refused.
pub const MAX_BYTES: usize = 16 << 20;
/// More items are refused.
pub const MAX_ITEMS: usize = 100_000;

/// The keys of a plan.
const PLAN_KEYS: [&str; 2] = ["comment", "deployPlanItems"];

/// The keys of an item.
pub const ITEM_KEYS: [&str; 10] = [
    "serviceId",
    "deployment",
    "priority",
    "containerExecMethod",
    "deployLabel",
    "httpSrcUri",
    "httpSrcSha256",
    "compileRepoPath",
    "compileRepoBranch",
    "compileRepoCommit",
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
    /// `compileRepoCommit`
    pub commit: Option<Spanned<String>>,
    /// Keys whose values have the wrong type: that they are missing is no further mistake.
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
    let Some(entries) = mistakes.map(root, "", &PLAN_KEYS) else { return plan };
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
        let Some(&key) = ITEM_KEYS.iter().find(|known| **known == key.value) else { continue };
        let path = join(&path, key);
        let before = item.broken.len();
        match key {
            "serviceId" => match mistakes.integer(node, &path, 1, i128::from(i64::MAX)) {
                Some(id) => {
                    item.service =
                        u64::try_from(id.value).ok().map(|value| Spanned { place: id.place, value });
                }
                None => item.broken.push(key),
            },
            "priority" if node.meaning() == Meaning::Null => {}
            "priority" => match mistakes.integer(node, &path, i128::from(i64::MIN), i128::from(i64::MAX)) {
                Some(priority) => {
                    let value = i64::try_from(priority.value).ok();
                    item.priority = value.map(|value| Spanned { place: priority.place, value });
                }
                None => item.broken.push(key),
            },
            _ => {
                // Labels, hashes and commits may look like numbers: they are taken as written.
                let text = mistakes.scalar(node, &path);
                if text.is_none() && !matches!(node.kind, Kind::Scalar { .. }) {
                    item.broken.push(key);
                }
                *item.text_of(key) = text;
            }
        }
        debug_assert!(item.broken.len() <= before + 1);
    }
    Some(item)
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
            _ => &mut self.commit,
        }
    }
}
