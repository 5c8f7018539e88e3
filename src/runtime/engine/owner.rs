//! Whose containers and volumes an engine has: what deployd makes says so in labels.

use std::collections::BTreeMap;
use std::path::Path;

/// The container's directory.
pub const CONTAINER: &str = "io.deployd.container";
/// The identity of its daemon; versions that had none wrote no such label.
pub const INSTANCE: &str = "io.deployd.instance";
/// The epoch in which it was made.
pub const EPOCH: &str = "io.deployd.epoch";
/// The operation that started a container.
pub const OPERATION: &str = "io.deployd.operation";
/// The release that a container runs.
pub const RELEASE: &str = "io.deployd.release";

type Labels = BTreeMap<String, String>;

/// The labels that say whose something is: that of the container with the directory `own`.
pub fn labels(own: &Path) -> Labels {
    BTreeMap::from([(CONTAINER.to_string(), own.to_string_lossy().into_owned())])
}

/// Whether something with these labels belongs to the container with the directory `own`.
pub fn is_ours(found: &Labels, own: &Path) -> bool {
    labels(own).iter().all(|(name, value)| found.get(name) == Some(value))
}

/// What a label says; `None` when it is missing or empty.
pub fn said(found: &Labels, name: &str) -> Option<String> {
    found.get(name).filter(|text| !text.is_empty()).cloned()
}
