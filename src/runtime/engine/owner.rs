//! Whose containers and volumes an engine has: what deployd makes says so in labels.

use std::collections::BTreeMap;
use std::path::Path;

/// Whose it is: the container's directory, which no other daemon has.
pub const OWNER: &str = "io.deployd.container";
/// The operation that started a container.
pub const OPERATION: &str = "io.deployd.operation";
/// The release that a container runs.
pub const RELEASE: &str = "io.deployd.release";

type Labels = BTreeMap<String, String>;

/// The labels that say whose something is: that of the container with the directory `own`.
pub fn labels(own: &Path) -> Labels {
    BTreeMap::from([(OWNER.to_string(), own.to_string_lossy().into_owned())])
}

/// Whether something with these labels belongs to the container with the directory `own`.
pub fn is_ours(found: &Labels, own: &Path) -> bool {
    labels(own).iter().all(|(name, value)| found.get(name) == Some(value))
}

/// What a label says; `None` when it is missing or empty.
pub fn said(found: &Labels, name: &str) -> Option<String> {
    found.get(name).filter(|text| !text.is_empty()).cloned()
}
