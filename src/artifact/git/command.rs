//! The git command, hardened.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::{GitError, MAX_BYTES, MAX_FILES, settings};
use crate::crashpoint::point;

/// The address of a repository whose server's side is at the other end of a stream.
pub const STREAM: &str = "fd::7";
/// Maximum number of bytes that are read of what git prints.
const MAX_OUTPUT: u64 = 16 << 20;

/// Runs git for one origin.
pub struct GitCommand<'a> {
    /// Where the configuration is.
    pub cache: &'a Path,
    /// For messages.
    pub origin: &'a str,
    /// Ends it.
    pub cancel: &'a CancellationToken,
    /// Then it is ended.
    pub timeout: Duration,
    /// Variables beside the usual ones.
    pub environment: Vec<(&'static str, String)>,
}

impl GitCommand<'_> {
    /// Runs git; the first line that it prints.
    pub async fn line(
        &self,
        what: &'static str,
        repository: Option<&Path>,
        args: &[&str],
    ) -> Result<String, GitError> {
        let text = self.text(what, repository, args).await?;
        Ok(text.lines().next().unwrap_or_default().to_string())
    }

    /// Runs git; all that it prints.
    pub async fn text(
        &self,
        what: &'static str,
        repository: Option<&Path>,
        args: &[&str],
    ) -> Result<String, GitError> {
        self.run(what, self.command(repository, args)).await
    }

    /// As [`Self::text`], with the server's side of the address [`STREAM`] at the other end of `stream`.
    pub async fn text_over(
        &self,
        what: &'static str,
        repository: Option<&Path>,
        args: &[&str],
        stream: UnixStream,
    ) -> Result<String, GitError> {
        // git does not pass its standard input on to what reads the stream for it.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" 7<&0 </dev/null", "sh", "git"]);
        if let Some(repository) = repository {
            command.arg("--git-dir").arg(repository);
        }
        let mut command = self.configured(command);
        command.args(args).env("GIT_ALLOW_PROTOCOL", "fd").stdin(Stdio::from(OwnedFd::from(stream)));
        self.run(what, command).await
    }

    /// Makes a bare repository. Its directories get the group of the one above, if that hands it on (setgid).
    pub async fn init(&self, path: &Path, shared: &str, umask: &str) -> Result<(), GitError> {
        // Directories are made with the mode that they are to have: to give it to them later, the setgid bit
        // would have to be set anew, which the daemon's unit does not allow.
        const SCRIPT: &str =
            "umask \"$2\" && exec git init -q --bare --template= -b main --shared=\"$1\" -- \"$0\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).arg(path).args([shared, umask]);
        self.run("create", self.configured(command)).await.map(|_| ())
    }

    /// Runs git in a work tree, with an index file of its own.
    pub async fn in_tree(
        &self,
        repository: &Path,
        index: &Path,
        tree: &Path,
        args: &[&str],
    ) -> Result<(), GitError> {
        let mut command = self.command(Some(repository), args);
        command.env("GIT_INDEX_FILE", index).env("GIT_WORK_TREE", tree).current_dir(tree);
        self.run("check out", command).await.map(|_| ())
    }

    /// What a commit holds, in all. Trees can be forged that name the same files millions of times: the count ends
    /// where it is too much.
    pub async fn tree_of(&self, repository: &Path, commit: &str) -> Result<Tree, GitError> {
        let list = ["ls-tree", "-r", "-l", "--end-of-options", commit];
        let mut git =
            Running(self.command(Some(repository), &list).spawn().map_err(|error| missing(&error))?);
        let Some(output) = git.0.stdout.take() else { return Ok(Tree::default()) };
        let counted = self.in_time("check out", count(output)).await?;
        let tree = counted.map_err(|error| self.failed("check out", &error.to_string()))?;
        if tree.files > MAX_FILES || tree.bytes > MAX_BYTES {
            return Err(GitError::TooLarge { origin: self.origin.to_string() });
        }
        match git.0.wait().await {
            Ok(status) if status.success() => Ok(tree),
            _ => Err(self.failed("check out", "its list of files can't be read")),
        }
    }

    fn command(&self, repository: Option<&Path>, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        if let Some(repository) = repository {
            command.arg("--git-dir").arg(repository);
        }
        command.args(args);
        self.configured(command)
    }

    fn configured(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .envs(settings::environment(&settings::of_cache(self.cache)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    async fn run(&self, what: &'static str, mut command: Command) -> Result<String, GitError> {
        point("before git");
        let mut git = Running(command.spawn().map_err(|error| missing(&error))?);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (git.0.stdout.take(), git.0.stderr.take());
        let work = async {
            let read_out = async {
                if let Some(stdout) = stdout {
                    stdout.take(MAX_OUTPUT).read_to_end(&mut out).await.ok();
                }
            };
            let read_err = async {
                if let Some(stderr) = stderr {
                    stderr.take(64 << 10).read_to_end(&mut err).await.ok();
                }
            };
            tokio::join!(read_out, read_err);
            git.0.wait().await
        };
        let status =
            self.in_time(what, work).await?.map_err(|error| self.failed(what, &error.to_string()))?;
        point("after git");
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        Err(self.failed(what, &said(&err)))
    }

    /// Awaits something of git's: until it takes too long, or the task is cut off.
    pub async fn in_time<T>(&self, what: &'static str, work: impl Future<Output = T>) -> Result<T, GitError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(GitError::Cancelled),
            () = tokio::time::sleep(self.timeout) => {
                let origin = self.origin.to_string();
                Err(GitError::TimedOut { what, origin, seconds: self.timeout.as_secs() })
            }
        }
    }

    pub fn failed(&self, what: &'static str, said: &str) -> GitError {
        GitError::Failed { what, origin: self.origin.to_string(), said: said.to_string() }
    }
}

/// A git that runs. Whoever stops waiting for it ends it, with everything that it has started: it leads a
/// group of its own.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Without an id it was waited for, and the number may be another's.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

/// What a commit holds.
#[derive(Debug, Default)]
pub struct Tree {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The path of the first submodule, as far as it is not too long.
    pub submodule: Option<String>,
}

impl Tree {
    /// Takes a line of `ls-tree -l`: mode, type, hash and size stand before the path.
    fn take(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let (head, path) = line.split_once('\t').unwrap_or((&line, ""));
        let mut words = head.split_whitespace();
        if words.next() == Some("160000") && self.submodule.is_none() {
            self.submodule = Some(path.escape_debug().to_string());
        }
        let size = words.nth(2).and_then(|size| size.parse().ok()).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(size);
        self.files += 1;
    }
}

/// Adds up a list of `ls-tree -l`, as far as there are not too many files.
async fn count(output: ChildStdout) -> io::Result<Tree> {
    /// How much of a line is kept: the length of its path is up to the repository.
    const HEAD: usize = 300;
    let (mut tree, mut line) = (Tree::default(), Vec::with_capacity(HEAD));
    let mut output = BufReader::new(output);
    while tree.files <= MAX_FILES && tree.bytes <= MAX_BYTES {
        let chunk = output.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        for &byte in chunk {
            if byte == b'\n' {
                tree.take(&line);
                line.clear();
            } else if line.len() < HEAD {
                line.push(byte);
            }
        }
        let length = chunk.len();
        output.consume(length);
    }
    Ok(tree)
}

fn missing(error: &io::Error) -> GitError {
    GitError::Missing(error.to_string())
}

/// What git said, in one line without control characters and credentials.
pub fn said(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let words =
        text.split_whitespace().map(|word| super::mask_url(word.trim_matches('\''))).collect::<Vec<_>>();
    let text = words.join(" ");
    let end = text.floor_char_boundary(500);
    if text.is_empty() { "git gave no reason".into() } else { text[..end].to_string() }
}
