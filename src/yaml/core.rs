//! The core schema of YAML 1.2: what a plain scalar means, and which tags say so explicitly.
//!
//! A value is read by its meaning, never by its spelling: `~`, `null` and nothing at all are the same, `"null"` is
//! text. The schema is written out here because libraries differ: some read `0b11` or `yes`, some `012` as octal.

use saphyr_parser::Tag;

/// The prefix of the tags that YAML itself defines; `!!str` is short for it and `str`.
const CORE: &str = "tag:yaml.org,2002:";

/// What a scalar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// No value: nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Truth,
    /// An integer.
    Integer,
    /// A number with a fraction or an exponent, an infinity, or "not a number".
    Fraction,
    /// Text.
    Text,
}

/// What a scalar means that is written so, without quotes and without a tag.
pub fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Meaning::Truth,
        ".nan" | ".NaN" | ".NAN" => Meaning::Fraction,
        _ if is_integer(text) => Meaning::Integer,
        _ if is_fraction(text) => Meaning::Fraction,
        _ => Meaning::Text,
    }
}

/// The value of a text that [`is_integer`]; what is beyond 128 bits becomes the largest or smallest value.
pub fn integer(text: &str) -> i128 {
    let (digits, radix) = match text.get(..2) {
        Some("0o") => (&text[2..], 8),
        Some("0x") => (&text[2..], 16),
        _ => (text, 10),
    };
    let beyond = if text.starts_with('-') { i128::MIN } else { i128::MAX };
    i128::from_str_radix(digits, radix).unwrap_or(beyond)
}

fn is_integer(text: &str) -> bool {
    let all = |digits: &str, valid: fn(u8) -> bool| !digits.is_empty() && digits.bytes().all(valid);
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| matches!(byte, b'0'..=b'7'));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |byte| byte.is_ascii_hexdigit());
    }
    all(unsigned(text), |byte| byte.is_ascii_digit())
}

fn is_fraction(text: &str) -> bool {
    let text = unsigned(text);
    if matches!(text, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(unsigned(exponent))),
        None => (text, None),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let has_digits = !whole.is_empty() || !part.is_empty();
    has_digits
        && digits(whole)
        && digits(part)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

/// What a scalar with this tag means.
///
/// # Errors
/// The tag is not one of the core schema, or does not fit the text.
pub fn tagged(text: &str, tag: &Tag) -> Result<Meaning, String> {
    let plain = meaning(text);
    let meant = match name(tag) {
        Some("str" | "!") => Some(Meaning::Text),
        Some("null") => (plain == Meaning::Null).then_some(Meaning::Null),
        Some("bool") => (plain == Meaning::Truth).then_some(Meaning::Truth),
        Some("int") => (plain == Meaning::Integer).then_some(Meaning::Integer),
        Some("float") => matches!(plain, Meaning::Integer | Meaning::Fraction).then_some(Meaning::Fraction),
        _ => return Err(refusal()),
    };
    meant.ok_or_else(|| format!("`{}` does not fit its tag `!!{}`", text.escape_debug(), tag.suffix))
}

/// Checks the tag of a list (`seq`) or of a map (`map`).
///
/// # Errors
/// It is another one.
pub fn check_collection(kind: &str, tag: &Tag) -> Result<(), String> {
    match name(tag) {
        Some("!") => Ok(()),
        Some(name) if name == kind => Ok(()),
        _ => Err(refusal()),
    }
}

/// A tag's name in the core schema; `!` is the tag that only says "no resolution".
fn name(tag: &Tag) -> Option<&str> {
    match &*tag.handle {
        CORE => Some(&tag.suffix),
        "" if tag.suffix == "!" => Some("!"),
        // Written out: `!<tag:yaml.org,2002:str>`.
        "" | "!" => tag.suffix.strip_prefix(CORE),
        _ => None,
    }
}

fn refusal() -> String {
    "this tag is not allowed; only !!str, !!int, !!float, !!bool, !!null, !!seq and !!map are".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let cases: [(Meaning, &[&str]); 5] = [
            (Meaning::Null, &["", "~", "null", "Null", "NULL"]),
            (Meaning::Truth, &["true", "True", "TRUE", "false", "False", "FALSE"]),
            (Meaning::Integer, &["0", "7", "-7", "+7", "012", "0x1F", "0o17", "00"]),
            (Meaning::Fraction, &["1.10", ".5", "1.", "1e3", "-1E-3", "+.5e+1", ".inf", "-.INF", ".nan"]),
            (
                Meaning::Text,
                &[
                    "nULL", "nil", "none", "~~", "yes", "no", "on", "off", "y", "tRUE", "1_000", "0b11",
                    "-0x1F", "0x", "0o8", "1:30", ".", "-", "+", "e3", "1e", "1.2.3", "inf", ".iNF", "+.nan",
                    "1 ", "٣",
                ],
            ),
        ];
        for (expected, texts) in cases {
            for text in texts {
                assert_eq!(meaning(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn integers_have_their_value_in_every_notation() {
        for (text, value) in [("012", 12), ("0x1F", 31), ("0o17", 15), ("+5", 5), ("-5", -5)] {
            assert_eq!(integer(text), value, "{text}");
        }
        assert_eq!(integer(&"9".repeat(60)), i128::MAX);
        assert_eq!(integer(&format!("-{}", "9".repeat(60))), i128::MIN);
        assert_eq!(integer(&format!("0x{}", "f".repeat(60))), i128::MAX);
    }
}
