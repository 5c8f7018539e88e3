//! Text from outside, made harmless, and small words around numbers.

/// Whether a character drives no terminal: no control character, and no mark that turns the direction.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text without what drives a terminal: control characters and marks that turn the direction are escaped.
pub fn printable(text: &str) -> String {
    if text.chars().all(is_harmless) {
        return text.to_string();
    }
    text.chars()
        .flat_map(|c| if is_harmless(c) || c == '\n' { vec![c] } else { c.escape_default().collect() })
        .collect()
}

/// "1 service", "2 services", "1 batch", "2 batches".
pub fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with("ch") => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

/// The beginning of a hash that people compare.
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{7}\u{9b}c\u{202e}"), "a\\u{1b}[31mb\\u{7}\\u{9b}c\\u{202e}");
        assert_eq!(printable("grün\n服务"), "grün\n服务");
    }

    #[test]
    fn one_and_many() {
        assert_eq!(count(1, "batch"), "1 batch");
        assert_eq!(count(0, "batch"), "0 batches");
        assert_eq!(count(5, "service"), "5 services");
    }
}
