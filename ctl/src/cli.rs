//! The command line.

mod args;
mod backup;
mod complete;
mod exit;
mod git;
mod given;
mod history;
mod import;
mod live;
mod overview;
mod plans;
mod preview;
mod render;
mod report;
mod services;
mod session;
mod tasks;
mod terminal;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::client::{Client, default_socket};
pub use crate::view::text::printable;
use args::{Cli, Command, Output};
pub use complete::script as completions;
pub use exit::{CTRL_C, Failure, UNREAD, of_state};
pub use given::read as read_given;
use session::Session;
use tasks::{Request, Then};
pub use terminal::Terminal;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if complete::answered() {
        return ExitCode::SUCCESS;
    }
    if let Some(code) = git::answered() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut terminal = Terminal::of_process(cli.global.no_color, cli.global.quiet);
    match runtime {
        Ok(runtime) => ExitCode::from(runtime.block_on(finish(cli, &mut terminal))),
        Err(error) => {
            terminal.error(&format!("cannot start: {error}"));
            ExitCode::from(1)
        }
    }
}

/// The definition of the command line, for manual pages.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs a command line inside a program that has a runtime; the exit code.
pub async fn run<I, T>(arguments: I, terminal: &mut Terminal) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    match Cli::try_parse_from(arguments) {
        Ok(cli) => finish(cli, terminal).await,
        Err(error) => {
            terminal.error(&error.to_string());
            exit::USAGE
        }
    }
}

async fn finish(cli: Cli, terminal: &mut Terminal) -> u8 {
    let waits = cli.command.as_ref().is_some_and(Command::waits_for_task);
    match dispatch(cli, terminal).await {
        Ok(code) => code,
        Err(failure) => {
            failure.show(terminal);
            // `deployctl execute shop --watch | head`: how the task ends is not known.
            if waits && failure.is_unread() { exit::UNREAD } else { failure.code() }
        }
    }
}

async fn dispatch(cli: Cli, terminal: &mut Terminal) -> Result<u8, Failure> {
    let socket = cli.global.socket.clone().unwrap_or_else(default_socket);
    let client = Client::new(socket.clone());
    let output = cli.global.output;
    if matches!(output, Output::Markdown | Output::Html)
        && !matches!(cli.command, Some(Command::Report { .. }))
    {
        return Err(Failure::Usage(
            "only a report can be shown as markdown or html; use -o json, yaml or table".into(),
        ));
    }
    let session = &mut Session { client: &client, output, terminal };
    let Some(command) = cli.command else {
        return overview::overview(&socket, session).await;
    };
    match command {
        Command::Plan(command) => plans::run(command, session).await,
        Command::Execute(execute) => tasks::execute(execute, session).await,
        Command::List { state, limit } => tasks::list(&state, limit, session).await,
        Command::Status { id } => tasks::status(id, session).await,
        Command::Watch { id } => watch::watch(id, 0, session).await,
        Command::Wait { id } => watch::wait(id, session).await,
        Command::Report { id, open } => report::report(id, open, session).await,
        Command::Logs { id, service, follow } => tasks::logs(id, service.as_deref(), follow, session).await,
        Command::Stop { ids, now } => {
            tasks::command(Request::Stop { now }, &ids.ids, Then::wait(ids.wait), session).await
        }
        Command::Pause(ids) => tasks::command(Request::Pause, &ids.ids, Then::wait(ids.wait), session).await,
        Command::Resume { ids, force, watch } => {
            let then = if watch { Then::Watch } else { Then::wait(ids.wait) };
            tasks::command(Request::Resume { force }, &ids.ids, then, session).await
        }
        Command::Delete(ids) => tasks::command(Request::Delete, &ids.ids, Then::Return, session).await,
        Command::RollbackPlan { id } => plans::of_task(id, "rollback-plan", session).await,
        Command::RetryPlan { id } => plans::of_task(id, "retry-plan", session).await,
        Command::Service(command) => services::service(command, session).await,
        Command::Repo(command) => services::repo(command, session).await,
        Command::Events { follow, task, after } => watch::events(follow, task, after, session).await,
        Command::History { service, user, limit } => {
            history::history(service.as_deref(), user.as_deref(), limit, session).await
        }
        Command::Info => services::info(session).await,
        Command::Backup { file } => backup::backup(&file, session).await,
        Command::Completions { shell } => {
            session.terminal.raw(&complete::script(shell)?)?;
            Ok(0)
        }
    }
}
