//! Small values of the catalog: names, durations, sizes, variables.

use std::collections::BTreeMap;
use std::time::Duration;

/// `[a-z0-9][a-z0-9-]{0,62}`
pub fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(valid) && !name.starts_with('-')
}

/// `500ms`, `10s`, `30m`, `1h`, `1m30s`, `0s`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(amount.checked_mul(millis)?))?;
        rest = &rest[letters..];
    }
    // A century is no time limit but a slip of the pen.
    (!text.is_empty() && total < Duration::from_hours(876_000)).then_some(total)
}

/// `512`, `64K`, `512M`, `1G`, `2T`, in bytes.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let amount: u64 = text[..digits].parse().ok()?;
    let shift = match &text[digits..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    amount.checked_mul(1 << shift)
}

/// The name of a service unit that can be started: no template without an instance.
pub fn is_service_unit(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let Some(stem) = name.strip_suffix(".service") else { return false };
    name.len() <= 255
        && !stem.is_empty()
        && stem.bytes().all(valid)
        && !stem.starts_with(['@', '.', '-'])
        && !stem.ends_with('@')
}

/// An image of an engine: what can stand in a path of its interface, and is no path itself.
pub fn is_image(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_./@".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    name.len() <= 255 && name.bytes().all(valid) && name.split('/').all(is_part)
}

/// `50%`, `250%`: of one processor.
pub fn percent(text: &str) -> Option<u32> {
    let percent: u32 = text.strip_suffix('%')?.parse().ok()?;
    (1..=1_000_000).contains(&percent).then_some(percent)
}

/// A relative path without `.`, `..` and empty parts.
pub fn is_inner_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The variables that a text names as `${VAR}`.
///
/// # Errors
/// What is wrong with a `${`.
pub fn variables(template: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some(begin) = rest.find("${") {
        let after = &rest[begin + 2..];
        let end = after.find('}').ok_or("`${` is not closed by `}`")?;
        let name = &after[..end];
        if !is_variable(name) {
            return Err(format!("`${{{}}}` is no variable", name.escape_debug()));
        }
        names.push(name);
        rest = &after[end + 1..];
    }
    Ok(names)
}

/// `[A-Za-z_][A-Za-z0-9_]*`
pub fn is_variable(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(valid) && !name.as_bytes()[0].is_ascii_digit()
}

/// Puts the values of variables in the place of `${VAR}`.
///
/// # Errors
/// Which variable is not set.
pub fn expand(template: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    for name in variables(template)? {
        let value = environment.get(name).ok_or_else(|| format!("${{{name}}} is not set"))?;
        let (before, after) = rest.split_once(&format!("${{{name}}}")).unwrap_or((rest, ""));
        text.push_str(before);
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [("500ms", 500), ("10s", 10_000), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1 s", "-1s", "1.5s", "99999999999999999999s", "1x", "999999d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512M"), Some(512 << 20));
        assert_eq!(size("7"), Some(7));
        for text in ["", "M", "1X", "-1", "99999999999999T"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn service_units() {
        for name in ["web.service", "web@1.service", "a\\x2db.service"] {
            assert!(is_service_unit(name), "{name}");
        }
        for name in
            ["web", "web.socket", "web@.service", "@1.service", ".service", "../a.service", "a b.service"]
        {
            assert!(!is_service_unit(name), "{name}");
        }
        assert_eq!(percent("250%"), Some(250));
        assert_eq!([percent("0%"), percent("5"), percent("-5%"), percent("1.5%")], [None; 4]);
    }

    #[test]
    fn variables_are_expanded_once() {
        let environment =
            BTreeMap::from([("A".to_string(), "${B}".to_string()), ("B".to_string(), "2".to_string())]);
        assert_eq!(expand("x${A}y${B}${B}", &environment).unwrap(), "x${B}y22");
        assert_eq!(expand("$A $$ {A}", &environment).unwrap(), "$A $$ {A}");
        assert_eq!(expand("${C}", &environment).unwrap_err(), "${C} is not set");
        assert!(expand("${", &environment).is_err());
        assert!(expand("${1}", &environment).is_err());
    }

    #[test]
    fn inner_paths() {
        assert!(is_inner_path("a/b"));
        for path in ["", "/a", "a//b", "../a", "a/..", "./a", "a/"] {
            assert!(!is_inner_path(path), "{path}");
        }
    }
}
