//! Reading a parsed file key by key: whatever is wrong is collected, and what is right is read on.

use crate::mistake::{MAX_MISTAKES, Mistake, similar};
use crate::yaml::{Kind, Meaning, Node, Place, Spanned, join};

/// Collects mistakes while a file is read.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

/// A map that is read key by key.
pub type Entries<'a> = &'a [(Spanned<String>, Node)];

impl Mistakes {
    /// Adds a mistake.
    pub fn add(&mut self, place: Place, path: &str, message: impl Into<String>) {
        self.suggest(place, path, message, None);
    }

    /// Adds a mistake with a suggestion.
    pub fn suggest(
        &mut self,
        place: Place,
        path: &str,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        if self.0.len() > MAX_MISTAKES {
            return;
        }
        let (line, column, path) = (place.line, place.column, path.to_string());
        self.0.push(Mistake { line, column, path, message: message.into(), suggestion });
        if self.0.len() == MAX_MISTAKES {
            let message = "there are more mistakes; they are shown when these are mended".into();
            self.0.push(Mistake { line, column, path: String::new(), message, suggestion: None });
        }
    }

    /// Adds mistakes found elsewhere.
    pub fn extend(&mut self, others: Vec<Mistake>) {
        self.0.extend(others);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` if there is no mistake, else all of them by place.
    pub fn or<T>(mut self, value: T) -> Result<T, Vec<Mistake>> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by_key(|mistake| (mistake.line, mistake.column));
        Err(self.0)
    }

    /// A map whose keys are all known.
    pub fn map<'a>(&mut self, node: &'a Node, path: &str, known: &[&str]) -> Option<Entries<'a>> {
        let Kind::Map(entries) = &node.kind else {
            self.add(
                node.place,
                path,
                format!("a map of keys and values must stand here, not {}", node.describe()),
            );
            return None;
        };
        for (key, _) in entries {
            if !known.contains(&&*key.value) {
                let suggestion = similar(&key.value, known).map(|key| format!("did you mean `{key}`?"));
                let suggestion = suggestion.or_else(|| Some(format!("known keys: {}", known.join(", "))));
                self.suggest(key.place, &join(path, &key.value), "unknown key", suggestion);
            }
        }
        Some(entries)
    }

    /// A list.
    pub fn list<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [Node]> {
        if let Kind::List(nodes) = &node.kind {
            return Some(nodes);
        }
        self.add(node.place, path, format!("a list must stand here, not {}", node.describe()));
        None
    }

    /// A scalar, taken as written. An empty one is `None` without a mistake.
    pub fn scalar(&mut self, node: &Node, path: &str) -> Option<Spanned<String>> {
        match &node.kind {
            Kind::Scalar { .. } if node.meaning() == Meaning::Null => None,
            Kind::Scalar { text, .. } => Some(Spanned { place: node.place, value: text.clone() }),
            _ => {
                self.add(node.place, path, format!("text must stand here, not {}", node.describe()));
                None
            }
        }
    }

    /// Text; a number or a truth value without quotes is a mistake.
    pub fn text(&mut self, node: &Node, path: &str) -> Option<Spanned<String>> {
        match node.meaning() {
            Meaning::Integer(_) | Meaning::Other(_) => {
                let text = format!("text must stand here, not {}; put it in quotes", node.describe());
                self.add(node.place, path, text);
                None
            }
            _ => self.scalar(node, path),
        }
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, node: &Node, path: &str, min: i128, max: i128) -> Option<Spanned<i128>> {
        match node.meaning() {
            Meaning::Integer(value) if (min..=max).contains(&value) => {
                Some(Spanned { place: node.place, value })
            }
            Meaning::Integer(value) => {
                self.add(node.place, path, format!("{value} is not between {min} and {max}"));
                None
            }
            _ => {
                self.add(
                    node.place,
                    path,
                    format!("a whole number must stand here, not {}", node.describe()),
                );
                None
            }
        }
    }
}

/// The value of a key.
pub fn get<'a>(entries: Entries<'a>, key: &str) -> Option<&'a Node> {
    entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node)
}
