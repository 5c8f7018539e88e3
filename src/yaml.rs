//! YAML with positions, in bounded time and memory.
//!
//! saphyr-parser gives the structure with the position of everything, and what must not be there
//! is refused on the way: duplicate keys, aliases, anchors, tags, merge keys, a second document,
//! too much depth. serde_yaml says what a plain scalar means (`5` is a number, `no` is text, …).

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::fmt::Write as _;

use crate::mistake::{MAX_MISTAKES, Mistake};

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 32;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

/// A node of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Text; `plain` when it stands without quotes.
    Scalar {
        /// As written, quotes and escapes resolved.
        text: String,
        /// Without quotes.
        plain: bool,
    },
    /// `- …`
    List(Vec<Node>),
    /// `key: …`, in the order of the file.
    Map(Vec<(Spanned<String>, Node)>),
}

/// What a scalar means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// Nothing stands there, or `null`.
    Null,
    /// A whole number.
    Integer(i128),
    /// Another number, or a truth value.
    Other(&'static str),
    /// Text.
    Text,
}

impl Node {
    /// What it is, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar { .. } => match self.meaning() {
                Meaning::Null => "nothing",
                Meaning::Integer(_) => "a number",
                Meaning::Other(what) => what,
                Meaning::Text => "text",
            },
        }
    }

    /// What a scalar means; text for anything else.
    pub fn meaning(&self) -> Meaning {
        let Kind::Scalar { text, plain: true } = &self.kind else { return Meaning::Text };
        if text.is_empty() {
            return Meaning::Null;
        }
        // Only what begins like a number, a truth value or null needs a second look.
        if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.tTfFnN~".contains(c)) || text.len() > 64 {
            return Meaning::Text;
        }
        match serde_yaml::from_str::<serde_yaml::Value>(text) {
            Ok(serde_yaml::Value::Null) => Meaning::Null,
            Ok(serde_yaml::Value::Bool(_)) => Meaning::Other("true or false"),
            Ok(serde_yaml::Value::Number(number)) => match text.trim_start_matches('+').parse() {
                Ok(integer) => Meaning::Integer(integer),
                Err(_) => number
                    .as_i64()
                    .map(i128::from)
                    .or_else(|| number.as_u64().map(i128::from))
                    .map_or(Meaning::Other("a number with a fraction"), Meaning::Integer),
            },
            _ => text.parse().map_or(Meaning::Text, Meaning::Integer),
        }
    }
}

/// Parses a file.
///
/// # Errors
/// All duplicate keys, aliases, anchors and tags, or the first thing that is no YAML.
pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Node, Vec<Mistake>> {
    let text = text_of(bytes, max_bytes)?;
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if let Err(mistake) = builder.take(event, place_of(span)) {
                    builder.mistakes.push(mistake);
                    break;
                }
            }
            Err(error) => {
                let place = marker_place(error.marker());
                builder.mistakes.push(mistake(place, "", format!("this is not YAML: {}", error.info())));
                break;
            }
        }
        if builder.mistakes.len() >= MAX_MISTAKES {
            break;
        }
    }
    if !builder.mistakes.is_empty() {
        return Err(builder.mistakes);
    }
    builder.root.ok_or_else(|| vec![mistake(Place { line: 1, column: 1 }, "", "the file is empty".into())])
}

fn text_of(bytes: &[u8], max_bytes: usize) -> Result<&str, Vec<Mistake>> {
    let start = Place { line: 1, column: 1 };
    if bytes.len() > max_bytes {
        let text = format!("the file has {} bytes; at most {max_bytes} are read", bytes.len());
        return Err(vec![mistake(start, "", text)]);
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let bad = |at: usize, why: &str| {
        let before = String::from_utf8_lossy(&bytes[..at]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        vec![mistake(Place { line: number(line), column: number(column) }, "", why.to_string())]
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| bad(error.valid_up_to(), "the file is not UTF-8 here; save it as UTF-8"))?;
    match text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) {
        Some(at) => Err(bad(at, "control characters are not allowed here")),
        None => Ok(text),
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn place_of(span: Span) -> Place {
    marker_place(&span.start)
}

fn marker_place(marker: &saphyr_parser::Marker) -> Place {
    Place { line: number(marker.line().max(1)), column: number(marker.col() + 1) }
}

fn mistake(place: Place, path: &str, message: String) -> Mistake {
    Mistake { line: place.line, column: place.column, path: path.to_string(), message, suggestion: None }
}

/// A list or map that is being read.
enum Open {
    List(Place, Vec<Node>),
    Map {
        place: Place,
        entries: Vec<(Spanned<String>, Node)>,
        seen: HashMap<String, u32>,
        key: Option<Spanned<String>>,
    },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    mistakes: Vec<Mistake>,
}

impl Builder {
    /// `Err` is a mistake after which reading on makes no sense.
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), place);
                let plain = style == ScalarStyle::Plain;
                self.node(Node { place, kind: Kind::Scalar { text: text.into_owned(), plain } })?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), place);
                self.open(Open::List(place, Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), place);
                let (entries, seen) = (Vec::new(), HashMap::new());
                self.open(Open::Map { place, entries, seen, key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop() {
                    Some(Open::List(place, nodes)) => Node { place, kind: Kind::List(nodes) },
                    Some(Open::Map { place, entries, .. }) => Node { place, kind: Kind::Map(entries) },
                    None => return Ok(()),
                };
                self.node(node)?;
            }
            Event::Alias(_) => {
                return Err(mistake(
                    place,
                    &self.path(),
                    "aliases are not allowed; write the value out".into(),
                ));
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(mistake(place, "", "a second document begins here; a file holds one".into()));
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<(), Mistake> {
        let place = match &open {
            Open::List(place, _) | Open::Map { place, .. } => *place,
        };
        if let Some(Open::Map { key: None, .. }) = self.stack.last() {
            return Err(mistake(place, &self.path(), "a key must be text".into()));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(mistake(place, "", format!("lists and maps are nested deeper than {MAX_DEPTH}")));
        }
        self.stack.push(open);
        Ok(())
    }

    fn node(&mut self, node: Node) -> Result<(), Mistake> {
        let path = self.path();
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, nodes)) => nodes.push(node),
            Some(Open::Map { entries, seen, key, .. }) => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                } else {
                    let Kind::Scalar { text, .. } = node.kind else {
                        return Err(mistake(node.place, &path, "a key must be text".into()));
                    };
                    if text == "<<" {
                        return Err(mistake(
                            node.place,
                            &path,
                            "merge keys are not allowed; write the keys out".into(),
                        ));
                    }
                    if let Some(first) = seen.insert(text.clone(), node.place.line) {
                        let path = join(&path, &text);
                        let text = format!("duplicate key; it stands in line {first} already");
                        self.mistakes.push(mistake(node.place, &path, text));
                    }
                    *key = Some(Spanned { place: node.place, value: text });
                }
            }
        }
        Ok(())
    }

    fn refuse_extras(&mut self, anchor: usize, tag: bool, place: Place) {
        if anchor != 0 {
            self.mistakes.push(mistake(place, &self.path(), "anchors (&…) are not allowed".into()));
        }
        if tag {
            self.mistakes.push(mistake(place, &self.path(), "tags (!…) are not allowed".into()));
        }
    }

    /// The path of what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match open {
                Open::List(_, nodes) => write!(path, "[{}]", nodes.len()).unwrap_or_default(),
                Open::Map { key: Some(key), .. } => path = join(&path, &key.value),
                Open::Map { key: None, .. } => {}
            }
        }
        path
    }
}

/// `a` and `b`: `a.b`.
pub fn join(path: &str, key: &str) -> String {
    let key = key.escape_debug().to_string();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
