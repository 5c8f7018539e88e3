//! Secrets of plans and of the catalog, and the places where they must not be: each has a word of its own,
//! which is looked for wherever somebody could find it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, PATIENCE, is_root, items, skip};
use crate::push::push;
use crate::server::{Server, Step};

/// What they all begin with: a word that is nowhere else, in this run of this test alone.
fn word(name: &str) -> String {
    format!("s3cr3t-{}-{name}", std::process::id())
}

/// The bits of a mode that let others than the owner read or write.
const OTHERS: u32 = 0o077;

const WORDS: [&str; 6] = ["package", "repository", "service", "container", "file", "build"];

/// As HTTP sends it: a log of headers would show it so.
fn encoded(name: &str) -> String {
    // Without its last characters, which depend on what follows.
    let bytes = format!("user:{}", word(name));
    let mut command = Command::new("base64");
    command.arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), bytes.as_bytes()).unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap().stdout;
    String::from_utf8(output).unwrap()[..16].to_string()
}

/// The names of the secrets that stand in some bytes.
fn found(bytes: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let is_there = |name: &&&str| text.contains(&word(name)) || text.contains(&encoded(name));
    WORDS.iter().filter(is_there).copied().collect()
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(below(&entry.path())),
            Ok(kind) if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    all
}

/// Each process with the secrets in its arguments, or in its environment.
fn processes(what: &str) -> Vec<(String, &'static str)> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let mut holders = Vec::new();
    for pid in all.filter(|name| name.parse::<u32>().is_ok()) {
        let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        holders.extend(found(&bytes).into_iter().map(|name| (command.clone(), name)));
    }
    holders
}

struct Stage {
    daemon: Daemon,
    packages: Server,
    /// Says nothing to whoever asks for branches.
    repositories: Server,
}

fn stage() -> Stage {
    let mut daemon = Daemon::new();
    let package = crate::answers::package();
    let packages = Server::new(move |_, head| {
        let status = if head.contains("/missing") { "404 No" } else { "200 OK" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", package.len());
        vec![Step::Say([head.as_bytes(), &package].concat())]
    });
    let repositories = Server::new(|_, _| vec![Step::Stall]);
    let allowed = with_secret(&repositories.url("/"), "repository");
    daemon.write(
        "deployd.yaml",
        &format!("git: {{ allowedRepositories: ['{allowed}'] }}\ntimeouts: {{ git: 3s, fetch: 5s }}\n"),
    );
    daemon.write("environment", &format!("FROM_FILE={}\n", word("file")));
    let run = format!(
        "run:\n  command: [/bin/sleep, '1000']\n  user: nobody\n  environment: {{ A: {} }}\n  environmentFile: {}\n",
        word("service"),
        daemon.path("environment").display()
    );
    let wait = format!("until test -e {}; do sleep 0.02; done", daemon.path("open-build").display());
    let more = format!(
        "health: {{ command: ['true'], interval: 10ms, settle: 0s }}\n\
         hooks: {{ preDeploy: ['true'] }}\n\
         build: {{ command: [/bin/sh, build.sh], output: out, environment: {{ B: {} }} }}",
        word("build")
    );
    for id in 1..=2 {
        let text = format!(
            "serviceId: {id}\nname: s{id}\nruntime: process\ncontainers:\n  - {{ name: c{id}, environment: {{ C: {} }} }}\n{run}{more}\n",
            word("container")
        );
        daemon.write(&format!("services.d/s{id}.yaml"), &text);
    }
    // What is root's alone: whoever writes it sees to that.
    for name in ["environment", "services.d/s1.yaml", "services.d/s2.yaml", "deployd.yaml"] {
        fs::set_permissions(daemon.path(name), Permissions::from_mode(0o600)).unwrap();
    }
    daemon.environment = vec![("DEPLOYD_LOG", "trace".into())];
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    push(&daemon, "app", &[("build.sh", &format!("{wait}; mkdir out; touch out/x"))], "main");
    Stage { daemon, packages, repositories }
}

fn with_secret(url: &str, name: &str) -> String {
    url.replace("http://", &format!("http://user:{}@", word(name)))
}

/// Waits until some process is like this.
fn until(daemon: &Daemon, what: &str, holds: impl Fn(&str, &str) -> bool) {
    let begun = Instant::now();
    while !processes(what).iter().any(|(command, name)| holds(command, name)) {
        assert!(begun.elapsed() < PATIENCE, "{:?}\n{}", processes(what), daemon.log());
        std::thread::yield_now();
    }
}

#[test]
fn a_secret_is_where_it_is_needed_and_nowhere_else() {
    if !is_root() {
        return skip("what other users could read is tested as root");
    }
    let Stage { daemon, packages, repositories } = stage();
    let package = |path: &str| format!(", httpSrcUri: '{}'", with_secret(&packages.url(path), "package"));
    let repository = with_secret(&repositories.url("/r.git"), "repository");
    let repository = format!(", compileRepoPath: '{repository}', compileRepoBranch: main");
    let built = ", compileRepoPath: app, compileRepoBranch: main";
    daemon.executed("one", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package("/p.tar"))]), "SUCCEEDED");
    daemon.executed("missing", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package("/missing"))]), "FAILED");
    let stalled = daemon.execute("git", &items(&[(1, 0, "COMPILE_DEPLOY", &repository)]));
    let building = daemon.execute("build", &items(&[(2, 0, "COMPILE_DEPLOY", built)]));

    // Arguments: of nobody. Environments: of git its password, of the build its own, of what runs in the
    // service the service's.
    until(&daemon, "environ", |command, name| command.starts_with("git ") && name == "repository");
    until(&daemon, "environ", |command, name| command.contains("build.sh") && name == "build");
    assert_eq!(processes("cmdline"), []);
    for (command, name) in processes("environ") {
        let may = match name {
            "repository" => command.contains("git"),
            "build" => command.contains("build.sh") || command.starts_with("sleep 0.02"),
            "service" | "container" | "file" => command.starts_with("/bin/sleep 1000") || command == "true ",
            _ => false,
        };
        // Between fork and exec a child has neither: it is the spawner, whose environment is empty.
        assert!(may, "{name} stands in the environment of {command}");
    }
    daemon.until_state(stalled, "FAILED");
    daemon.release("build");
    daemon.until_state(building, "SUCCEEDED");
    daemon.executed("two", &items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package("/p.tar?2"))]), "SUCCEEDED");

    // Answers, events, reports, errors. What a plan says stands in that plan, and in those made of it.
    let mut paths: Vec<String> = [
        "/v1/info",
        "/v1/plans",
        "/v1/tasks",
        "/v1/services",
        "/v1/repositories",
        "/v1/history",
        "/metrics",
        "/v1/events?follow=false",
    ]
    .map(String::from)
    .into();
    for id in 1..=5 {
        paths.extend(["", "/report", "/logs"].map(|more| format!("/v1/tasks/{id}{more}")));
    }
    for id in 1..=2 {
        paths.extend(["", "/logs"].map(|more| format!("/v1/services/{id}{more}")));
    }
    for path in &paths {
        let (_, head, body) = daemon.http("GET", path, "", "");
        assert_eq!(found(format!("{head}{body}").as_bytes()), [] as [&str; 0], "{path}: {body}");
    }
    for plan in ["one", "git"] {
        let (_, _, preview) =
            daemon.http("POST", "/v1/tasks", "", &format!("{{\"plan\": \"{plan}\", \"dryRun\": true}}"));
        assert_eq!(found(preview.as_bytes()), [] as [&str; 0], "{preview}");
    }
    let wrong = items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &package("/x").replace("http:", "htp:"))]);
    let (status, _, refusal) = daemon.http("POST", "/v1/plans/check", "", &wrong);
    assert!(status == 422 || status == 200, "{refusal}");
    assert_eq!(found(refusal.as_bytes()), [] as [&str; 0], "{refusal}");
    assert_eq!(found(daemon.http("GET", "/v1/plans/one", "", "").2.as_bytes()), ["package"]);
    for id in 1..=5 {
        for form in ["table", "html", "markdown", "yaml"] {
            let shown = daemon.ctl_ends(0, &["report", &id.to_string(), "-o", form]);
            assert_eq!(found(shown.as_bytes()), [] as [&str; 0], "{shown}");
        }
    }
    // The log, down to its last detail.
    assert_eq!(found(daemon.log().as_bytes()), [] as [&str; 0], "{}", daemon.log());
    // Files: what holds one is read by root alone, and there is but the store.
    let mut holders = Vec::new();
    for path in below(&daemon.path("state")) {
        let secrets = found(&fs::read(&path).unwrap_or_default());
        if !secrets.is_empty() {
            let meta = fs::metadata(&path).unwrap();
            assert!(meta.uid() == 0 && meta.mode() & OTHERS == 0, "{}: {:o}", path.display(), meta.mode());
            holders.push(path.strip_prefix(daemon.path("state")).unwrap().display().to_string());
        }
    }
    assert_eq!(holders, ["deployd.redb"]);
}

/// Ends a process by SIGABRT; whether it left an image of its memory.
fn dumps(command: &mut Command, ready: impl Fn(i32) -> bool) -> bool {
    let mut child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let begun = Instant::now();
    while !ready(pid) {
        assert!(begun.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(), "it does not come up");
        std::thread::yield_now();
    }
    kill(Pid::from_raw(pid), Signal::SIGABRT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6));
    status.core_dumped()
}

#[test]
fn a_crash_of_roots_daemon_leaves_no_image_of_its_memory() {
    if !is_root() {
        return skip("root's daemon is tested as root");
    }
    let daemon = Daemon::new();
    let limited = |command: &mut Command| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]);
        shell.arg(command.get_program()).args(command.get_args());
        let log = File::create(daemon.path("crash.log")).unwrap();
        shell.current_dir(daemon.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        shell
    };
    let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if !dumps(&mut limited(Command::new("sleep").arg("1000")), |pid| comm(pid) == "sleep\n") {
        return skip("this host keeps no images of crashed processes");
    }
    let up = |_: i32| std::os::unix::net::UnixStream::connect(daemon.socket()).is_ok();
    assert!(!dumps(&mut limited(&mut daemon.command()), up), "a core was dumped");
}
