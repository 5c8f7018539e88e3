//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::complete;

/// Talk to deployd, the release daemon. Without a command: what is going on, and what can be done
#[derive(Debug, Parser)]
#[command(
    name = "deployctl",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not possible now or in conflict,\n\
                  5 plan or catalog not valid, 6 deployd not reachable, 7 not permitted.\n\
                  Commands that wait for a task: 0 SUCCEEDED, 10 FAILED, 11 STOPPED, 12 PAUSED, 13 INTERRUPTED.\n\n\
                  Example:\n  deployctl execute -f release.yaml --watch"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
pub struct Global {
    /// deployd's socket [default: /run/deployd/deployd.sock, else the user's]
    #[arg(long, env = "DEPLOYD_SOCKET", value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// How to show the result
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    pub output: Output,
    /// No colours, not even on a terminal (as does `NO_COLOR`)
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Only errors, and what was asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Yaml,
    /// Only of a report
    Markdown,
    /// Only of a report: one file that needs no network
    Html,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Release plans: check, store, show
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Execute a plan; prints the number of the new task
    #[command(
        after_help = "Examples:\n  deployctl execute shop --watch\n  deployctl execute shop@3 --dry-run\n  deployctl execute -f release.yaml --wait"
    )]
    Execute(Execute),
    /// The tasks, newest first
    #[command(after_help = "Example:\n  deployctl list --state RUNNING --state PAUSED")]
    List {
        /// Only tasks in this state (can be given several times)
        #[arg(long, value_name = "STATE", add = complete::states())]
        state: Vec<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// One screen about a task: state, progress, what it waits for, what can be done
    #[command(after_help = "Example:\n  deployctl status 7")]
    Status {
        #[arg(add = complete::tasks(""))]
        id: u64,
    },
    /// Follow a task until it rests; Ctrl-C leaves the task alone
    #[command(after_help = "Example:\n  deployctl watch 7")]
    Watch {
        #[arg(add = complete::tasks(""))]
        id: u64,
    },
    /// Wait until a task rests; the exit code says how
    #[command(after_help = "Example:\n  deployctl wait 7 && echo released")]
    Wait {
        #[arg(add = complete::tasks(""))]
        id: u64,
    },
    /// The report of a task
    #[command(
        after_help = "Examples:\n  deployctl report 7 -o json\n  deployctl report 7 --open\n  deployctl report 7 -o html > report.html"
    )]
    Report {
        #[arg(add = complete::tasks(""))]
        id: u64,
        /// As a page in the browser; without a desktop: says where the page is
        #[arg(long)]
        open: bool,
    },
    /// What builds, hooks and operations of a task said
    #[command(after_help = "Example:\n  deployctl logs 7 --service web --follow")]
    Logs {
        #[arg(add = complete::tasks(""))]
        id: u64,
        /// Only this service (id or name)
        #[arg(long, add = complete::services())]
        service: Option<String>,
        /// Go on until the task rests
        #[arg(short, long)]
        follow: bool,
    },
    /// Break off after the services that are being deployed now
    #[command(after_help = "Example:\n  deployctl stop 7 --wait")]
    Stop {
        #[command(flatten)]
        ids: Ids,
        /// Cut downloads, builds and health waits, too
        #[arg(long)]
        now: bool,
    },
    /// Hold back what comes after the services that are being deployed now
    #[command(after_help = "Example:\n  deployctl pause 7 --wait")]
    Pause(Ids),
    /// Go on with a paused or interrupted task
    #[command(after_help = "Example:\n  deployctl resume 7 --watch")]
    Resume {
        #[command(flatten)]
        ids: Ids,
        /// Although containers differ from what the task left
        #[arg(long)]
        force: bool,
        /// Follow it until it rests
        #[arg(long)]
        watch: bool,
    },
    /// A plan that takes back what a task has changed, for review
    #[command(
        after_help = "Example:\n  deployctl rollback-plan 7 > back.yaml && deployctl execute -f back.yaml --dry-run"
    )]
    RollbackPlan {
        #[arg(add = complete::tasks(""))]
        id: u64,
    },
    /// A plan of what a failed or stopped task did not get done
    #[command(
        after_help = "Example:\n  deployctl retry-plan 7 | deployctl execute -f - --name retry --watch"
    )]
    RetryPlan {
        #[arg(add = complete::tasks(""))]
        id: u64,
    },
    /// Delete tasks that rest
    #[command(after_help = "Example:\n  deployctl delete 5 6 7")]
    Delete(Ids),
    /// The catalog, with what its containers are doing
    #[command(subcommand)]
    Service(ServiceCommand),
    /// The built-in Git repositories
    #[command(subcommand)]
    Repo(RepoCommand),
    /// All events, one JSON object a line
    #[command(after_help = "Example:\n  deployctl events --follow | jq .type")]
    Events {
        /// Go on with what happens
        #[arg(short, long)]
        follow: bool,
        /// Only of this task
        #[arg(long, add = complete::tasks(""))]
        task: Option<u64>,
        /// Only after this one
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        after: u64,
    },
    /// Who did what: which release ran where, since when, by which task
    #[command(after_help = "Example:\n  deployctl history --service web --user alice")]
    History {
        /// Only of this service (id or name)
        #[arg(long, add = complete::services())]
        service: Option<String>,
        /// Only by this user
        #[arg(long)]
        user: Option<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// The daemon: version, uptime, counts, and who you are to it
    #[command(after_help = "Example:\n  deployctl info")]
    Info,
    /// Copy the daemon's store into a file, while it runs; an older file of this name is replaced
    #[command(after_help = "Example:\n  deployctl backup /var/backups/deployd.redb")]
    Backup {
        /// The file
        file: PathBuf,
    },
    /// A completion script for a shell
    #[command(after_help = "Example:\n  deployctl completions bash > /etc/bash_completion.d/deployctl")]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct Ids {
    /// Numbers of tasks
    #[arg(required = true, value_name = "ID", add = complete::tasks(""))]
    pub ids: Vec<u64>,
    /// Wait until they rest
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct Execute {
    /// A stored plan
    #[arg(value_name = "NAME[@REV]", add = complete::plans(), required_unless_present = "file", conflicts_with = "file")]
    pub plan: Option<String>,
    /// Store this file first, if it is not the newest revision already, under its name without
    /// ending (- is standard input)
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// The name under which the file is stored
    #[arg(long, requires = "file")]
    pub name: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Follow the task until it rests
    #[arg(long)]
    pub watch: bool,
    /// Wait for services that another task holds, then until the task rests
    #[arg(long)]
    pub wait: bool,
    /// The same key again starts nothing, but is answered with the task that was started first
    #[arg(long, value_name = "KEY", conflicts_with = "dry_run")]
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Everything that is wrong with a plan, without storing it
    #[command(after_help = "Example:\n  deployctl plan check release.yaml")]
    Check {
        /// The file (- is standard input)
        file: PathBuf,
    },
    /// A commented plan to begin with, out of the catalog
    #[command(after_help = "Example:\n  deployctl plan new web db > release.yaml")]
    New {
        /// Only of these services [default: all]
        #[arg(value_name = "SERVICE", add = complete::services())]
        services: Vec<String>,
    },
    /// Store a plan; the same name again is the next revision
    #[command(after_help = "Example:\n  deployctl plan create release.yaml --name shop")]
    Create {
        /// The file (- is standard input)
        file: PathBuf,
        /// Its name [default: the file's without ending]
        #[arg(long)]
        name: Option<String>,
    },
    /// The stored plans
    #[command(after_help = "Example:\n  deployctl plan list")]
    List,
    /// A plan as it was written
    #[command(after_help = "Example:\n  deployctl plan show shop@2")]
    Show {
        #[arg(value_name = "NAME[@REV]", add = complete::plans())]
        plan: String,
    },
    /// Delete all revisions of a plan
    #[command(after_help = "Example:\n  deployctl plan delete shop")]
    Delete {
        #[arg(add = complete::plans())]
        name: String,
    },
    /// The JSON Schema of a plan, for editors
    #[command(after_help = "Example:\n  deployctl plan schema > release-plan.schema.json")]
    Schema,
}

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// All services
    #[command(after_help = "Example:\n  deployctl service list")]
    List,
    /// One service and its containers
    #[command(after_help = "Example:\n  deployctl service show web")]
    Show {
        #[arg(value_name = "ID|NAME", add = complete::services())]
        service: String,
    },
    /// The last lines of its containers
    #[command(after_help = "Example:\n  deployctl service logs web --lines 50")]
    Logs {
        #[arg(value_name = "ID|NAME", add = complete::services())]
        service: String,
        /// How many of each container
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
    },
    /// A catalog file out of systemd units that exist
    #[command(
        after_help = "Example:\n  deployctl service import shop@1 shop@2 --id 7 --name shop -f /etc/deployd/services.d/shop.yaml"
    )]
    Import(Import),
    /// Read the catalog's files anew: all or nothing
    #[command(after_help = "Example:\n  deployctl service reload")]
    Reload,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The service units, one for each container
    #[arg(required = true, value_name = "UNIT")]
    pub units: Vec<String>,
    /// The number of the service
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub id: u64,
    /// The name of the service
    #[arg(long)]
    pub name: String,
    /// The file to write, which must not exist yet [default: standard output]
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// Units of the calling user's systemd (for deployd --user)
    #[arg(long)]
    pub user: bool,
}

#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Create a repository to push to
    #[command(after_help = "Example:\n  deployctl repo create shop")]
    Create { name: String },
    /// All repositories
    #[command(after_help = "Example:\n  deployctl repo list")]
    List,
    /// Delete a repository with everything in it
    #[command(after_help = "Example:\n  deployctl repo delete shop")]
    Delete {
        #[arg(add = complete::repositories())]
        name: String,
    },
}
