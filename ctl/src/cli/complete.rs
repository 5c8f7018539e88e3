//! Completions in a shell: commands and flags from their definition, names and numbers from the running daemon.
//!
//! The shell's script runs deployctl at each completion. A daemon that does not answer at once offers nothing:
//! nobody waits for a completion.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::args::Cli;
use super::terminal::printable;
use crate::client::{Client, ClientError, default_socket};
use crate::wire::plan::PlanList;
use crate::wire::service::{RepositoryList, ServiceList};
use crate::wire::task::{Task, TaskList};

/// What the script asks by.
const VARIABLE: &str = "_DEPLOYCTL_COMPLETE";
const NAME: &str = "deployctl";
/// A daemon that takes longer offers nothing.
const PATIENCE: Duration = Duration::from_millis(300);
/// So many tasks are offered.
const TASKS: usize = 50;

/// Whether this process was started for a completion; then it has said what there is.
pub fn answered() -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let completion = CompleteEnv::with_factory(definition).var(VARIABLE).bin(NAME).completer(NAME);
    // A shell shows what goes wrong in the middle of the line that is being typed.
    completion.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()).ok();
    true
}

/// The definition, with only those tasks for a command that it is possible for.
fn definition() -> clap::Command {
    let commands = ["stop", "pause", "resume", "delete"];
    commands.into_iter().fold(Cli::command(), |definition, name| {
        definition.mut_subcommand(name, |command| command.mut_arg("ids", |ids| ids.add(tasks(name))))
    })
}

/// The script of a shell.
pub fn script(shell: clap_complete::Shell) -> io::Result<Vec<u8>> {
    let (shells, shell) = (Shells::builtins(), shell.to_string());
    let known =
        shells.completer(&shell).ok_or_else(|| io::Error::other(format!("no completions for {shell}")))?;
    let mut script = Vec::new();
    known.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    if shell == "zsh" {
        // As a file that zsh loads by itself it is run at the first completion: it has to answer that one, too.
        let first = "[[ $funcstack[1] == _deployctl ]] && _clap_dynamic_completer_deployctl \"$@\"\n";
        script.extend(first.as_bytes());
    }
    Ok(script)
}

/// Tasks for which this command is possible; all of them for an empty one.
pub fn tasks(command: &'static str) -> ArgValueCompleter {
    completer(move |client| async move {
        let list: TaskList = client.get(&format!("/v1/tasks?limit={TASKS}")).await?;
        let fits = |task: &&Task| command.is_empty() || task.possible.iter().any(|it| it == command);
        let candidate = |task: &Task| {
            let about = format!("{}@{} {} by {}", task.plan, task.revision, task.state, task.created_by.user);
            (task.id.to_string(), Some(about))
        };
        Ok(list.tasks.iter().filter(fits).map(candidate).collect())
    })
}

/// Plans.
pub fn plans() -> ArgValueCompleter {
    completer(|client| async move {
        let list: PlanList = client.get("/v1/plans").await?;
        Ok(list.plans.into_iter().map(|plan| (plan.name, plan.comment)).collect())
    })
}

/// Services.
pub fn services() -> ArgValueCompleter {
    completer(|client| async move {
        let list: ServiceList = client.get("/v1/services").await?;
        Ok(list.services.into_iter().map(|service| (service.name, service.description)).collect())
    })
}

/// Built-in repositories.
pub fn repositories() -> ArgValueCompleter {
    completer(|client| async move {
        let list: RepositoryList = client.get("/v1/repositories").await?;
        Ok(list.repositories.into_iter().map(|it| (it.name, Some(it.branches.join(", ")))).collect())
    })
}

/// States of tasks.
pub fn states() -> ArgValueCompleter {
    const STATES: [&str; 8] =
        ["RUNNING", "STOPPING", "PAUSING", "SUCCEEDED", "FAILED", "STOPPED", "PAUSED", "INTERRUPTED"];
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy().to_uppercase();
        STATES.iter().filter(|it| it.starts_with(&typed)).map(CompletionCandidate::new).collect::<Vec<_>>()
    })
}

/// A candidate and what is said about it.
type Candidate = (String, Option<String>);

fn completer<F>(ask: impl Fn(Client) -> F + Send + Sync + 'static) -> ArgValueCompleter
where
    F: Future<Output = Result<Vec<Candidate>, ClientError>>,
{
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let found = answer(ask(Client::new(socket()))).unwrap_or_default();
        // Whatever a shell would not take as one plain word is not offered.
        let is_plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
        let fits = found.into_iter().filter(|(value, _)| value.starts_with(&*typed) && is_plain(value));
        let candidate = |(value, about): Candidate| {
            let about = about.map(|about| printable(&about).replace('\n', " ").into());
            CompletionCandidate::new(value).help(about)
        };
        fits.map(candidate).collect::<Vec<_>>()
    })
}

/// Runs it, as long as a completion may take.
fn answer<T>(ask: impl Future<Output = Result<T, ClientError>>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await });
    // What it has begun is not waited for.
    runtime.shutdown_background();
    answer.ok()?.ok()
}

/// The socket of the line that is being typed, else as always.
fn socket() -> PathBuf {
    let words: Vec<_> = std::env::args_os().collect();
    let given = words.iter().zip(words.iter().skip(1)).find_map(|(flag, value)| {
        let joined = flag.to_str().and_then(|flag| flag.strip_prefix("--socket=")).map(PathBuf::from);
        joined.or_else(|| (flag == "--socket").then(|| PathBuf::from(value)))
    });
    given.or_else(|| std::env::var_os("DEPLOYD_SOCKET").map(PathBuf::from)).unwrap_or_else(default_socket)
}
