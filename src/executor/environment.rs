//! The environment of containers, hooks and builds.

use std::collections::BTreeMap;

use super::{Subject, failure};
use crate::catalog::{Container, Run, expand};
use crate::task::Failure;

/// Where programs are looked up when the catalog does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `DEPLOYD_*` for everything that runs on behalf of a deployment.
pub fn deployd(
    subject: &Subject,
    container: Option<&str>,
    release: Option<&str>,
    operation: &str,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("DEPLOYD_TASK".to_string(), subject.task.to_string()),
        ("DEPLOYD_SERVICE".to_string(), subject.service.name.clone()),
        ("DEPLOYD_SERVICE_ID".to_string(), subject.service.id.to_string()),
        ("DEPLOYD_DEPLOYMENT".to_string(), subject.way.name().to_string()),
        ("DEPLOYD_OPERATION".to_string(), operation.to_string()),
    ]);
    if let Some(container) = container {
        environment.insert("DEPLOYD_CONTAINER".into(), container.into());
    }
    if let Some(release) = release {
        environment.insert("DEPLOYD_RELEASE".into(), release.into());
    }
    environment
}

/// The whole environment of a container or a hook: the file, then `run.environment`, then the
/// container's own, then `DEPLOYD_*`; a later one wins.
pub fn whole(
    run: Option<&Run>,
    container: Option<&Container>,
    deployd: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Failure> {
    // An image says itself where its programs are; its users are not the host's.
    let in_image = container.is_some() && run.is_some_and(|run| run.image.is_some());
    let mut environment = if in_image { BTreeMap::new() } else { of_host(run) };
    if let Some(run) = run {
        if let Some(path) = &run.environment_file {
            environment.extend(read_file(path)?);
        }
        environment.extend(run.environment.clone());
    }
    if let Some(container) = container {
        environment.extend(container.environment.clone());
    }
    environment.extend(deployd);
    Ok(environment)
}

fn of_host(run: Option<&Run>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("PATH".to_string(), PATH.to_string())]);
    let user = run.and_then(|run| run.user.as_deref());
    if let Some(home) = user.and_then(home_of).or_else(|| std::env::var("HOME").ok()) {
        environment.insert("HOME".into(), home);
    }
    for name in ["USER", "LOGNAME"] {
        environment.extend(user.map(|user| (name.to_string(), user.to_string())));
    }
    environment
}

/// Expands `${VAR}` in each part of a command.
pub fn argv(command: &[String], environment: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    command.iter().map(|part| expand(part, environment)).collect::<Result<_, _>>().map_err(|error| {
        failure(
            "environment",
            format!("cannot expand the command: {error}; see `run` and the environment in the catalog"),
        )
    })
}

fn home_of(user: &str) -> Option<String> {
    let user = nix::unistd::User::from_name(user).ok()??;
    user.dir.to_str().map(str::to_string)
}

/// Reads `KEY=value` lines; blank lines and comments are passed over, one pair of quotes is taken off.
fn read_file(path: &str) -> Result<Vec<(String, String)>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        failure("environment", format!("cannot read the environment file {path}: {error}; mend it, or run.environmentFile in the catalog"))
    })?;
    parse(&text).map_err(|line| {
        failure(
            "environment",
            format!("cannot read the environment file {path}: line {line} is not KEY=value; mend that line"),
        )
    })
}

fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(index + 1)?;
        let key = key.trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if key.is_empty() || !key.chars().all(valid) || value.contains('\0') {
            return Err(index + 1);
        }
        variables.push((key.to_string(), unquote(value.trim()).to_string()));
    }
    Ok(variables)
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read() {
        let text = "# comment\n\nA=1\n B = two words \nC=\"quoted\"\nD='x=y'\nE=\n";
        let pairs = parse(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "two words"), ("C", "quoted"), ("D", "x=y"), ("E", "")]);
    }

    #[test]
    fn a_line_that_is_no_variable_is_named() {
        assert_eq!(parse("A=1\nnonsense\n"), Err(2));
        assert_eq!(parse("A B=1\n"), Err(1));
    }
}
