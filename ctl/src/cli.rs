//! The command line.

mod args;
mod backup;
mod complete;
mod event;
mod exit;
mod history;
mod import;
mod live;
mod overview;
mod plans;
mod preview;
mod render;
mod report;
mod services;
mod tasks;
mod terminal;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::client::{Client, default_socket};
use args::{Cli, Command, Output};
pub use complete::script as completions;
pub use exit::{CTRL_C, Failure, of_state};
pub use terminal::{Terminal, printable};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if complete::answered() {
        return ExitCode::SUCCESS;
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
    match dispatch(cli, terminal).await {
        Ok(code) => code,
        Err(failure) => {
            failure.show(terminal);
            failure.code()
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
    let Some(command) = cli.command else {
        return overview::overview(&socket, &client, output, terminal).await;
    };
    match command {
        Command::Plan(command) => plans::run(command, &client, output, terminal).await,
        Command::Execute(execute) => tasks::execute(execute, &client, output, terminal).await,
        Command::List { state, limit } => tasks::list(&state, limit, &client, output, terminal).await,
        Command::Status { id } => tasks::status(id, &client, output, terminal).await,
        Command::Watch { id } => watch::watch(id, 0, &client, output, terminal).await,
        Command::Wait { id } => watch::wait(id, &client, output, terminal).await,
        Command::Report { id, open } => report::report(id, open, &client, output, terminal).await,
        Command::Logs { id, service, follow } => {
            tasks::logs(id, service.as_deref(), follow, &client, output, terminal).await
        }
        Command::Stop { ids, now } => {
            tasks::command("stop", &ids, now, false, &client, output, terminal).await
        }
        Command::Pause(ids) => tasks::command("pause", &ids, false, false, &client, output, terminal).await,
        Command::Resume { ids, force, watch } => {
            tasks::command("resume", &ids, force, watch, &client, output, terminal).await
        }
        Command::RollbackPlan { id } => plans::of_task(id, "rollback-plan", &client, output, terminal).await,
        Command::RetryPlan { id } => plans::of_task(id, "retry-plan", &client, output, terminal).await,
        Command::Delete(ids) => tasks::command("delete", &ids, false, false, &client, output, terminal).await,
        Command::Service(command) => services::service(command, &client, output, terminal).await,
        Command::Repo(command) => services::repo(command, &client, output, terminal).await,
        Command::Events { follow, task, after } => {
            watch::events(follow, task, after, &client, output, terminal).await
        }
        Command::History { service, user, limit } => {
            let (service, user) = (service.as_deref(), user.as_deref());
            history::history(service, user, limit, &client, output, terminal).await
        }
        Command::Info => services::info(&client, output, terminal).await,
        Command::Backup { file } => backup::backup(&file, &client, output, terminal).await,
        Command::Completions { shell } => {
            terminal.raw(&complete::script(shell)?)?;
            Ok(0)
        }
    }
}
