//! HTML, by templates that escape whatever comes from outside. The report file and the console share them.
//!
//! No page has a script, an inline style attribute or an address of anything elsewhere. Lengths that depend on
//! data are attributes of SVG elements, which a strict Content-Security-Policy allows.

mod report;
mod timeline;

use std::fmt::Display;

use maud::{Escaper, Markup, PreEscaped, Render};

use crate::view::text::printable;
use crate::view::tone::Tone;

pub use report::file as report_file;

/// The style of all pages.
pub const STYLE: &str = include_str!("page/style.css");

/// Text from outside: escaped, and without what drives a terminal or turns the direction.
struct Text<T>(T);

impl<T: Display> Render for Text<T> {
    fn render_to(&self, buffer: &mut String) {
        use std::fmt::Write;
        Escaper::new(buffer).write_str(&printable(&self.0.to_string())).expect("a string takes any text");
    }
}

/// The style sheet, as an element.
fn style() -> Markup {
    PreEscaped(format!("<style>\n{STYLE}</style>"))
}

/// The class of a tone.
const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Active => "active",
        Tone::Held => "held",
        Tone::Quiet => "quiet",
    }
}
