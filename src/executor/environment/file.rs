//! Environment files, by systemd's rules of `EnvironmentFile=`; a leading `export` and a byte order mark are allowed, too.
//!
//! Unlike systemd, nothing is passed over that is neither a variable nor a comment: a service that misses a variable is
//! harder to understand than a file that is refused.

use std::iter::Peekable;
use std::str::CharIndices;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// What may stand around keys and values.
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// What ends a line.
const fn is_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

/// The variables of a file, in their order.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, Wrong> {
    let line_of = |offset: usize| bytes[..offset].split(|&byte| byte == b'\n').count();
    let wrong = |offset: usize, what: &str| Wrong { line: line_of(offset), what: what.into() };
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.valid_up_to(), "it is not UTF-8"))?;
    if let Some(offset) = text.find('\0') {
        return Err(wrong(offset, "it contains a NUL byte"));
    }
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut rest = Rest { chars: text[start..].char_indices().peekable(), start };
    let mut variables = Vec::new();
    while let Some((offset, c)) = rest.next() {
        match c {
            c if is_blank(c) => {}
            '#' | ';' => rest.until_end(),
            c => {
                let key = rest.key(c).map_err(|what| wrong(offset, &what))?;
                variables.push((key, rest.value()));
            }
        }
    }
    Ok(variables)
}

/// What was not read yet.
struct Rest<'a> {
    chars: Peekable<CharIndices<'a>>,
    start: usize,
}

impl Rest<'_> {
    fn next(&mut self) -> Option<(usize, char)> {
        self.chars.next().map(|(offset, c)| (self.start + offset, c))
    }

    fn char(&mut self) -> Option<char> {
        self.next().map(|(_, c)| c)
    }

    fn until_end(&mut self) {
        while self.char().is_some_and(|c| !is_end(c)) {}
    }

    /// A key that begins with `first`, up to its `=`.
    fn key(&mut self, first: char) -> Result<String, String> {
        let mut key = String::from(first);
        loop {
            match self.char() {
                Some('=') => break,
                Some(c) if !is_end(c) => key.push(c),
                _ => return Err("expected KEY=VALUE, found no `=`".into()),
            }
        }
        let key = key.trim_end_matches(is_blank);
        let exported = key.strip_prefix("export").filter(|rest| rest.starts_with(is_blank));
        let key = exported.map_or(key, |rest| rest.trim_start_matches(is_blank));
        let is_name = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if key.is_empty() || !is_name || key.starts_with(|c: char| c.is_ascii_digit()) {
            let shown: String = key.chars().take(40).collect();
            return Err(format!(
                "`{}` is not the name of a variable: use letters, digits and _, and no digit first",
                shown.escape_debug()
            ));
        }
        Ok(key.to_string())
    }

    /// A value, up to the end of its line.
    fn value(&mut self) -> String {
        let mut value = String::new();
        while let Some(c) = self.char() {
            match c {
                c if is_end(c) => return value,
                '\'' => self.single_quoted(&mut value),
                '"' => self.double_quoted(&mut value),
                c if is_blank(c) => {}
                c => {
                    self.plain(c, &mut value);
                    return value;
                }
            }
        }
        value
    }

    /// What stands outside of quotes, to the end of the line; there, quotes are characters as any others.
    fn plain(&mut self, first: char, value: &mut String) {
        // Blanks at the end are not part of the value, but for those that were quoted.
        let mut end = value.len();
        let mut next = Some(first);
        while let Some(c) = next {
            match c {
                c if is_end(c) => break,
                '\\' => {
                    // The end of a line, when escaped, is left out.
                    value.extend(self.char().filter(|&c| !is_end(c)));
                    end = value.len();
                }
                c => {
                    value.push(c);
                    end = if is_blank(c) { end } else { value.len() };
                }
            }
            next = self.char();
        }
        value.truncate(end);
    }

    fn single_quoted(&mut self, value: &mut String) {
        while let Some(c) = self.char().filter(|&c| c != '\'') {
            value.push(c);
        }
    }

    fn double_quoted(&mut self, value: &mut String) {
        while let Some(c) = self.char().filter(|&c| c != '"') {
            if c != '\\' {
                value.push(c);
                continue;
            }
            match self.char() {
                Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                Some('\n') | None => {}
                Some(c) => value.extend(['\\', c]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap_or_else(|wrong| panic!("{text:?}: {wrong:?}"))
    }

    /// Each value is what `systemd-run -p EnvironmentFile=` (252) gives to a program.
    #[test]
    fn values_are_those_of_systemd() {
        for (text, value) in [
            ("A=1", "1"),
            ("A=", ""),
            (" A = two words \t", "two words"),
            ("A=\"val\" # comment", "val# comment"),
            ("A=val # comment", "val # comment"),
            ("A=a#b", "a#b"),
            (r#"A="a\"b""#, "a\"b"),
            (r#"A="l1\nl2""#, r"l1\nl2"),
            (r#"A='it'"'"'s'"#, "it's"),
            (r#"A="a"b"#, "ab"),
            (r#"A="a" "b""#, "ab"),
            (r"A=a\ b", "a b"),
            (r#"A="$HOME""#, "$HOME"),
            (r#"A="\$HOME \` \\ \x""#, r"$HOME ` \ \x"),
            ("A=\"first\nSECOND=2\"", "first\nSECOND=2"),
            ("A='first\nSECOND=2'", "first\nSECOND=2"),
            ("A=-Xmx1g \\\n -Xms1g", "-Xmx1g  -Xms1g"),
            ("A=\"one \\\ntwo\"", "one two"),
            ("A=a\"b\"", "a\"b\""),
            ("A='quoted '  ", "quoted "),
            ("A=ends\\", "ends"),
            ("A=a\\ ", "a "),
            ("A=x=y", "x=y"),
            ("A=\"not closed", "not closed"),
            ("A=1\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("export A=1", "1"),
            ("export\tA = \"1\"", "1"),
            ("# A=0\n; A=0\n\n\tA=1\n", "1"),
            ("# ends with a backslash \\\nA=1", "1"),
            ("A=服务", "服务"),
        ] {
            assert_eq!(parsed(text), [("A".to_string(), value.to_string())], "{text:?}");
        }
        assert_eq!(parsed(""), []);
        assert_eq!(parsed("\n# only comments"), []);
        let two = [("A", "1"), ("B", "2")].map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(parsed("A=1\nB=2\n"), two);
        assert_eq!(parsed("A='1'\rB=2"), two);
        assert_eq!(parsed("export=1"), [("export".to_string(), "1".to_string())]);
    }

    #[test]
    fn line_that_is_no_variable_is_named() {
        for (text, line) in [
            ("A=1\nnonsense\n", 2),
            ("A B=1\n", 1),
            ("=1", 1),
            ("A=\"1\n2\"\nif true; then", 3),
            ("1A=2", 1),
            ("A-B=1", 1),
            ("export", 1),
            ("A=1\nB=\0", 2),
            ("NÄME=1", 1),
        ] {
            assert_eq!(parse(text.as_bytes()).map_err(|wrong| wrong.line), Err(line), "{text:?}");
        }
        assert_eq!(parse(b"A=1\nB=\xff\n").map_err(|wrong| wrong.line), Err(2));
    }
}
