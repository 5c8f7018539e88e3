//! The tutorial, carried out: its files are written, its commands run, and its output has to be what the
//! programs say. `DEPLOYD_UPDATE=1` puts what they say into the page.
//!
//! A comment before a block says what it is: `<!-- file: PATH -->` is written, of `<!-- varies -->` only the
//! commands count, for what they print depends on when the daemon dies.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use deployd::spawn::proc;
use deployd::spawn::tree::Run;

use super::{Block, Part, is_root, parts, programs, root, skip, updates};

const PATIENCE: Duration = Duration::from_mins(1);
const END: &str = "@@@ the command has ended";
/// Whom the page belongs to, and where they live.
const YOU: &str = "you";
const HOME: &str = "/home/you";

/// A shell in a home of its own; dropping it ends all that was started in it.
struct Shell {
    home: tempfile::TempDir,
    bash: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    user: String,
    /// The ports of the page, and those that are free here.
    ports: Vec<(String, String)>,
}

impl Shell {
    fn open(page: &str) -> Self {
        let home = tempfile::Builder::new().prefix("deployd-docs").tempdir().unwrap();
        let mut bash = if is_root() {
            // The page is for somebody who isn't.
            std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash"]);
            setpriv
        } else {
            Command::new("bash")
        };
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        // Somebody else may not be let in where they were built.
        let (built_in, bin) = (programs(), home.path().join("bin"));
        fs::create_dir(&bin).unwrap();
        for program in ["deployd", "deployctl"] {
            let (built, here) = (built_in.join(program), bin.join(program));
            fs::hard_link(&built, &here).or_else(|_| fs::copy(&built, &here).map(drop)).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        bash.env_clear().env("HOME", home.path()).env("PATH", path).env("LC_ALL", "C.UTF-8");
        for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "EMAIL"] {
            bash.env(name, "you@example.org");
        }
        let spawned =
            bash.arg("-s").current_dir(home.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut bash = spawned.unwrap();
        let (input, output) = (bash.stdin.take().unwrap(), BufReader::new(bash.stdout.take().unwrap()));
        let user = if is_root() { nix::unistd::Uid::from_raw(65534) } else { nix::unistd::geteuid() };
        let user =
            nix::unistd::User::from_uid(user).unwrap().map_or_else(|| user.to_string(), |user| user.name);
        let ports = (8081..=8083).filter(|port| page.contains(&port.to_string()));
        let ports = ports.map(|port| (port.to_string(), free_port())).collect();
        let mut shell = Self { home, bash, input, output, user, ports };
        shell.run("exec 2>&1");
        shell
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name.trim_start_matches("~/"))
    }

    fn here(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_string(), |text, (page, here)| text.replace(page, here))
    }

    /// What the page shows instead of what is only so here.
    fn as_on_the_page(&self, said: &str) -> String {
        let said = said.replace(&*self.home.path().to_string_lossy(), HOME);
        let said = [":", ",", "\n"].iter().fold(said, |text, end| {
            let who = |by: &str, user: &str| format!("{by} {user}{end}");
            text.replace(&who("by", &self.user), &who("by", YOU))
                .replace(&who(" ", &self.user), &who(" ", YOU))
        });
        let said = self.ports.iter().fold(said, |text, (page, here)| text.replace(here, page));
        // The shell's own word about the daemon.
        let lines = said.lines().filter(|line| !line.starts_with("bash: line") && !line.contains(" Killed "));
        lines.flat_map(|line| [line.trim_end(), "\n"]).collect()
    }

    /// Runs a command in the shell; what it prints.
    fn run(&mut self, command: &str) -> String {
        let begun = Instant::now();
        writeln!(self.input, "{}\necho '{END}'", self.here(command)).unwrap();
        self.input.flush().unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended at {command}:\n{said}");
            if line.trim_end() == END {
                return self.as_on_the_page(&said);
            }
            said.push_str(&line);
            assert!(begun.elapsed() < PATIENCE, "{command} does not end:\n{said}");
        }
    }

    /// Whoever types has had the time.
    fn until_there(&self) {
        let begun = Instant::now();
        let socket = self.path(".local/state/deployd/deployd.sock");
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = || fs::read_to_string(self.path("deployd.log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "the daemon does not answer:\n{}", log());
            std::thread::yield_now();
        }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        let mut folder = self.home.path().to_path_buf();
        for part in Path::new(file.trim_start_matches("~/")).parent().unwrap().components() {
            folder.push(part);
            fs::create_dir_all(&folder).unwrap();
            self.give(&folder);
        }
        fs::write(&path, self.here(text)).unwrap();
        self.give(&path);
    }

    fn give(&self, path: &Path) {
        if is_root() {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        assert!(path.starts_with(self.home.path()));
    }

    /// The block with what its commands print now.
    fn played(&mut self, block: &Block) -> String {
        let mut played = String::new();
        for command in block.commands() {
            let said = self.run(command);
            writeln!(played, "$ {command}").unwrap();
            played.push_str(&said);
            if command.starts_with("deployd --user") {
                self.until_there();
            }
        }
        played
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        writeln!(self.input, "kill -9 $(jobs -p); exit").ok();
        self.bash.wait().ok();
        let below =
            |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        for service in below(self.path(".local/state/deployd/services")) {
            for container in below(service.join("containers")) {
                let run = fs::read_to_string(container.join("run")).ok();
                if let Some(run) = run.as_deref().and_then(Run::from_text)
                    && proc::is_alive(run.pid, run.start_ticks).unwrap_or(false)
                {
                    let group = nix::unistd::Pid::from_raw(run.pid);
                    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
                }
            }
        }
    }
}

fn free_port() -> String {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// Times, durations, hashes and the width of columns differ from run to run.
fn shape(text: &str) -> String {
    let word = |word: &str| {
        let plain = word.trim_matches(|c: char| ",;:()".contains(c));
        let is_hash = plain.len() >= 7 && plain.chars().all(|c| c.is_ascii_hexdigit());
        let is_number = plain.parse::<f64>().is_ok() && plain.contains('.');
        let is_time = plain.len() > 15 && plain.starts_with("20") && plain.contains(':');
        if is_hash || is_number || is_time { "#".to_string() } else { word.to_string() }
    };
    let line = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        // 95 ms, 2.1 s
        words.join(" ").replace(" ms", " s")
    };
    text.lines().map(line).map(|line| digits(&line)).collect::<Vec<_>>().join("\n")
}

/// A number before a unit of time says nothing.
fn digits(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let unit =
        |index: usize| words.get(index + 1).is_some_and(|next| next.trim_matches([',', ';', ')']) == "s");
    let plain = words.iter().enumerate().map(|(index, word)| if unit(index) { "#" } else { word });
    plain.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_tutorial_is_what_happens() {
    for needed in ["curl", "python3", "git", "setpriv"] {
        if Command::new(needed).arg("--version").output().is_err() {
            return skip(&format!("the tutorial: {needed} is missing"));
        }
    }
    let file = root().join("docs/tutorial.md");
    let page = fs::read_to_string(&file).unwrap();
    let mut shell = Shell::open(&page);
    let mut now = String::new();
    for part in parts(&page) {
        match part {
            Part::Prose(text) => now.push_str(text),
            Part::Block(block) => {
                let mut body = block.body.to_string();
                if let Some(file) = block.note("file: ") {
                    shell.write(file, &body);
                } else if block.language == "console" {
                    body = shell.played(&block);
                    if block.note("varies").is_none() && !updates() {
                        assert_eq!(shape(&body), shape(block.body), "DEPLOYD_UPDATE=1 writes what is so now");
                    }
                }
                write!(now, "```{}\n{body}```\n", block.language).unwrap();
            }
        }
    }
    if updates() {
        fs::write(file, now).unwrap();
    }
}
