//! The name by which a plan finds a commit in a repository: a branch or a tag.

use std::fmt;

/// Which name of a repository leads to the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `compileRepoBranch`
    Branch(String),
    /// `compileRepoTag`
    Tag(String),
}

impl Reference {
    /// The branch's or tag's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Tag(name) => name,
        }
    }

    /// The key of a plan's item that names it.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Branch(_) => "compileRepoBranch",
            Self::Tag(_) => "compileRepoTag",
        }
    }

    /// Checks the name by git's rules.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check(&self) -> Result<(), String> {
        let (kind, name) = match self {
            Self::Branch(name) => ("branch", name),
            Self::Tag(name) => ("tag", name),
        };
        let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
        if name.is_empty() || name == "@" {
            return Err(format!("`{name}` cannot be the name of a {kind}"));
        }
        if name.starts_with('-') {
            return Err(format!("a {kind} does not begin with `-`"));
        }
        if let Some(c) = name.chars().find(|&c| bad(c)) {
            return Err(format!("a {kind} can't contain {c:?}"));
        }
        for forbidden in ["..", "@{", "//"] {
            if name.contains(forbidden) {
                return Err(format!("a {kind} can't contain `{forbidden}`"));
            }
        }
        let part_is_bad = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if name.ends_with('.') || name.split('/').any(part_is_bad) {
            let text = "is empty, begins with `.`, or ends with `.` or `.lock`";
            return Err(format!("no part of a {kind} {text}"));
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
        }
    }
}
