//! The environment of containers, hooks and builds.

mod file;

use std::collections::BTreeMap;

use nix::sys::resource::{Resource, getrlimit};

use super::{Executor, Halt, Subject, failure};
use crate::catalog::{Container, Run, expand};
use crate::foreign::{Account, Reader, Wanted};
use crate::task::Failure;
use file::Wrong;

/// Where programs are looked up when the catalog does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Maximum number of bytes of an environment file.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of bytes of one argument or variable (MAX_ARG_STRLEN), with the NUL behind it.
const MAX_STRING: u64 = 128 << 10;
/// The kernel takes at least so many bytes of arguments and environment in all, however small the stack may be …
const MIN_ALL: u64 = 128 << 10;
/// … and at most so many, however large it may be. In between it is a quarter of the stack.
const MAX_ALL: u64 = 6 << 20;

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

impl Executor {
    /// As [`whole`], unless the deployment is cut off meanwhile.
    pub(super) async fn whole_environment(
        &self,
        subject: &Subject,
        run: Option<&Run>,
        container: Option<&Container>,
        deployd: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Halt> {
        tokio::select! {
            whole = whole(&self.reader, run, container, deployd) => Ok(whole?),
            () = subject.cancel.cancelled() => Err(Halt::Cut),
        }
    }
}

/// The whole environment of a container or a hook: the file, then `run.environment`, then the
/// container's own, then `DEPLOYD_*`; a later one wins.
async fn whole(
    reader: &Reader,
    run: Option<&Run>,
    container: Option<&Container>,
    deployd: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Failure> {
    // An image says itself where its programs are; its users are not the host's.
    let in_image = container.is_some() && run.is_some_and(|run| run.image.is_some());
    let mut environment = BTreeMap::new();
    let mut account = None;
    if !in_image {
        account = account_of(reader, run.and_then(|run| run.user.as_deref())).await?;
        environment.extend(of_host(account.as_ref()));
    }
    if let Some(run) = run {
        if let Some(path) = &run.environment_file {
            environment.extend(read_file(reader, path, account).await?);
        }
        environment.extend(run.environment.clone());
    }
    if let Some(container) = container {
        environment.extend(container.environment.clone());
    }
    environment.extend(deployd);
    Ok(environment)
}

async fn account_of(reader: &Reader, user: Option<&str>) -> Result<Option<Account>, Failure> {
    let Some(user) = user else { return Ok(None) };
    let why = match reader.account(user.to_string()).await {
        Ok(Some(account)) => return Ok(Some(account)),
        Ok(None) => "there is no such user. Create it, or change run.user in the catalog".to_string(),
        Err(error) => format!("{error}. See the system's user database (nsswitch.conf)"),
    };
    Err(failure("environment", format!("cannot find user {user}: {why}")))
}

fn of_host(account: Option<&Account>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("PATH".to_string(), PATH.to_string())]);
    let home = account.map(|account| account.home.clone()).or_else(|| std::env::var("HOME").ok());
    environment.extend(home.map(|home| ("HOME".to_string(), home)));
    for name in ["USER", "LOGNAME"] {
        environment.extend(account.map(|account| (name.to_string(), account.name.clone())));
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

/// Checks that the kernel takes these arguments and this environment (`execve(2)`), before anything is stopped for them.
pub fn check_size(argv: &[String], environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let stack = getrlimit(Resource::RLIMIT_STACK).map_or(u64::MAX, |limits| limits.0);
    check_size_within(argv, environment, (stack / 4).clamp(MIN_ALL, MAX_ALL))
}

fn check_size_within(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    most: u64,
) -> Result<(), Failure> {
    let refuse = |what: String, bytes: u64, most: u64| {
        let text = format!(
            "cannot start the program: {what} {bytes} bytes, and the system passes on at most {most}. Shorten \
             run.command, run.environment or the file of run.environmentFile"
        );
        Err(failure("environment", text))
    };
    // Each string ends with a NUL, and has a pointer.
    let of_variable = |(key, value): (&String, &String)| (key.len() + 1 + value.len() + 1) as u64;
    for variable in environment {
        if of_variable(variable) > MAX_STRING {
            return refuse(
                format!("the variable {} has", variable.0),
                of_variable(variable) - 1,
                MAX_STRING - 1,
            );
        }
    }
    let of_part = |part: &String| part.len() as u64 + 1;
    if let Some(part) = argv.iter().find(|part| of_part(part) > MAX_STRING) {
        return refuse("an argument of its command has".into(), of_part(part) - 1, MAX_STRING - 1);
    }
    let all: u64 = environment.iter().map(of_variable).chain(argv.iter().map(of_part)).map(|it| it + 8).sum();
    if all > most {
        return refuse("its command and environment have".into(), all, most);
    }
    Ok(())
}

async fn read_file(
    reader: &Reader,
    path: &str,
    account: Option<Account>,
) -> Result<Vec<(String, String)>, Failure> {
    let cannot = |why: String| {
        let text = format!(
            "cannot read the environment file {path}: {why}. Fix the file, or run.environmentFile in the catalog"
        );
        failure("environment", text)
    };
    let wanted = Wanted { path: path.into(), max: MAX_FILE, account };
    let bytes = reader.read(wanted).await.map_err(|error| cannot(error.to_string()))?;
    file::parse(&bytes).map_err(|Wrong { line, what }| cannot(format!("line {line}: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_large(argv: &[&str], environment: &[(&str, usize)]) -> Option<String> {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        let value = |&(key, length): &(&str, usize)| (key.to_string(), "x".repeat(length));
        check_size_within(&argv, &environment.iter().map(value).collect(), 1 << 20).err().map(|it| it.message)
    }

    #[test]
    fn environment_that_the_kernel_does_not_take_is_refused() {
        assert_eq!(too_large(&["a"], &[("A", 131_069)]), None);
        let said = too_large(&["a"], &[("A", 131_070)]).unwrap();
        assert!(
            said.contains("the variable A has 131072 bytes") && said.contains("at most 131071"),
            "{said}"
        );
        let long = "x".repeat(131_072);
        assert!(too_large(&["a", &long], &[]).unwrap().contains("an argument of its command"));
        let many = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"].map(|key| (key, 104_000));
        assert_eq!(too_large(&["a"], &many), None);
        let more = many.map(|(key, _)| (key, 105_000));
        assert!(too_large(&["a"], &more).unwrap().contains("its command and environment have"));
    }

    /// A real program is the judge of the limits.
    #[test]
    fn what_is_not_refused_is_taken_by_the_kernel() {
        let run = |length: usize| {
            let environment = BTreeMap::from([("A".to_string(), "x".repeat(length))]);
            let argv = vec!["/bin/true".to_string()];
            let admitted = check_size(&argv, &environment).is_ok();
            let taken = std::process::Command::new(&argv[0]).env_clear().envs(&environment).status().is_ok();
            (admitted, taken)
        };
        assert_eq!(run(131_069), (true, true));
        assert_eq!(run(131_070), (false, false));
    }
}
