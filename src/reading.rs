//! Reading a parsed file key by key: whatever is wrong is collected, and what is right is read on.
//!
//! **Empty is an error.** A template that left a value out must not widen a plan or switch a check off. The map or
//! list that holds a value looks whether it is empty, and says what to do instead ([`Key::instead`]); whatever reads
//! the value afterwards passes over it in silence. So no reader can forget the rule, and no key can be declared
//! without saying what its absence means.

mod fields;

use crate::mistake::{MAX_MISTAKES, Mistake, similar};
use crate::yaml::{Kind, Node, Place, Spanned, join};

pub use fields::Fields;

/// Collects mistakes while a file is read.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

/// A map that is read key by key.
pub type Entries<'a> = &'a [(Spanned<String>, Node)];

/// A key that a file may have.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What to do instead of leaving its value empty; `None`: it may be empty.
    pub instead: Option<&'static str>,
}

impl Key {
    /// A key whose value must not be empty: "deployLabel is empty: INSTEAD".
    pub const fn new(name: &'static str, instead: &'static str) -> Self {
        Self { name, instead: Some(instead) }
    }

    /// A key whose value may be empty.
    pub const fn or_empty(name: &'static str) -> Self {
        Self { name, instead: None }
    }

    /// What is wrong with it when its value is empty.
    pub fn emptiness(&self) -> Option<String> {
        self.instead.map(|instead| format!("{} is empty: {instead}", self.name))
    }
}

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

    /// The map that a whole file is.
    pub fn root<'a>(&mut self, node: &'a Node, known: &[Key]) -> Option<Entries<'a>> {
        if node.is_empty() {
            self.add(node.place, "", "the file is empty: expected a map of keys and values");
        }
        self.map(node, "", known)
    }

    /// A map whose keys are all known, and none of them empty.
    pub fn map<'a>(&mut self, node: &'a Node, path: &str, known: &[Key]) -> Option<Entries<'a>> {
        let Kind::Map(entries) = &node.kind else {
            self.expected("a map of keys and values", node, path);
            return None;
        };
        for (key, value) in entries {
            let path = join(path, &key.value);
            let Some(known) = known.iter().find(|known| known.name == key.value) else {
                self.unknown(key, &path, known);
                continue;
            };
            if value.is_empty()
                && let Some(text) = known.emptiness()
            {
                self.add(key.place, &path, text);
            }
        }
        Some(entries)
    }

    fn unknown(&mut self, key: &Spanned<String>, path: &str, known: &[Key]) {
        let known: Vec<_> = known.iter().map(|known| known.name).collect();
        let suggestion = match similar(&key.value, &known) {
            Some(key) => format!("did you mean `{key}`?"),
            None => format!("known keys: {}", known.join(", ")),
        };
        self.suggest(key.place, path, "unknown key", Some(suggestion));
    }

    /// A list, and none of its elements empty.
    pub fn list<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [Node]> {
        let nodes = self.nodes(node, path)?;
        for (index, element) in nodes.iter().enumerate().filter(|(_, element)| element.is_empty()) {
            let path = format!("{path}[{index}]");
            self.add(element.place, &path, format!("{path} is empty: write a value, or remove this element"));
        }
        Some(nodes)
    }

    /// A list whose elements may be empty text, but not null: the arguments of a command.
    pub fn arguments<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [Node]> {
        let nodes = self.nodes(node, path)?;
        for (index, element) in nodes.iter().enumerate().filter(|(_, element)| element.is_null()) {
            let path = format!("{path}[{index}]");
            let text = format!("{path} is empty: remove it, or write \"\" for an argument that is empty");
            self.add(element.place, &path, text);
        }
        Some(nodes)
    }

    fn nodes<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [Node]> {
        if let Kind::List(nodes) = &node.kind {
            return Some(nodes);
        }
        self.expected("a list", node, path);
        None
    }

    /// A scalar, taken as written.
    pub fn scalar(&mut self, node: &Node, path: &str) -> Option<Spanned<String>> {
        match &node.kind {
            Kind::Scalar { text, .. } if !node.is_empty() => {
                Some(Spanned { place: node.place, value: text.clone() })
            }
            _ => {
                self.expected("text", node, path);
                None
            }
        }
    }

    /// An integer within bounds.
    pub fn integer(&mut self, node: &Node, path: &str, min: i128, max: i128) -> Option<Spanned<i128>> {
        let Some(value) = node.integer() else {
            self.expected("an integer", node, path);
            return None;
        };
        if (min..=max).contains(&value) {
            return Some(Spanned { place: node.place, value });
        }
        self.add(node.place, path, format!("expected an integer between {min} and {max}, found {value}"));
        None
    }

    /// Something else stands there. What is empty was told of by what holds it.
    pub fn expected(&mut self, what: &str, node: &Node, path: &str) {
        if !node.is_empty() {
            self.add(node.place, path, format!("expected {what}, found {}", node.describe()));
        }
    }
}

/// The value of a key.
pub fn get<'a>(entries: Entries<'a>, key: &str) -> Option<&'a Node> {
    entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node)
}
