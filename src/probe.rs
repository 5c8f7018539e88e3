//! When a started container counts as up: asked over http, tcp, by a command, or by its staying alive.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::address::{Address, Shown};
use crate::catalog::{Health, Limits};
use crate::spawn::ExitStatus;
use crate::spawn::command::{Command, Commands, Ended, Sandbox};
use crate::spawn::output::LastLines;
use crate::tls::{Clients, innermost};

/// One question takes no longer than this.
const MAX_TRY: Duration = Duration::from_secs(5);

/// Maximum number of bytes of what a command prints that are looked at.
const MAX_PRINTED: u64 = 64 << 10;

/// What is asked, with all variables expanded.
#[derive(Debug, Clone)]
pub enum ResolvedProbe {
    /// Nothing: it need only stay alive.
    Alive,
    /// GET this URL.
    Http {
        /// The address.
        url: Address,
        /// The address as the catalog has it: what its variables hold may be secret.
        shown: Shown,
    },
    /// Connect to `host:port`.
    Tcp {
        /// The address.
        address: Address,
        /// The address as the catalog has it.
        shown: Shown,
    },
    /// Run this.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// The container's environment.
        environment: BTreeMap<String, String>,
        /// The container's working directory.
        directory: PathBuf,
        /// The container's user.
        user: Option<String>,
    },
    /// Run a command where only its runtime can.
    Inside(Inside),
}

/// What an answer may be: fine, or why not.
type Asked = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A question that a runtime asks; it is told how long it may take.
#[derive(Clone)]
pub struct Inside(Arc<dyn Fn(Duration) -> Asked + Send + Sync>);

impl Inside {
    /// A question.
    pub fn new(ask: impl Fn(Duration) -> Asked + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inside")
    }
}

/// It is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Up {
    /// After this time.
    pub after: Duration,
}

/// It did not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeFailure {
    /// It ended.
    Exited {
        /// How, if that is known.
        status: Option<ExitStatus>,
        /// When.
        after: Duration,
    },
    /// It was not healthy in time.
    TimedOut {
        /// The time it had.
        timeout: Duration,
        /// What the last question came to.
        last: String,
    },
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { status: Some(status), after } => {
                write!(f, "it {status} after {:.1} s", after.as_secs_f64())
            }
            Self::Exited { status: None, after } => {
                write!(f, "it ended after {:.1} s; its status is not known", after.as_secs_f64())
            }
            Self::TimedOut { timeout, last } => {
                let seconds = timeout.as_secs_f64();
                write!(f, "not healthy within {seconds:.1} s (health.timeout): {last}")
            }
        }
    }
}

/// Waits until a container is healthy and has settled, has ended, or its time is over.
pub async fn up(
    health: &Health,
    probe: &ResolvedProbe,
    commands: &dyn Commands,
    exited: impl Future<Output = Option<ExitStatus>>,
) -> Result<Up, ProbeFailure> {
    let begun = Instant::now();
    let healthy = async {
        ask_until_healthy(health, probe, commands, begun).await?;
        let rest = health.settle.saturating_sub(begun.elapsed());
        // The shortest sleep takes a millisecond.
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        Ok(Up { after: begun.elapsed() })
    };
    tokio::select! {
        // Its end is looked at first: with `settle: 0s`, what has already ended must not count as up.
        biased;
        status = exited => Err(ProbeFailure::Exited { status, after: begun.elapsed() }),
        up = healthy => up,
    }
}

async fn ask_until_healthy(
    health: &Health,
    probe: &ResolvedProbe,
    commands: &dyn Commands,
    begun: Instant,
) -> Result<(), ProbeFailure> {
    let mut last = String::new();
    // While the daemon itself was stopped, nothing could be asked: that is no time of the container's.
    let mut stopped = Duration::ZERO;
    loop {
        let left = health.timeout.saturating_sub(begun.elapsed().saturating_sub(stopped));
        let time = left.min(MAX_TRY);
        let asked = Instant::now();
        let answer = timeout(time, ask(probe, commands, time)).await;
        stopped += beyond(asked, time);
        match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => last = why,
            // A question that was cut off by the end of the time says less than the answer before.
            Err(_) if time == MAX_TRY || last.is_empty() => {
                last = format!("no answer within {:.1} s", time.as_secs_f64());
            }
            Err(_) => {}
        }
        if begun.elapsed().saturating_sub(stopped) + health.interval >= health.timeout {
            return Err(ProbeFailure::TimedOut { timeout: health.timeout, last });
        }
        let slept = Instant::now();
        tokio::time::sleep(health.interval).await;
        stopped += beyond(slept, health.interval);
    }
}

/// By how much more than a busy machine explains something took longer than it can have.
fn beyond(since: Instant, limit: Duration) -> Duration {
    let late = since.elapsed().saturating_sub(limit);
    if late > Duration::from_secs(1) { late } else { Duration::ZERO }
}

async fn ask(probe: &ResolvedProbe, commands: &dyn Commands, time: Duration) -> Result<(), String> {
    match probe {
        ResolvedProbe::Alive => Ok(()),
        ResolvedProbe::Http { url, shown } => ask_http(url, shown).await,
        ResolvedProbe::Tcp { address, shown } => {
            match tokio::net::TcpStream::connect(address.reveal()).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("cannot connect to {shown}: {error}")),
            }
        }
        ResolvedProbe::Command { argv, environment, directory, user } => {
            let command = Command {
                who: "health",
                argv: argv.clone(),
                environment: probe_environment(environment),
                directory: directory.clone(),
                user: user.clone(),
                timeout: time,
                limits: Limits::default(),
                sandbox: Sandbox::Open,
                output: MAX_PRINTED,
                identity: None,
                over: None,
            };
            ask_command(command, commands).await
        }
        ResolvedProbe::Inside(inside) => (inside.0)(time).await,
    }
}

/// The command is not part of the container: what ends it must not end the container.
fn probe_environment(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut environment = environment.clone();
    if let Some(operation) = environment.get_mut("DEPLOYD_OPERATION") {
        operation.push_str(".health");
    }
    environment
}

async fn ask_http(url: &Address, shown: &Shown) -> Result<(), String> {
    static CLIENTS: LazyLock<Result<Clients, String>> = LazyLock::new(|| {
        let builder = || {
            let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
            client.no_proxy().pool_max_idle_per_host(0)
        };
        Clients::new(builder).map_err(|error| error.to_string())
    });
    let client = CLIENTS.as_ref().map_err(Clone::clone)?.of(url.reveal())?;
    let answer = client.get(url.reveal()).send().await.map_err(|error| innermost(&error))?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("{shown}: HTTP {status}"))
    }
}

async fn ask_command(command: Command, commands: &dyn Commands) -> Result<(), String> {
    let last = LastLines::new(1, None);
    let ended = commands.run(command, &CancellationToken::new(), last.clone()).await;
    let last_line = last.get().pop().unwrap_or_default();
    match ended {
        Ok(Ended::Exited(status)) if status.is_success() => Ok(()),
        Ok(Ended::Exited(status)) if last_line.is_empty() => Err(format!("the command {status}")),
        Ok(Ended::Exited(status)) => Err(format!("the command {status}: {last_line}")),
        Ok(Ended::TimedOut | Ended::Cancelled) => Err("the command took too long".into()),
        Err(error) => Err(error.to_string()),
    }
}
