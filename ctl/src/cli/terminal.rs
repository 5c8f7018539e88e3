//! Where output goes. What comes from outside never reaches a terminal unescaped.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::args::Output;

/// Tables are fitted into terminals that have this many columns.
const MIN_WIDTH: u16 = 60;

/// Standard output and standard error, or what stands in for them.
#[expect(clippy::struct_excessive_bools, reason = "four facts that are independent of each other")]
pub struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Colours may be used.
    pub color: bool,
    /// Standard output is a terminal.
    pub is_terminal: bool,
    /// Pictures may be drawn on it.
    pub is_live: bool,
    quiet: bool,
}

impl Terminal {
    /// The process' own.
    pub fn of_process(no_color: bool, quiet: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let color =
            is_terminal && !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let is_live = is_terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), color, is_terminal, is_live, quiet }
    }

    /// Others, for tests and for programs that contain the command line.
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, color: false, is_terminal: false, is_live: false, quiet: false }
    }

    /// A line of the result.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// The result, byte for byte.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// A remark.
    pub fn note(&mut self, text: &str) {
        if !self.quiet {
            writeln!(self.err, "{text}").ok();
        }
    }

    /// What went wrong.
    pub fn error(&mut self, text: &str) {
        writeln!(self.err, "{}", text.trim_end()).ok();
    }

    /// A document as JSON or YAML; false when another form is wanted.
    pub fn document(&mut self, output: Output, document: &impl Serialize) -> io::Result<bool> {
        match output {
            Output::Table | Output::Markdown | Output::Html => return Ok(false),
            Output::Json => {
                let text = serde_json::to_string_pretty(document).map_err(io::Error::other)?;
                self.line(&escaped(text))?;
            }
            Output::Yaml => self.line(&yaml(document)?)?,
        }
        Ok(true)
    }

    /// One of several documents: a line of JSON, or a document of a YAML stream; false when another form
    /// is wanted.
    pub fn item(&mut self, output: Output, document: &impl Serialize) -> io::Result<bool> {
        match output {
            Output::Table | Output::Markdown | Output::Html => return Ok(false),
            Output::Json => {
                self.line(&escaped(serde_json::to_string(document).map_err(io::Error::other)?))?;
            }
            Output::Yaml => self.line(&format!("---\n{}", yaml(document)?))?,
        }
        Ok(true)
    }

    /// A table.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.to_vec());
        // Not a terminal, or one that is too narrow (or does not know its width): nothing is wrapped, so
        // that a row stays a line.
        if self.is_terminal && table.width().is_some_and(|width| width >= MIN_WIDTH) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
        }
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_string()).collect();
        self.line(&lines.join("\n"))
    }

    /// A state, coloured on a terminal.
    pub fn state(&self, state: &str) -> String {
        let code = match state {
            "SUCCEEDED" | "running" => "32",
            "FAILED" | "exited" => "31",
            "RUNNING" | "STOPPING" | "PAUSING" => "36",
            "PAUSED" | "INTERRUPTED" => "33",
            _ => return state.to_string(),
        };
        if self.color { format!("\u{1b}[{code}m{state}\u{1b}[0m") } else { state.to_string() }
    }
}

/// What drives no terminal: no control character, and no mark that turns the direction.
fn harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON that means the same, with escapes for all that drives a terminal. (JSON itself leaves some of it.)
fn escaped(json: String) -> String {
    if json.chars().all(|c| harmless(c) || c == '\n') {
        return json;
    }
    // Outside of strings there is none, and none of it is beyond 16 bits.
    let escape = |c: char| {
        if harmless(c) || c == '\n' { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) }
    };
    json.chars().map(escape).collect()
}

/// YAML without a line's end. What would drive a terminal is escaped as JSON does it, which is YAML, too.
fn yaml(document: &impl Serialize) -> io::Result<String> {
    let text = serde_yaml::to_string(document).map_err(io::Error::other)?;
    if text.chars().all(|c| harmless(c) || c == '\n') {
        return Ok(text.trim_end().to_string());
    }
    serde_json::to_string_pretty(document).map(escaped).map_err(io::Error::other)
}

/// Text without what drives a terminal: control characters and marks that turn the direction.
pub fn printable(text: &str) -> String {
    if text.chars().all(harmless) {
        return text.to_string();
    }
    text.chars()
        .flat_map(|c| if harmless(c) || c == '\n' { vec![c] } else { c.escape_default().collect() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_drives_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{7}\u{9b}c\u{202e}"), "a\\u{1b}[31mb\\u{7}\\u{9b}c\\u{202e}");
        assert_eq!(printable("grün\n服务"), "grün\n服务");
    }

    #[test]
    fn documents_mean_the_same_and_drive_nothing() {
        let evil = serde_json::json!({ "a\u{9b}": ["\u{1b}[2J\u{7f}\u{85}\u{202e}\u{0}grün\n服务", 1] });
        let json = escaped(serde_json::to_string_pretty(&evil).unwrap());
        let yaml = yaml(&evil).unwrap();
        for text in [&json, &yaml] {
            assert!(text.chars().all(|c| harmless(c) || c == '\n'), "{text:?}");
        }
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), evil);
        assert_eq!(serde_yaml::from_str::<serde_json::Value>(&yaml).unwrap(), evil);
        assert_eq!(super::yaml(&serde_json::json!({ "a": 1 })).unwrap(), "a: 1");
    }
}
