//! A plan that the daemon writes: YAML with remarks for whoever reviews it.

use std::fmt::{self, Write as _};

use super::{Item, Way};

/// A plan that is to be reviewed and executed by somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Its comment.
    pub comment: String,
    /// What stands above it.
    pub remarks: Vec<String>,
    /// Its items.
    pub items: Vec<DraftItem>,
}

/// An item, and what stands above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftItem {
    /// The service's name.
    pub service: String,
    /// The item.
    pub item: Item,
    /// What is to be said of it.
    pub remarks: Vec<String>,
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remarks.iter().try_for_each(|remark| writeln!(f, "# {}", plain(remark)))?;
        writeln!(f, "comment: {}\ndeployPlanItems:", quoted(&self.comment))?;
        self.items.iter().try_for_each(|item| write!(f, "{item}"))
    }
}

impl fmt::Display for DraftItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let item = &self.item;
        self.remarks.iter().try_for_each(|remark| writeln!(f, "  # {}", plain(remark)))?;
        writeln!(f, "  - serviceId: {} # {}", item.service, plain(&self.service))?;
        writeln!(f, "    priority: {}", item.priority)?;
        writeln!(f, "    deployment: {}", item.way.name())?;
        writeln!(f, "    containerExecMethod: {}", item.order.name())?;
        if !item.labels.is_empty() {
            let labels: Vec<&str> = item.labels.iter().map(|label| &*label.0).collect();
            writeln!(f, "    deployLabel: {}", quoted(&labels.join(",")))?;
        }
        let mut key = |name: &str, value: &str| writeln!(f, "    {name}: {}", quoted(value));
        match &item.way {
            Way::Start | Way::Stop | Way::Restart => Ok(()),
            Way::HttpUpload { uri, sha256 } => {
                key("httpSrcUri", uri.reveal())?;
                sha256.as_ref().map_or(Ok(()), |sha256| key("httpSrcSha256", sha256))
            }
            Way::Compile { repository, branch, commit } => {
                key("compileRepoPath", repository.reveal())?;
                key("compileRepoBranch", branch)?;
                commit.as_ref().map_or(Ok(()), |commit| key("compileRepoCommit", commit))
            }
        }
    }
}

/// A scalar in double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // As YAML writes what is not printable; what is beyond its planes never is.
            c if !is_plain(c) => write!(quoted, "\\U{:08x}", u32::from(c)).unwrap_or_default(),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A remark: one line, whatever is in it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect()
}

/// Neither a control character nor one that ends a line or turns the direction of text.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}'..='\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Label, ServiceId};
    use crate::plan::ContainerOrder;
    use crate::yaml::{self, Kind};

    #[test]
    fn whatever_is_in_it_is_read_as_it_was_meant() {
        let nasty = "a: \"b\" \\ # c\n- d\t\u{85}\u{2028}\u{202e}\u{7f}\u{0}{e}";
        let item = Item {
            service: ServiceId::new(7).unwrap(),
            priority: i64::MIN,
            way: Way::HttpUpload { uri: "http://h/'x\"#?".into(), sha256: Some("0123".into()) },
            order: ContainerOrder::Parallel,
            labels: vec![Label("true".into()), Label("a \"b\"".into())],
        };
        let item = DraftItem { service: "s\nx: y".into(), item, remarks: vec![nasty.into()] };
        let draft = Draft { comment: nasty.into(), remarks: vec![nasty.into()], items: vec![item] };
        let text = draft.to_string();
        let (raw, mistakes) = crate::plan::parse::parse(text.as_bytes());
        assert!(mistakes.is_empty(), "{text}{mistakes:?}");
        assert_eq!(raw.comment.as_deref(), Some(nasty));
        let read = &raw.items[0];
        assert_eq!(read.priority.as_ref().unwrap().value, i64::MIN);
        assert_eq!(read.labels.as_ref().unwrap().value, "true,a \"b\"");
        assert_eq!(read.uri.as_ref().unwrap().value, "http://h/'x\"#?");
        assert_eq!(read.sha256.as_ref().unwrap().value, "0123");
        assert!(matches!(yaml::parse(text.as_bytes(), 1 << 20).unwrap().kind, Kind::Map(_)));
    }
}
