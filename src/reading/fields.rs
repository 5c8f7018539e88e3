//! Reading the keys of one map.

use super::{Entries, Key, Mistakes, get};
use crate::yaml::{Kind, Node, Place, Spanned, join};

/// The keys of one map.
pub struct Fields<'a, 'm> {
    /// Where the map begins.
    pub place: Place,
    /// Its path.
    pub path: String,
    /// Its keys.
    pub entries: Entries<'a>,
    /// What is wrong.
    pub mistakes: &'m mut Mistakes,
}

impl<'a> Fields<'a, '_> {
    /// The path of one of its keys.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        get(self.entries, key)
    }

    /// Whether a key stands there without a value, which was told of.
    pub fn is_empty(&self, key: &str) -> bool {
        self.get(key).is_some_and(Node::is_empty)
    }

    /// The value of a key that must be there.
    pub fn required(&mut self, key: &str) -> Option<&'a Node> {
        let node = self.get(key);
        if node.is_none() {
            let path = self.path_of(key);
            self.mistakes.add(self.place, &path, format!("`{key}` is missing"));
        }
        node
    }

    /// Text.
    pub fn text(&mut self, key: &str) -> Option<Spanned<String>> {
        let path = self.path_of(key);
        self.get(key).and_then(|node| self.mistakes.scalar(node, &path))
    }

    /// Text that must be there.
    pub fn required_text(&mut self, key: &str) -> Option<Spanned<String>> {
        self.required(key)?;
        self.text(key)
    }

    /// An integer within bounds.
    pub fn number(&mut self, key: &str, min: i128, max: i128) -> Option<u64> {
        let path = self.path_of(key);
        let node = self.get(key)?;
        let number = self.mistakes.integer(node, &path, min, max)?;
        u64::try_from(number.value).ok()
    }

    /// A small number within bounds.
    pub fn count(&mut self, key: &str, min: u32, max: u32) -> Option<u32> {
        self.number(key, min.into(), max.into()).and_then(|number| u32::try_from(number).ok())
    }

    /// `true` or `false`.
    pub fn truth(&mut self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        let truth = node.truth();
        if truth.is_none() {
            let path = self.path_of(key);
            self.mistakes.expected("true or false", node, &path);
        }
        truth
    }

    /// A map below this one.
    pub fn section<T>(
        &mut self,
        key: &str,
        known: &[Key],
        read: impl FnOnce(&mut Fields<'a, '_>) -> T,
    ) -> Option<T> {
        let node = self.get(key)?;
        let path = self.path_of(key);
        let entries = self.mistakes.map(node, &path, known)?;
        Some(read(&mut Fields { place: node.place, path, entries, mistakes: self.mistakes }))
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        let path = self.path_of(key);
        let node = self.get(key)?;
        let nodes = self.mistakes.list(node, &path)?;
        let text = |(index, node)| self.mistakes.scalar(node, &format!("{path}[{index}]"));
        Some(nodes.iter().enumerate().filter_map(text).collect())
    }

    /// A program and its arguments; an argument may be empty text.
    pub fn command(&mut self, key: &str) -> Option<Vec<String>> {
        let path = self.path_of(key);
        let node = self.get(key)?;
        let nodes = self.mistakes.arguments(node, &path)?;
        let mut command = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            match &node.kind {
                Kind::Scalar { text, .. } if !node.is_null() => command.push(text.clone()),
                _ => self.mistakes.expected("text", node, &format!("{path}[{index}]")),
            }
        }
        if nodes.first().is_none_or(|program| program.is_empty() && !program.is_null()) {
            let text = "the command is empty: expected [program, argument, …]";
            self.mistakes.add(node.place, &path, text);
        }
        // What was left out would move the arguments after it.
        (command.len() == nodes.len() && command.first().is_some_and(|program| !program.trim().is_empty()))
            .then_some(command)
    }
}
