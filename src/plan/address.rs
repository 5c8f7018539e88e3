//! Addresses in a plan: of packages, of repositories, of branches.

mod package;

pub use package::{file_path, is_allowed_file};

/// What the configuration allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Names of the built-in repositories; `None`: not known here, so every name may exist.
    pub repositories: Option<Vec<String>>,
    /// The directory of the built-in repositories.
    pub repository_dir: String,
    /// Prefixes under which other repositories may lie.
    pub allowed_repositories: Vec<String>,
    /// Prefixes under which packages may lie; `None`: any http(s) address, no file.
    pub allowed_uris: Option<Vec<String>>,
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repository {
    /// One of the daemon's own, by name.
    BuiltIn(String),
    /// Another one, which the configuration allows.
    Url(String),
}

/// Finds out which repository is meant.
///
/// # Errors
/// Why it can't be used, and what could be.
pub fn resolve_repository(written: &str, policy: &Policy) -> Result<Repository, String> {
    check_plain(written)?;
    if let Some(name) = built_in_name(written, policy) {
        return match &policy.repositories {
            Some(known) if !known.iter().any(|known| known == name) => Err(no_such_repository(name, known)),
            _ => Ok(Repository::BuiltIn(name.to_string())),
        };
    }
    let schemes = ["https://", "http://", "ssh://", "file:///", "/"];
    let is_scp = !written.contains("://") && !written.starts_with('/') && written.contains(':');
    if is_scp && written.contains("::") {
        return Err("remote helpers (`name::…`) are never run".into());
    }
    if !is_scp && !schemes.iter().any(|scheme| written.starts_with(scheme)) {
        return Err("it is neither a built-in repository's name nor an https, ssh or file address".into());
    }
    if is_allowed(written, &policy.allowed_repositories) {
        return Ok(Repository::Url(written.to_string()));
    }
    Err("this repository is neither built in nor under a prefix of `git.allowedRepositories` in the configuration".into())
}

fn no_such_repository(name: &str, known: &[String]) -> String {
    let all: Vec<&str> = known.iter().map(String::as_str).collect();
    let more = match crate::mistake::similar(name, &all) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("create it by `deployctl repo create {name}`, then push to it"),
    };
    format!("there is no built-in repository `{name}`; {more}")
}

/// The name, when a built-in repository is written as its name or its path.
fn built_in_name<'a>(written: &'a str, policy: &Policy) -> Option<&'a str> {
    let name = match written.strip_prefix(&*policy.repository_dir) {
        Some(rest) if !policy.repository_dir.is_empty() => rest.strip_prefix('/')?,
        _ => written,
    };
    let name = name.strip_suffix(".git").unwrap_or(name);
    is_repository_name(name).then_some(name)
}

/// `[a-z0-9][a-z0-9._-]{0,62}`, without `..`.
pub fn is_repository_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    name.len() <= 63
        && name.bytes().all(valid)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && !name.contains("..")
        && !name.ends_with('.')
}

/// Checks the address of a package.
///
/// # Errors
/// Why it can't be used. The address is not in the text: it may hold secrets.
pub fn check_package_uri(uri: &str, policy: &Policy) -> Result<(), String> {
    check_plain(uri)?;
    let place = package::Place::of(uri)?;
    match &policy.allowed_uris {
        None if place.is_file() => {
            Err("file addresses need a prefix in `packages.allowedUris` of the configuration".into())
        }
        None => Ok(()),
        Some(prefixes) if place.is_under_any(prefixes) => Ok(()),
        Some(_) => {
            Err("this address is not under a prefix of `packages.allowedUris` in the configuration".into())
        }
    }
}

/// No control characters, no blanks, nothing that a program could take for an option.
fn check_plain(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.starts_with('-') {
        return Err("it begins with `-`".into());
    }
    match text.chars().find(|c| c.is_control() || c.is_whitespace() || *c == '\\') {
        Some(c) => Err(format!("it contains the character {c:?}")),
        None => Ok(()),
    }
}

/// Whether the address of a repository lies under one of the prefixes: at a boundary of its path, and without any
/// way up (`..`, also percent-encoded).
pub fn is_allowed(address: &str, prefixes: &[String]) -> bool {
    let climbs = address.split(['/', '?', '#']).any(|part| {
        let part = part.to_ascii_lowercase().replace("%2e", ".");
        part == ".." || part.contains("%2f") || part.contains("%5c")
    });
    let under = |prefix: &String| {
        !prefix.is_empty()
            && address.strip_prefix(&**prefix).is_some_and(|rest| {
                rest.is_empty() || prefix.ends_with(['/', ':']) || rest.starts_with(['/', '?', '#'])
            })
    };
    !climbs && prefixes.iter().any(under)
}

/// Checks a branch's name by git's rules.
///
/// # Errors
/// Which rule it breaks.
pub fn check_branch(name: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    if name.is_empty() || name == "@" {
        return Err("it is no branch".into());
    }
    if name.starts_with('-') {
        return Err("a branch does not begin with `-`".into());
    }
    if let Some(c) = name.chars().find(|&c| bad(c)) {
        return Err(format!("a branch can't contain {c:?}"));
    }
    for forbidden in ["..", "@{", "//"] {
        if name.contains(forbidden) {
            return Err(format!("a branch can't contain `{forbidden}`"));
        }
    }
    let part_is_bad = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if name.ends_with('.') || name.split('/').any(part_is_bad) {
        return Err("no part of a branch is empty, begins with `.`, or ends with `.` or `.lock`".into());
    }
    Ok(())
}
