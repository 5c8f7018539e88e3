//! A picture that is drawn below what is on the terminal, and over itself.
//!
//! It changes no mode of the terminal: no raw mode, no other screen, and the cursor is hidden only within the
//! bytes of one picture. So there is nothing to be restored, however the program ends; and the last picture
//! stays where it is.

use crossterm::style::{Attribute, Color as Colour, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::{Command, cursor};
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::text::{Line, Span};

/// A terminal that does not know its size, or is too small to draw on, counts as this large.
const FALLBACK: (u16, u16) = (80, 24);

/// The place of the picture.
pub struct Inline {
    color: bool,
    /// What is there: the cursor is in the line below it.
    before: Option<Buffer>,
}

impl Inline {
    /// A picture that is not drawn yet.
    pub const fn new(color: bool) -> Self {
        Self { color, before: None }
    }

    /// The room for a picture: columns, and lines. One of each is left free, so that nothing wraps or scrolls.
    pub fn room() -> (u16, u16) {
        let size = rustix::termios::tcgetwinsize(std::io::stdout());
        let (columns, lines) = size.map_or(FALLBACK, |size| (size.ws_col, size.ws_row));
        let or = |size: u16, other: u16| if size < 4 { other } else { size };
        (or(columns, FALLBACK.0) - 1, or(lines, FALLBACK.1) - 1)
    }

    /// What is there is not ours any more: somebody else has written, or the screen was left.
    pub fn forget(&mut self) {
        self.before = None;
    }

    /// The bytes that turn what is there into these lines.
    pub fn show(&mut self, lines: &[Line<'_>], width: u16) -> String {
        let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        for (line, y) in lines.iter().zip(0..) {
            buffer.set_line(0, y, line, width);
        }
        if self.before.as_ref() == Some(&buffer) {
            return String::new();
        }
        let mut out = String::new();
        put(&mut out, BeginSynchronizedUpdate);
        put(&mut out, cursor::Hide);
        let same_width = self.before.as_ref().filter(|before| before.area.width == width);
        match (&self.before, same_width) {
            (Some(before), None) => {
                up(&mut out, wrapped(before, width));
                put(&mut out, Clear(ClearType::FromCursorDown));
            }
            (Some(before), Some(_)) => up(&mut out, before.area.height),
            (None, _) => {}
        }
        for y in 0..height {
            let is_there = same_width.is_some_and(|it| y < it.area.height && row(it, y) == row(&buffer, y));
            let is_last = y + 1 == height;
            if is_last || !is_there {
                self.write_row(&buffer, y, &mut out);
                let rest = if is_last { ClearType::FromCursorDown } else { ClearType::UntilNewLine };
                put(&mut out, Clear(rest));
            }
            if is_last {
                // Before the line's end: standard output is written line by line, and whoever kills us
                // between two writes must not find the cursor hidden.
                put(&mut out, cursor::Show);
                put(&mut out, EndSynchronizedUpdate);
            }
            out.push_str("\r\n");
        }
        self.before = Some(buffer);
        out
    }

    fn write_row(&self, buffer: &Buffer, y: u16, out: &mut String) {
        let cells = row(buffer, y);
        let end = cells.iter().rposition(|cell| cell.symbol() != " ").map_or(0, |last| last + 1);
        let mut style = None;
        let mut x = 0;
        while x < end {
            let cell = &cells[x];
            if self.color && style != Some((cell.fg, cell.modifier)) {
                paint(cell, out);
                style = Some((cell.fg, cell.modifier));
            }
            out.push_str(cell.symbol());
            x += Span::raw(cell.symbol()).width().max(1);
        }
        if style.is_some() {
            put(out, ResetColor);
        }
    }
}

fn row(buffer: &Buffer, y: u16) -> &[Cell] {
    let width = usize::from(buffer.area.width);
    &buffer.content[usize::from(y) * width..][..width]
}

/// How many lines a picture takes after its terminal has become this narrow: it wraps what was written.
fn wrapped(buffer: &Buffer, width: u16) -> u16 {
    let lines = |y: u16| {
        let cells = row(buffer, y);
        let length = cells.iter().rposition(|cell| cell.symbol() != " ").map_or(0, |last| last + 1);
        // One column was left free.
        u16::try_from(length.div_ceil(usize::from(width) + 1)).unwrap_or(u16::MAX).max(1)
    };
    (0..buffer.area.height).map(lines).fold(0, u16::saturating_add)
}

fn up(out: &mut String, lines: u16) {
    out.push('\r');
    if lines > 0 {
        put(out, cursor::MoveUp(lines));
    }
}

fn paint(cell: &Cell, out: &mut String) {
    put(out, SetAttribute(Attribute::Reset));
    if cell.modifier.contains(Modifier::BOLD) {
        put(out, SetAttribute(Attribute::Bold));
    }
    if cell.modifier.contains(Modifier::DIM) {
        put(out, SetAttribute(Attribute::Dim));
    }
    let colour = match cell.fg {
        Color::Red => Colour::DarkRed,
        Color::Green => Colour::DarkGreen,
        Color::Yellow => Colour::DarkYellow,
        Color::Cyan => Colour::DarkCyan,
        _ => return,
    };
    put(out, SetForegroundColor(colour));
}

fn put(out: &mut String, command: impl Command) {
    command.write_ansi(out).expect("a string takes any text");
}
