//! `deployd demo`: a release of five services with a private daemon, killed in the middle.
//!
//! Everything is real: the daemon is a process of its own and is ended by SIGKILL, packages come
//! over HTTP, the repository is pushed to by git, containers are processes with health checks. It
//! plays in a directory of its own, on loopback, and leaves nothing behind.

mod package;
pub mod service;
mod stage;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use deployctl::cli::Terminal;
use deployctl::client::Client;
use deployctl::wire::Info;
use deployctl::wire::task::TaskList;

use stage::Stage;

/// How a container writes down that it was started.
const STARTED: &str = "started";
/// What is said after Ctrl-C.
const ENDED: &str = "the demo was ended; it has cleaned up after itself";
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays the demo. With `keep`, daemon and directory stay.
///
/// # Errors
/// When a part of it does not do what it should.
pub fn run(keep: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stage = Stage::set(package::serve(package::web()?)?, keep)?;
        let terminal = lines();
        let mut demo = Demo { client: Client::new(stage.socket()), stage, terminal };
        tokio::select! {
            played = demo.play() => played,
            _ = tokio::signal::ctrl_c() => bail!(ENDED),
        }
    })
}

/// Two write at the same time here: lines, not pictures.
fn lines() -> Terminal {
    let mut terminal = Terminal::of_process(false, false);
    terminal.is_live = false;
    terminal
}

struct Demo {
    stage: Stage,
    client: Client,
    terminal: Terminal,
}

impl Demo {
    async fn play(&mut self) -> anyhow::Result<()> {
        self.prepare().await?;
        let task = self.release().await?;
        self.say(&["", "The same task goes on where it was: what is done stays, the rest follows."])?;
        self.ctl(&["resume", &task.to_string(), "--watch"], 0).await?;
        self.say(&["", "Exactly what happened:"])?;
        self.ctl(&["report", &task.to_string()], 0).await?;
        self.prove()?;
        self.farewell()
    }

    /// The daemon, the repository, and what runs before the release.
    async fn prepare(&mut self) -> anyhow::Result<()> {
        let directory = self.stage.directory.display().to_string();
        self.say(&[
            "deployd demo: a release of five services, killed in the middle.",
            &format!("Catalog, plans, state and logs are in {directory}."),
            "",
            "A private daemon is started. The repository `api` is created, and its source pushed to it:",
        ])?;
        self.start_daemon().await?;
        self.ctl(&["repo", "create", "api"], 0).await?;
        push(&self.stage.path("api"), &self.stage.path("state/git/api.git"))?;
        self.say(&["", "Two services run already, before the release:"])?;
        self.ctl(&["execute", "-f", "before.yaml", "--wait", "--quiet"], 0).await?;
        self.ctl(&["service", "list"], 0).await?;
        self.say(&["", "The release plan uses all five ways, in three batches:"])?;
        self.ctl(&["plan", "check", "plan.yaml"], 0).await?;
        self.ctl(&["execute", "-f", "plan.yaml", "--dry-run"], 0).await
    }

    /// Executes the plan and kills the daemon while the second batch is being deployed.
    async fn release(&mut self) -> anyhow::Result<u64> {
        let last = self.last_event().await?;
        self.say(&["", "It is executed; and while its second batch goes on, the daemon is killed:"])?;
        let client = self.client.clone();
        let mut arguments = self.arguments(&["execute", "-f", "plan.yaml", "--watch"]);
        self.say(&["$ deployctl execute -f plan.yaml --watch"])?;
        arguments[0] = "deployctl".into();
        let mut terminal = lines();
        let watch = deployctl::cli::run(arguments, &mut terminal);
        let stage = &mut self.stage;
        let strike = async {
            let mut events = client.events(None, last, true);
            while let Some(event) = events.next().await? {
                let is_web = event.details.get("service").is_some_and(|service| service == "web");
                if event.kind == "operation.begun" && is_web {
                    break;
                }
            }
            // The containers of `web` are started or about to be: the worst moment there is.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let daemon = stage.daemon().unwrap_or_default();
            stage.kill_daemon()?;
            let mut terminal = lines();
            terminal.line(&format!("$ kill -9 {daemon}"))?;
            terminal.line("$ deployd &")?;
            stage.start_daemon()
        };
        let (code, struck) = tokio::join!(watch, strike);
        struck?;
        if code != 13 {
            bail!("the task was to be INTERRUPTED, but `execute --watch` ended with {code}");
        }
        self.answers().await?;
        self.say(&["", "The daemon is back. Its containers were not touched, and the task is INTERRUPTED:"])?;
        self.ctl(&["list"], 0).await?;
        let tasks: TaskList = self.client.get("/v1/tasks?limit=1").await?;
        tasks.tasks.first().map(|task| task.id).context("the task is gone")
    }

    /// The containers have written down themselves who started them.
    fn prove(&mut self) -> anyhow::Result<()> {
        let mut starts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for start in self.stage.starts() {
            *starts.entry(start).or_default() += 1;
        }
        let twice: Vec<_> = starts.iter().filter(|(_, count)| **count != 1).collect();
        if !twice.is_empty() {
            bail!("operations were carried out more than once: {twice:?}");
        }
        // 2 workers and 2 gateways before; then the cache, 2 web, 2 api, and 2 gateways again.
        if starts.len() != 11 {
            bail!("{} containers were started instead of 11: {starts:?}", starts.len());
        }
        let text = format!(
            "The containers wrote down themselves by which operation they were started: {} starts, \
             none twice, none missing, although the daemon was killed.",
            starts.len()
        );
        self.say(&["", &text])
    }

    fn farewell(&mut self) -> anyhow::Result<()> {
        let next = [
            "",
            "What to try next:",
            "  the catalog and plan of this demo are in examples/; docs/tutorial.md goes from nothing to a release of your own",
            "  deployd demo --keep     leaves this daemon running, to play with",
            "  deployctl --help        pause, stop, resume, logs, events, and all the rest",
        ];
        let Some(daemon) = self.stage.daemon().filter(|_| self.stage.is_kept()) else {
            return self.say(&next);
        };
        let (socket, directory) =
            (self.stage.socket().display().to_string(), self.stage.directory.display().to_string());
        self.say(&[
            "",
            "The daemon and its services go on. To talk to it:",
            &format!("  export DEPLOYD_SOCKET={socket}"),
            &format!("  cd {directory}; deployctl execute -f plan.yaml --watch"),
            "To end it, first its services:",
            &format!("  deployctl execute -f {directory}/end.yaml --wait; kill {daemon}; rm -r {directory}"),
        ])
    }

    fn say(&mut self, lines: &[&str]) -> anyhow::Result<()> {
        for line in lines {
            self.terminal.line(line)?;
        }
        Ok(())
    }

    /// Runs a command of deployctl as a user would, and shows it.
    async fn ctl(&mut self, command: &[&str], expected: u8) -> anyhow::Result<()> {
        self.say(&[&format!("$ deployctl {}", command.join(" "))])?;
        let arguments = self.arguments(command);
        let code = deployctl::cli::run(arguments, &mut self.terminal).await;
        if code == deployctl::cli::CTRL_C {
            bail!(ENDED);
        }
        if code != expected {
            self.stage.check_daemon()?;
            bail!("deployctl {} ended with {code} instead of {expected}", command.join(" "));
        }
        Ok(())
    }

    /// The whole command line: files are those of the demo.
    fn arguments(&self, command: &[&str]) -> Vec<String> {
        let mut arguments = vec!["deployctl".to_string()];
        arguments.extend(["--socket".to_string(), self.stage.socket().display().to_string()]);
        for part in command {
            let is_file = Path::new(part).extension().is_some_and(|extension| extension == "yaml");
            arguments.push(if is_file {
                self.stage.path(part).display().to_string()
            } else {
                (*part).into()
            });
        }
        arguments
    }

    async fn start_daemon(&mut self) -> anyhow::Result<()> {
        self.stage.start_daemon()?;
        self.answers().await
    }

    /// Waits until the daemon answers.
    async fn answers(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while let Err(error) = self.client.get::<Info>("/v1/info").await {
            self.stage.check_daemon()?;
            if begun.elapsed() > PATIENCE {
                return Err(error).context("the daemon does not answer");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn last_event(&self) -> anyhow::Result<u64> {
        let mut events = self.client.events(None, 0, false);
        let mut last = 0;
        while let Some(event) = events.next().await? {
            last = event.seq;
        }
        Ok(last)
    }
}

/// Commits the files of a directory and pushes them.
fn push(source: &Path, repository: &Path) -> anyhow::Result<()> {
    let repository = repository.display().to_string();
    let commands: [&[&str]; 4] = [
        &["init", "-q", "-b", "main"],
        &["add", "."],
        &["-c", "user.name=demo", "-c", "user.email=demo@localhost", "commit", "-q", "-m", "The API"],
        &["push", "-q", &repository, "main"],
    ];
    for arguments in commands {
        let ran = Command::new("git")
            .args(arguments)
            .current_dir(source)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .context("the demo builds a service from Git, and git can't be run: install the package git")?;
        if !ran.status.success() {
            bail!("git {} failed: {}", arguments[0], String::from_utf8_lossy(&ran.stderr));
        }
    }
    Ok(())
}
