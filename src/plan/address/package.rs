//! Where a package's address leads, and whether that is under a prefix of `packages.allowedUris`.
//!
//! Compared are scheme, host, port and the decoded path, read as the HTTP client reads them, so that the check and the
//! request cannot mean two places. User information, query and fragment say nothing about the place: a signature must
//! neither forbid an address nor allow one.

use url::Url;

use super::{Policy, check_plain};

/// How often a path is decoded to find a way up that is hidden in it.
const MAX_DECODINGS: usize = 4;

/// Where an address leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    scheme: String,
    /// `None`: a file, or a prefix that allows every host.
    host: Option<String>,
    port: Option<u16>,
    /// Decoded.
    path: String,
    /// There is a `..` in the path as it was written, encoded or not.
    climbs: bool,
}

impl Place {
    /// Where an address of a package leads.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(uri: &str) -> Result<Self, String> {
        let what = "expected an address that begins with http:// or https://";
        let (scheme, rest) = uri.split_once("://").ok_or(what)?;
        let scheme = scheme.to_ascii_lowercase();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let written = path_of(&rest[authority.len()..]);
        let climbs = climbs(written);
        match &*scheme {
            "file" if authority.is_empty() && written.starts_with('/') => {
                Ok(Self { scheme, host: None, port: None, path: decoded(written), climbs })
            }
            "http" | "https" => {
                // The client would take the first part of the path for the host.
                if authority.rsplit('@').next().is_none_or(|host| host.is_empty() || host.starts_with(':')) {
                    return Err("the address has no host".into());
                }
                let url = Url::parse(uri).map_err(|error| format!("invalid address: {error}"))?;
                let host = url.host_str().ok_or("the address has no host")?;
                // A dot at the end says that a name is whole, and names the same host.
                let host = Some(host.strip_suffix('.').unwrap_or(host).to_string());
                Ok(Self {
                    scheme,
                    host,
                    port: url.port_or_known_default(),
                    path: decoded(url.path()),
                    climbs,
                })
            }
            _ => Err(what.into()),
        }
    }

    /// What a prefix allows; `None`: nothing, because it is no address.
    fn of_prefix(prefix: &str) -> Option<Self> {
        match prefix.to_ascii_lowercase().as_str() {
            scheme @ ("http://" | "https://") => {
                let scheme = scheme.trim_end_matches("://").to_string();
                Some(Self { scheme, host: None, port: None, path: "/".into(), climbs: false })
            }
            _ => Self::of(prefix).ok(),
        }
    }

    /// Whether it is a file of this host.
    pub fn is_file(&self) -> bool {
        self.scheme == "file"
    }

    /// Whether it lies under one of these prefixes, at a boundary of its path.
    pub fn is_under_any(&self, prefixes: &[String]) -> bool {
        let under = |prefix: Self| {
            self.scheme == prefix.scheme
                && (prefix.host.is_none() || (&self.host, self.port) == (&prefix.host, prefix.port))
                && is_below(&self.path, &prefix.path)
        };
        !self.climbs && prefixes.iter().filter_map(|prefix| Self::of_prefix(prefix)).any(under)
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// Without query and fragment.
fn path_of(rest: &str) -> &str {
    rest.split(['?', '#']).next().unwrap_or_default()
}

/// Whether a part of the path leads up: `..`, also encoded, encoded twice, behind an encoded slash, or with parameters.
fn climbs(path: &str) -> bool {
    let mut path = path.to_string();
    for _ in 0..MAX_DECODINGS {
        let is_up = |part: &str| part.split(';').next() == Some("..");
        if path.split(['/', '\\']).any(is_up) {
            return true;
        }
        let next = decoded(&path);
        if next == path {
            return false;
        }
        path = next;
    }
    // What is encoded so often means to hide something.
    true
}

/// Percent-decoded; what is not encoded rightly stays as it is, and what is not UTF-8 becomes a replacement character.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = (byte == b'%').then(|| digit(at + 1).zip(digit(at + 2))).flatten();
        if let Some((high, low)) = pair {
            decoded.extend(u8::try_from(high * 16 + low));
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The path of a package that is a file of this host; `None`: the address leads elsewhere.
pub fn file_path(uri: &str) -> Option<String> {
    Place::of(uri).ok().filter(Place::is_file).map(|place| place.path)
}

/// Whether a package may be read from this path: the one that remains when all links are followed.
pub fn is_allowed_file(path: &str, policy: &Policy) -> bool {
    let prefixes = policy.allowed_uris.iter().flatten();
    let allowed =
        prefixes.filter(|prefix| check_plain(prefix).is_ok()).filter_map(|prefix| file_path(prefix));
    allowed.into_iter().any(|prefix| is_below(path, &prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::check::check_package_uri;

    fn allows(prefix: &str, address: &str) -> bool {
        let policy = Policy { allowed_uris: Some(vec![prefix.into()]), ..Policy::default() };
        check_package_uri(address, &policy).is_ok()
    }

    #[test]
    fn scheme_host_port_and_decoded_path_are_compared_and_nothing_else() {
        for (prefix, address) in [
            ("https://h/p/", "https://h/p/x.zip"),
            ("https://h/p", "https://h/p/x.zip"),
            ("https://h/p/x.zip", "https://h/p/x.zip"),
            ("https://h/p/", "HTTPS://H/p/x.zip"),
            ("HTTPS://H/p/", "https://h/p/x.zip"),
            ("https://h/p/", "https://h:443/p/x.zip"),
            ("http://h:80/p/", "http://h/p/x.zip"),
            ("https://h/p/", "https://h./p/x.zip"),
            ("https://h./p/", "https://h/p/x.zip"),
            ("https://h/p/", "https://u:pw@h/p/x.zip"),
            ("https://h/p/", "https://h/p/x?X-Amz-Credential=A%2Fb%2F..%2Fs3&s=../..#/../"),
            ("https://h/p q/".replace(' ', "%20").as_str(), "https://h/p%20q/x"),
            ("https://h/p/", "https://h/%70/x.zip"),
            ("https://h/%70/", "https://h/p/x.zip"),
            ("https://h/p/", "https://h/p/team%2Fapp/x.zip"),
            ("https://h/api/team%2fapp/", "https://h/api/team%2Fapp/x.zip"),
            ("https://h/p/", "https://h/p/100%25/x"),
            ("https://h/p/", "https://h/p/a..b/x"),
            ("https://h/p/", "https://h/p/./x"),
            ("http://[::1]:8080/", "http://[0:0:0:0:0:0:0:1]:8080/x"),
            ("http://127.0.0.1/", "http://127.1/x"),
            (
                "https://b\u{fc}cher.example/".replace("\\u{fc}", "\u{fc}").as_str(),
                "https://xn--bcher-kva.example/x",
            ),
            ("https://", "https://anywhere:8443/x"),
            ("HTTP://", "http://anywhere/x"),
            ("https://h", "https://h/x"),
            ("https://h", "https://h?x"),
            ("file:///srv/p/", "file:///srv/p/x.zip"),
            ("file:///srv/p/", "FILE:///srv/p/x.zip"),
            ("file:///srv/p/", "file:///srv/p/my%20package.zip"),
            ("file:///", "file:///x"),
        ] {
            assert!(allows(prefix, address), "{prefix} {address}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_not_under_a_prefix() {
        for (prefix, address) in [
            ("https://h/p/", "http://h/p/x"),
            ("https://h/p/", "https://h:8443/p/x"),
            ("https://h/p/", "https://h.evil/p/x"),
            ("https://h/p/", "https://h@evil/p/x"),
            ("https://h/p/", "https://evil/p/x#@h/p/x"),
            ("https://h/p/", "https://evil/?https://h/p/x"),
            ("https://h/p/", "https://h/P/x"),
            ("https://h/p", "https://h/pp/x"),
            ("https://h/p/", "https://h/p"),
            ("https://h/p/", "https://h/p/../q"),
            ("https://h/p/", "https://h/p/%2e%2e/q"),
            ("https://h/p/", "https://h/p/%2E./q"),
            ("https://h/p/", "https://h/p/%252e%252e/q"),
            ("https://h/p/", "https://h/p/%25252e%25252e/q"),
            ("https://h/p/", "https://h/p/a%2f..%2f..%2fq"),
            ("https://h/p/", "https://h/p/a%5c..%5cq"),
            ("https://h/p/", "https://h/p/..;/q"),
            ("https://h/p/", "https://h/p/..;a=b/q"),
            ("https://h/p/", "https://h/q/../p/x"),
            ("https://h/p/", "https://h//p/x"),
            ("https://h/p/", "https:///h/p/x"),
            ("https://h/p/", "https:/h/p/x"),
            ("https://h/p/", "https:h/p/x"),
            ("https://h/p/", "https://h:99999/p/x"),
            ("https://h/p/", "https://h../p/x"),
            ("https://", "http://h/x"),
            ("https://", "file:///x"),
            ("http://", "https://h/x"),
            ("http://[::1]/", "http://[::2]/x"),
            ("http://127.0.0.1/", "http://127.0.0.2/x"),
            ("h", "http://h/x"),
            ("://", "http://h/x"),
            ("file:///srv/p/", "file:///srv/p/../q"),
            ("file:///srv/p/", "file:///srv/p/%2e%2e/q"),
            ("file:///srv/p/", "file:///srv/q"),
            ("file:///srv/p/", "file://h/srv/p/x"),
            ("file:///srv/p/", "file:/srv/p/x"),
        ] {
            assert!(!allows(prefix, address), "{prefix} {address}");
        }
    }

    #[test]
    fn a_file_is_the_one_that_its_decoded_path_names() {
        assert_eq!(file_path("file:///srv/my%20p.zip?x#y").as_deref(), Some("/srv/my p.zip"));
        assert_eq!(file_path("FILE:///srv/100%25").as_deref(), Some("/srv/100%"));
        assert_eq!(file_path("file://h/srv"), None);
        assert_eq!(file_path("https://h/srv"), None);
        let policy = Policy { allowed_uris: Some(vec!["file:///srv/ok/".into()]), ..Policy::default() };
        assert!(is_allowed_file("/srv/ok/x y?z", &policy));
        // A directory of this very name is another one than the one that is allowed.
        for path in ["/srv/%6fk/x", "/srv/ok", "/srv/okay/x", "/srv/x"] {
            assert!(!is_allowed_file(path, &policy), "{path}");
        }
        assert!(!is_allowed_file("/srv/ok/x", &Policy::default()));
    }
}
