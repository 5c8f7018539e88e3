//! Addresses: kept as they were written, shown without their secrets.
//!
//! User information and the values of a query are secrets: passwords, tokens, signatures. An [`Address`] shows itself
//! without them, in messages and in debug output; whoever needs all of it asks for it by name ([`Address::reveal`]). What
//! is to be shown is a [`Shown`], and nothing makes one of an address but the function that masks it.

use std::fmt;

/// What stands in the place of a secret.
const MASK: &str = "***";
/// The name of a query's value that is longer, or has other characters, may be a secret itself.
const MAX_NAME: usize = 64;

/// An address as it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(String);

/// An address that may be shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shown(String);

impl Address {
    /// All of it, secrets included: to ask there, to keep it, to compare it. Never to show it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Without its secrets.
    pub fn shown(&self) -> Shown {
        Shown::of(&self.0)
    }
}

impl Shown {
    /// An address without its secrets, and without characters that drive a terminal. What is masked already stays as it
    /// is.
    pub fn of(address: &str) -> Self {
        Self(mask(&printable(address)))
    }
}

impl From<String> for Address {
    fn from(address: String) -> Self {
        Self(address)
    }
}

impl From<&str> for Address {
    fn from(address: &str) -> Self {
        Self(address.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl From<&str> for Shown {
    fn from(address: &str) -> Self {
        Self::of(address)
    }
}

impl From<Shown> for String {
    fn from(shown: Shown) -> Self {
        shown.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text in which addresses may stand, all of them masked: what a library, a server or an earlier version said.
pub fn mask_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let begin = scheme_begin(rest, at);
        let (before, address) = rest.split_at(begin);
        // A quote before it ends it; else it goes on to the next blank, whatever stands in it.
        let quote = before.chars().next_back().filter(|c| matches!(c, '"' | '\'' | '`'));
        let ends = |c: char| c.is_whitespace() || Some(c) == quote;
        let end = address.find(ends).unwrap_or(address.len());
        masked.push_str(before);
        masked.push_str(&mask(&address[..end]));
        rest = &address[end..];
    }
    masked + rest
}

/// Where the scheme begins that ends at `at`.
fn scheme_begin(text: &str, at: usize) -> usize {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    let other = text[..at].char_indices().rfind(|(_, c)| !is_scheme(*c));
    other.map_or(0, |(index, c)| index + c.len_utf8())
}

fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    text.chars().flat_map(escape).collect()
}

fn mask(address: &str) -> String {
    let Some((scheme, rest)) = split_scheme(address) else {
        // As git writes it: `user@host:path`.
        return match address.split('/').next().and_then(|host| host.rfind('@')) {
            Some(at) => format!("{MASK}{}", &address[at..]),
            None => address.into(),
        };
    };
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if scheme.to_ascii_lowercase().starts_with("file:") {
        return format!("{scheme}{authority}{}", mask_path(path));
    }
    if let Some(at) = authority.rfind('@') {
        return format!("{scheme}{MASK}{}{}", &authority[at..], mask_path(path));
    }
    // A password that is not encoded may hold what ends a host; then its end stands in what looks like the path.
    match rest.rfind('@').filter(|_| !is_host(authority)) {
        Some(at) => {
            let host = &rest[at..];
            let end = host.find(['/', '\\', '?', '#']).unwrap_or(host.len());
            format!("{scheme}{MASK}{}{}", &host[..end], mask_path(&host[end..]))
        }
        None => format!("{scheme}{}", mask_path(rest)),
    }
}

/// The scheme with all slashes after it: programs take more or fewer of them than two.
fn split_scheme(address: &str) -> Option<(&str, &str)> {
    let colon = address.find(':')?;
    let name = &address[..colon];
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    let after = &address[colon + 1..];
    let rest = after.trim_start_matches(['/', '\\']);
    (valid && rest.len() < after.len()).then(|| address.split_at(address.len() - rest.len()))
}

/// `host`, `host:port`, `[::1]:port`; the port may be a variable of the catalog.
fn is_host(authority: &str) -> bool {
    let port = match authority.rsplit_once(']') {
        Some((_, port)) => port.strip_prefix(':').unwrap_or(port),
        None => authority.split_once(':').map_or("", |(_, port)| port),
    };
    let is_variable = port.starts_with("${") && port.ends_with('}');
    port.bytes().all(|byte| byte.is_ascii_digit()) || is_variable
}

/// A path with its query and fragment. Another address may stand in the path, as proxies have it.
fn mask_path(path: &str) -> String {
    let plain = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    if let Some(at) = plain.find("://") {
        let begin = scheme_begin(plain, at);
        return format!("{}{}", &path[..begin], mask(&path[begin..]));
    }
    let (path, fragment) = path.split_once('#').map_or((path, None), |(path, it)| (path, Some(it)));
    let (path, query) = path.split_once('?').map_or((path, None), |(path, it)| (path, Some(it)));
    let mut masked = path.to_string();
    if let Some(query) = query {
        masked.push('?');
        let mut rest = query;
        loop {
            let end = rest.find(['&', ';']).unwrap_or(rest.len());
            masked.push_str(&mask_pair(&rest[..end]));
            let Some(separator) = rest[end..].chars().next() else { break };
            masked.push(separator);
            rest = &rest[end + 1..];
        }
    }
    match fragment {
        Some("") => masked + "#",
        Some(_) => masked + "#" + MASK,
        None => masked,
    }
}

/// `name=value`; what has no name is a value.
fn mask_pair(pair: &str) -> String {
    let is_name = |name: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~[]%".contains(&byte);
        name.len() <= MAX_NAME && name.bytes().all(valid)
    };
    match pair.split_once('=') {
        Some((name, "")) if is_name(name) => format!("{name}="),
        Some((name, _)) if is_name(name) => format!("{name}={MASK}"),
        None if pair.is_empty() => String::new(),
        _ => MASK.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_and_the_values_of_a_query_are_masked() {
        for (address, shown) in [
            ("https://h/a@b", "https://h/a@b"),
            ("https://h:8080/x.zip", "https://h:8080/x.zip"),
            ("https://u:p@h/x", "https://***@h/x"),
            ("https://u:p@q@h", "https://***@h"),
            ("https://token@h/x", "https://***@h/x"),
            ("https://u:p/q@h/x", "https://***@h/x"),
            ("https://u:p?q#r@h/x?a=b", "https://***@h/x?a=***"),
            ("https://u:p@[::1]:8/x", "https://***@[::1]:8/x"),
            ("https://[::1]:8/x@y", "https://[::1]:8/x@y"),
            ("HTTPS://u:p@H/x", "HTTPS://***@H/x"),
            ("https:/u:p@h/x", "https:/***@h/x"),
            ("https:\\\\u:p@h\\x", "https:\\\\***@h\\x"),
            ("ssh://git@h/x", "ssh://***@h/x"),
            ("git@h:x/y.git", "***@h:x/y.git"),
            ("/srv/git/a@b.git", "/srv/git/a@b.git"),
            ("app", "app"),
            ("file:///srv/a@b/p?x=1", "file:///srv/a@b/p?x=***"),
            ("https://h/x?X-Amz-Signature=abc", "https://h/x?X-Amz-Signature=***"),
            ("https://h/x?a=1&b=2;c=3", "https://h/x?a=***&b=***;c=***"),
            ("https://h/x?a=b=c&d", "https://h/x?a=***&***"),
            ("https://h/x?SECRET", "https://h/x?***"),
            ("https://h/x?a=", "https://h/x?a="),
            ("https://h/x?", "https://h/x?"),
            ("https://h/x?a=1#frag", "https://h/x?a=***#***"),
            ("https://h/x#SECRET?y", "https://h/x#***"),
            ("https://h?a=1", "https://h?a=***"),
            ("https://h/x?a=http://u:p@i/?s=1", "https://h/x?a=***"),
            ("https://h/x?a b=1", "https://h/x?***"),
            ("http://u:${PW}@127.0.0.1:${PORT}/up?key=${TOK}", "http://***@127.0.0.1:${PORT}/up?key=***"),
            ("https://proxy/http://u:p@h/x?s=1", "https://proxy/http://***@h/x?s=***"),
            ("https://t@proxy/http://u:p@h/x?s=1", "https://***@proxy/http://***@h/x?s=***"),
            ("https://proxy/://u:p@h/x", "https://proxy/://***@h/x"),
            ("http://127.0.0.1:${PORT}/a@b", "http://127.0.0.1:${PORT}/a@b"),
            ("a\u{1b}b", "a\\u{1b}b"),
        ] {
            assert_eq!(Shown::of(address).to_string(), shown);
            assert_eq!(Shown::of(shown).to_string(), shown, "masking twice changes nothing");
        }
    }

    #[test]
    fn an_address_never_shows_its_secrets_by_accident() {
        let address = Address::from("https://u:S3CR3T@h/x?sig=S3CR3T");
        for shown in [format!("{address}"), format!("{address:?}"), format!("{:?}", Some(&address))] {
            assert!(!shown.contains("S3CR3T"), "{shown}");
        }
        assert!(address.reveal().contains("S3CR3T"));
    }

    #[test]
    fn addresses_in_a_text_are_masked_where_they_stand() {
        for (text, masked) in [
            ("no address", "no address"),
            (
                "fatal: unable to access 'https://u:p@h/x?s=1': refused",
                "fatal: unable to access 'https://***@h/x?s=***': refused",
            ),
            ("error for url (http://u:p@h/x?a=1&b=2)", "error for url (http://***@h/x?a=***&b=***"),
            ("https://h/x?s=it's,a(b)c next https://t@h", "https://h/x?s=*** next https://***@h"),
            ("é\"https://u:p@h/\"é", "é\"https://***@h/\"é"),
            ("://", "://"),
            ("a://b://c:p@d", "a://b://***@d"),
        ] {
            assert_eq!(mask_text(text), masked);
            assert_eq!(mask_text(masked), masked);
        }
    }
}
