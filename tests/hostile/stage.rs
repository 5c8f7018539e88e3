//! A daemon of root's that is attacked by what it is given: a service and builds of other users, a secret
//! that is none of theirs, and a look at what has become of it all.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client::{Answer, Identity, ask};
use crate::harness::Daemon;

/// A member of the group of operators, and of no other.
pub const OPERATOR: Identity = Identity { uid: 4711, gid: 1, groups: &[] };

/// What stands in the file that nobody may read.
pub const SECRET: &str = "S3CR3T-of-root-alone";

/// What the commands of attacks would make files of: in root's directories, and in everybody's.
const CANARY: &str = "deployd-evil";

pub struct Stage {
    pub daemon: Daemon,
    before: Vec<String>,
}

impl Stage {
    /// Service 1 is built and deployed; its container runs a program of its release, as nobody.
    pub fn new(configuration: &str) -> Self {
        let daemon = Daemon::new();
        let access = "access: { operators: [daemon] }\nshutdownGrace: 0s\n";
        daemon.write("deployd.yaml", &format!("{access}{configuration}"));
        let health = "health: { command: ['true'], interval: 10ms, settle: 0s }";
        let build = "build: { command: [/bin/sh, build.sh], output: out, timeout: 20s, user: nobody }";
        let run = "run:\n  command: [/bin/sh, ./run]\n  user: nobody\n  stopTimeout: 1s\n";
        daemon.add_running(1, &[("c1", "l1")], run, &format!("{health}\n{build}\nsharedPaths: [uploads]"));
        let open = |name: &str, mode: u32| {
            fs::set_permissions(daemon.path(name), Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(daemon.path("outside")).unwrap();
        daemon.write("outside/secret", SECRET);
        open("outside/secret", 0o600);
        // Whoever runs anything says here as whom.
        fs::create_dir(daemon.path("marks")).unwrap();
        open("marks", 0o1777);
        Self { daemon, before: canaries() }
    }

    pub fn launch(&mut self) {
        self.daemon.launch();
        fs::set_permissions(self.daemon.socket(), Permissions::from_mode(0o666)).unwrap();
    }

    /// What every attack runs, if it can: says who it is, and tries what only root can.
    pub fn payload(&self) -> String {
        let (marks, outside) = (self.daemon.path("marks"), self.daemon.path("outside"));
        let state = self.daemon.path("state");
        format!(
            "id -u > $(mktemp {marks}/XXXXXXXX)\n\
             for place in /etc / {outside} {state} {state}/services /root; do\n  touch $place/{CANARY}\ndone 2>/dev/null\n\
             cat {outside}/secret {state}/deployd.redb > stolen 2>/dev/null\n\
             (echo x >> ./run) 2>/dev/null\nchmod u+s /bin/sh 2>/dev/null\n",
            marks = marks.display(),
            outside = outside.display(),
            state = state.display(),
        )
    }

    /// A request of the operator's.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let socket = self.daemon.socket();
        OPERATOR.does(|| ask(&socket, method, path, headers, body)).expect("an answer")
    }

    /// Executes a plan as the operator, to its end: the state, or with what status it was refused.
    pub fn execute(&self, plan: &str) -> Result<(u64, String), u16> {
        let stored = self.ask("POST", "/v1/plans?name=attack", "", plan);
        if stored.status != 201 {
            return Err(stored.status);
        }
        let started = self.ask("POST", "/v1/tasks", "", "{\"plan\": \"attack\"}");
        if started.status != 201 && started.status != 202 {
            return Err(started.status);
        }
        let id = serde_json::from_str::<Value>(&started.body).unwrap()["id"].as_u64().unwrap();
        let ends = |state: &Value| state == "SUCCEEDED" || state == "FAILED";
        let end = self
            .daemon
            .until(id, |event| event["type"].as_str().unwrap().starts_with("task.") && ends(&event["state"]));
        Ok((id, end["state"].as_str().unwrap().to_string()))
    }

    /// Nothing has come out of its place, nobody was root, nothing was told.
    pub fn assert_unharmed(&self, what: &str) {
        assert_eq!(canaries(), self.before, "{what}");
        let outside: Vec<_> = below(&self.daemon.path("outside"));
        assert_eq!(outside, [self.daemon.path("outside/secret")], "{what}");
        let secret = self.daemon.path("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), SECRET, "{what}");
        let meta = fs::metadata(&secret).unwrap();
        assert!(meta.nlink() == 1 && meta.mode() & 0o7777 == 0o600 && meta.uid() == 0, "{what}");
        for mark in below(&self.daemon.path("marks")) {
            let uid = fs::read_to_string(&mark).unwrap();
            assert_ne!(uid.trim(), "0", "{what}: it ran as root");
        }
        assert_eq!(fs::metadata("/bin/sh").unwrap().mode() & 0o7000, 0, "{what}");
        let services = self.daemon.path("state/services");
        for path in below(&services) {
            self.look_at(what, &path);
        }
        for service in [".", "s1", "s1/releases", "s1/containers", "s1/containers/c1"] {
            let directory = services.join(service);
            let Ok(meta) = fs::symlink_metadata(&directory) else { continue };
            assert!(meta.is_dir() && meta.uid() == 0, "{what}: {}", directory.display());
        }
    }

    fn look_at(&self, what: &str, path: &Path) {
        // What a running container has may go at any time.
        let Ok(meta) = fs::symlink_metadata(path) else { return };
        let what = format!("{what}: {}", path.display());
        let is_shared = path.components().any(|part| part.as_os_str() == "shared");
        if is_shared {
            return;
        }
        if meta.is_symlink() {
            let end = fs::canonicalize(path).unwrap_or_default();
            let services = self.daemon.path("state/services");
            let service = path.strip_prefix(&services).unwrap().components().next().unwrap();
            let state = fs::canonicalize(services.join(service)).unwrap();
            assert!(
                end.as_os_str().is_empty() || end.starts_with(state),
                "{what} leads to {}",
                end.display()
            );
            return;
        }
        let kind = meta.file_type();
        assert!(!kind.is_block_device() && !kind.is_char_device() && !kind.is_fifo() && !kind.is_socket());
        assert_eq!(meta.mode() & 0o7022, 0, "{what}: mode {:o}", meta.mode());
        assert_eq!(meta.uid(), 0, "{what}");
        if meta.is_file() && !path.ends_with("current") {
            let bytes = fs::read(path).unwrap_or_default();
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{what} tells it");
        }
    }
}

/// What the commands of the attacks have made of their name.
fn canaries() -> Vec<String> {
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.contains(CANARY)).collect::<Vec<_>>()
    };
    ["/tmp", "/etc", "/", "/root", "."].into_iter().flat_map(names).collect()
}

/// Everything below a directory, links not followed.
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}
