//! The git command, hardened.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::{GitError, MAX_BYTES, MAX_FILES};
use crate::crashpoint::point;

/// No more of what git prints is read.
const MAX_OUTPUT: u64 = 16 << 20;

/// Our configuration: the only one that git reads. It reaches the processes at the other end of a
/// local fetch, too, which command-line options don't.
const CONFIG: &str = "\
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tattributesFile = /dev/null
\tfsync = objects,reference
[transfer]
\tfsckObjects = true
[submodule]
\trecurse = false
[fetch]
\trecurseSubmodules = false
[credential]
\thelper =
[http]
\tfollowRedirects = initial
\tlowSpeedLimit = 1000
\tlowSpeedTime = 30
[gc]
\tauto = 0
[maintenance]
\tauto = false
[protocol \"ext\"]
\tallow = never
[receive]
\tdenyCurrentBranch = ignore
";

/// Writes the configuration into the cache's directory.
pub fn write_config(cache: &Path) -> io::Result<()> {
    let path = cache.join("config.tmp");
    fs::File::create(&path)?.write_all(CONFIG.as_bytes())?;
    fs::rename(path, cache.join("config"))
}

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

    /// Makes a bare repository to which a group can push: the group is that of the directory above, if that
    /// hands it on (setgid).
    pub async fn init_shared(&self, path: &Path) -> Result<(), GitError> {
        // Directories are made with the mode that they are to have: to give it to them later, the setgid bit
        // would have to be set anew, which the daemon's unit does not allow.
        const SCRIPT: &str =
            "umask 002 && exec git init -q --bare --template= -b main --shared=group -- \"$0\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).arg(path);
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

    /// How many bytes the files of a commit have in all. Trees can be forged that name the same ones
    /// millions of times: the count ends where it is too much.
    pub async fn size_of(&self, repository: &Path, commit: &str) -> Result<u64, GitError> {
        let list = ["ls-tree", "-r", "-l", "--end-of-options", commit];
        let mut git =
            Running(self.command(Some(repository), &list).spawn().map_err(|error| missing(&error))?);
        let Some(output) = git.0.stdout.take() else { return Ok(0) };
        let counted = self.in_time("check out", count(output)).await?;
        let (files, bytes) = counted.map_err(|error| self.failed("check out", &error.to_string()))?;
        if files > MAX_FILES || bytes > MAX_BYTES {
            return Err(GitError::TooLarge { origin: self.origin.to_string() });
        }
        match git.0.wait().await {
            Ok(status) if status.success() => Ok(bytes),
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
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.cache.join("config"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes")
            .env("GIT_ALLOW_PROTOCOL", "file:https:http:ssh")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
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
    async fn in_time<T>(&self, what: &'static str, work: impl Future<Output = T>) -> Result<T, GitError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(GitError::Cancelled),
            () = tokio::time::sleep(self.timeout) => {
                let origin = self.origin.to_string();
                Err(GitError::TimedOut { what, origin, seconds: self.timeout.as_secs() })
            }
        }
    }

    fn failed(&self, what: &'static str, said: &str) -> GitError {
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

/// Files and their bytes in a list of `ls-tree -l`, as far as there are not too many.
async fn count(output: ChildStdout) -> io::Result<(u64, u64)> {
    /// Mode, type, hash and size stand before the path, whose length is up to the repository.
    const HEAD: usize = 100;
    let (mut files, mut bytes, mut line) = (0, 0u64, Vec::with_capacity(HEAD));
    let mut output = BufReader::new(output);
    while files <= MAX_FILES && bytes <= MAX_BYTES {
        let chunk = output.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        for &byte in chunk {
            if byte == b'\n' {
                let head = String::from_utf8_lossy(&line);
                let size = head.split_whitespace().nth(3).and_then(|size| size.parse().ok()).unwrap_or(0);
                bytes = bytes.saturating_add(size);
                files += 1;
                line.clear();
            } else if line.len() < HEAD {
                line.push(byte);
            }
        }
        let length = chunk.len();
        output.consume(length);
    }
    Ok((files, bytes))
}

fn missing(error: &io::Error) -> GitError {
    GitError::Missing(error.to_string())
}

/// What git said, in one line without control characters and credentials.
fn said(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let words =
        text.split_whitespace().map(|word| super::mask_url(word.trim_matches('\''))).collect::<Vec<_>>();
    let text = words.join(" ");
    let end = text.floor_char_boundary(500);
    if text.is_empty() { "git gave no reason".into() } else { text[..end].to_string() }
}
