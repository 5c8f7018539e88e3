//! The daemon's binary: its command line, its signals, its log.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use deployd::config::{Config, ConfigError, Overrides};
use deployd::daemon::{self, DaemonError, Signals};
use deployd::preflight::{CheckError, Finding};
use tokio::signal::unix::{SignalKind, signal};

/// What is logged by default. What clients send is no event of ours: actix_http would log their mistakes.
const LOG: &str = "info,actix_server=warn,actix_http=off";

/// Executes ordered releases of several services, once, and survives kill -9.
#[derive(Parser)]
#[command(
    name = "deployd",
    version,
    after_help = "Example:\n  deployd --config /etc/deployd/deployd.yaml\n\nAs deployd.service it is closed in: containers with `runtime: process` need /usr/lib/deployd/process-runtime.conf linked into /etc/systemd/system/deployd.service.d/ (`deployd check` says so).\n\nLogs go to standard error; DEPLOYD_LOG=debug shows more.\n\nExit codes: 0 ended as told, 2 usage, 65 the store is damaged, 70 the plan supervisor crashed, 74 the store can't be written, 75 another daemon holds the state directory or the socket, 78 configuration or catalog, 1 anything else."
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Options {
    /// Configuration file [default: /etc/deployd/deployd.yaml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Control socket [default: /run/deployd/deployd.sock]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// State directory [default: /var/lib/deployd]
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Directory of the catalog [default: /etc/deployd/services.d]
    #[arg(long, value_name = "DIR", global = true)]
    services_dir: Option<PathBuf>,
    /// Run for the calling user, in the directories of the XDG specification
    #[arg(long, global = true)]
    user: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Check the configuration, the catalog, plans and whether this host is fit, without a running daemon
    #[command(
        after_help = "Each thing that was looked at is a line: ok, warn or fail, and what to do about it. The mistakes of files go to standard error.\n\nExit codes: 0 nothing failed, 1 this host is not fit, 2 usage, 5 the catalog or a plan is not valid, 78 configuration.\n\nExample:\n  deployd check release.yaml"
    )]
    Check {
        /// Plans to check
        #[arg(value_name = "PLAN")]
        plans: Vec<PathBuf>,
    },
    /// Show a release of five services with a private daemon in a temporary directory
    #[command(after_help = "Example:\n  deployd demo")]
    Demo {
        /// Leave the daemon and its directory, to play with
        #[arg(long)]
        keep: bool,
    },
    /// A program for the demo's containers
    #[command(hide = true)]
    DemoService {
        /// Port on loopback, then words to answer with
        arguments: Vec<String>,
    },
    /// Write the manual pages and completion scripts of deployd and deployctl
    #[command(hide = true)]
    Assets {
        /// Where to
        directory: PathBuf,
    },
    #[command(hide = true)]
    Spawner,
    #[command(hide = true)]
    CheckDb {
        /// The store
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    keep_secrets();
    // The spawner stays small: it parses nothing and starts no thread.
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let [_, verb] = arguments.as_slice()
        && verb == "spawner"
    {
        return deployd::spawn::server::serve();
    }
    let cli = Cli::parse();
    let overrides = Overrides {
        config: cli.options.config,
        socket: cli.options.socket,
        state_dir: cli.options.state_dir,
        services_dir: cli.options.services_dir,
        user: cli.options.user,
    };
    let result = match cli.command {
        None => start_log(LOG).and_then(|()| serve(&overrides)),
        Some(Command::Check { plans }) => {
            deployd::preflight::check(&overrides, &plans, &mut show).map_err(Into::into)
        }
        Some(Command::Demo { keep }) => start_log("error").and_then(|()| deployd::demo::run(keep)),
        Some(Command::DemoService { arguments }) => return deployd::demo::service::serve(&arguments),
        Some(Command::Assets { directory }) => write_assets(&directory).map_err(Into::into),
        Some(Command::Spawner) => return deployd::spawn::server::serve(),
        Some(Command::CheckDb { file }) => {
            // What it finds is told in one line.
            std::panic::set_hook(Box::new(|_| {}));
            deployd::store::verify(&file).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("{}{error:#}", deployd::store::VERDICT));
            exit_code(&error)
        }
    }
}

/// Root's daemon holds passwords of plans and of the catalog: what crashes leaves no copy of them behind, and
/// nobody reads its memory. (A user's daemon knows nothing that the user doesn't.) What it starts is not
/// concerned: an exec gives that back.
fn keep_secrets() {
    if nix::unistd::geteuid().is_root() {
        nix::sys::prctl::set_dumpable(false).ok();
    }
}

fn write_assets(directory: &Path) -> std::io::Result<()> {
    deployd::assets::write(&Cli::command(), "8", deployd::assets::fixed, directory)?;
    deployd::assets::write(&deployctl::cli::definition(), "1", deployd::assets::asking, directory)
}

/// What went wrong, for whoever starts the daemon: see [`DaemonError::exit_code`].
fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<DaemonError>() {
        Some(error) => error.exit_code().into(),
        None if error.is::<ConfigError>() => 78.into(),
        None => error.downcast_ref::<CheckError>().map_or(1, CheckError::exit_code).into(),
    }
}

fn show(finding: &Finding) {
    // Who no longer reads has heard enough.
    writeln!(std::io::stdout(), "{finding}").ok();
}

#[expect(clippy::print_stderr, reason = "the one place where the daemon's binary speaks for itself")]
fn tell(text: &str) {
    eprintln!("{text}");
}

fn start_log(default: &str) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = match std::env::var("DEPLOYD_LOG") {
        Ok(wanted) => {
            EnvFilter::try_new(&wanted).map_err(|error| anyhow::anyhow!("DEPLOYD_LOG={wanted}: {error}"))?
        }
        Err(_) => EnvFilter::new(default),
    };
    if is_journal()
        && let Ok(journal) = deployd::log::journal::Journal::open()
    {
        tracing_subscriber::registry().with(filter).with(journal).init();
        return Ok(());
    }
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(deployd::log::Log::default())
        .with_ansi(terminal)
        .with_target(false)
        .init();
    Ok(())
}

/// Whether standard error is the stream that systemd says is the journal's.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let stat = nix::sys::stat::fstat(std::io::stderr()).ok();
    stream.zip(stat).is_some_and(|(stream, stat)| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn serve(overrides: &Overrides) -> anyhow::Result<()> {
    // This very program, even if an upgrade puts another one in its place: the two may not understand each other.
    let config = Config::load(overrides, PathBuf::from("/proc/self/exe"))?;
    let system = actix::System::new();
    system.block_on(async move {
        let signals = Signals::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let told = signals.clone();
        actix_rt::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => told.shutdown.cancel(),
                    _ = interrupt.recv() => told.shutdown.cancel(),
                    _ = hangup.recv() => told.reload.notify_one(),
                }
            }
        });
        daemon::run(config, signals).await?;
        Ok(())
    })
}
