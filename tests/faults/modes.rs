//! Somebody changes the modes of a user's daemon's directories while it works in them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::harness::{is_root, items};
use crate::http::PackageServer;
use crate::push::push;
use crate::scene::{Daemon, starts};

/// A plain user, whom nothing else runs as.
const SOMEBODY: u32 = 4711;

/// A daemon that is not root: nothing is forbidden to root.
fn users_daemon() -> Daemon {
    let mut daemon = Daemon::new();
    if is_root() {
        let [user, group] = ["--reuid", "--regid"].map(|option| format!("{option}={SOMEBODY}"));
        daemon.wrapper = vec!["setpriv".into(), user, group, "--clear-groups".into()];
        chown(daemon.path(""), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    }
    for id in [1, 2] {
        let line = format!(
            "echo $DEPLOYD_CONTAINER $DEPLOYD_OPERATION $$ 0 >> {}",
            daemon.path("witness").display()
        );
        let run = format!("run:\n  command: [/bin/sh, -c, '{line}; exec sleep 1000']\n  stopTimeout: 5s\n");
        let health =
            format!("health: {{ command: [/bin/sh, -c, '{}'], interval: 10ms, settle: 0s }}", daemon.wrote());
        let build = "build: { command: [/bin/sh, build.sh], output: out }";
        daemon.add_running(id, &[(&format!("c{id}"), "")], &run, &format!("{health}\n{build}"));
    }
    daemon.launch();
    daemon
}

/// A directory that nobody may enter, until this is dropped.
struct Shut(PathBuf, Permissions);

impl Shut {
    fn new(path: &Path) -> Self {
        let before = path.metadata().unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        Self(path.into(), before)
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        fs::set_permissions(&self.0, self.1.clone()).ok();
    }
}

/// A directory of the state's that is shut, during which way, and whether what runs runs on: of what was stopped to
/// be started again, the release can't be entered any more.
const SHUT: [(&str, &str, &str); 10] = [
    ("services/s1/releases", "HTTP_UPLOAD_DEPLOY", "running"),
    ("services/s1", "HTTP_UPLOAD_DEPLOY", "running"),
    ("services/s1/containers/c1", "HTTP_UPLOAD_DEPLOY", "running"),
    ("artifacts", "HTTP_UPLOAD_DEPLOY", "running"),
    ("builds", "COMPILE_DEPLOY", "running"),
    ("git-cache", "COMPILE_DEPLOY", "running"),
    ("git/app.git", "COMPILE_DEPLOY", "running"),
    ("services/s1", "RESTART", "running"),
    ("services/s1/containers/c1/current", "RESTART", "stopped"),
    ("services/s1/containers/c1", "STOP", "running"),
];

#[test]
fn a_directory_that_is_shut_in_the_middle_costs_its_task_only() {
    let mut daemon = users_daemon();
    let server = PackageServer::new();
    let package = |server: &PackageServer, path: &str| format!(", httpSrcUri: '{}'", server.url(path));
    let both = [1, 2].map(|id| (id, package(&server, &format!("/{id}.tar"))));
    let first: Vec<_> = both.iter().map(|(id, from)| (*id, 0, "HTTP_UPLOAD_DEPLOY", &**from)).collect();
    daemon.executed("first", &items(&first), "SUCCEEDED");
    assert_eq!(daemon.call("POST", "/v1/repositories", "{\"name\": \"app\"}").0, 201);
    for (directory, way, state) in SHUT {
        // What is built has to be another one each time.
        push(&daemon, "app", &[("build.sh", &format!("mkdir out && echo {directory} > out/file"))], "main");
        let server = PackageServer::new();
        let more = match way {
            "HTTP_UPLOAD_DEPLOY" => package(&server, &format!("/held/{directory}")),
            "COMPILE_DEPLOY" => ", compileRepoPath: app, compileRepoBranch: main".into(),
            _ => String::new(),
        };
        let plan = items(&[(1, 2, way, &more), (2, 1, "RESTART", "")]);
        let (path, before) = (daemon.path("state").join(directory), starts(&daemon));
        let task = if way == "HTTP_UPLOAD_DEPLOY" {
            let task = daemon.execute("shut", &plan);
            server.until_asked("/held");
            let _shut = Shut::new(&path);
            server.release();
            daemon.until_state(task, "FAILED");
            task
        } else {
            let _shut = Shut::new(&path);
            daemon.executed("shut", &plan, "FAILED")
        };
        let report = daemon.report(task);
        let error = report["deployments"][0]["error"]["message"].as_str().unwrap();
        let what = format!("{directory}, {way}: {error}");
        let is_clear = error.contains("Permission denied") || error.contains("access rights");
        assert!(is_clear && error.starts_with("cannot "), "{what}");
        assert_eq!(report["deployments"][1]["state"], "SKIPPED", "{what}");
        assert_eq!(starts(&daemon), before, "{what}");
        let service = daemon.call("GET", "/v1/services/1", "").1;
        assert_eq!(service["containers"][0]["state"], state, "{what}");
        daemon.executed("open", &plan, "SUCCEEDED");
    }
    // What could not be removed where it lay is swept by the next start.
    assert_eq!(daemon.terminate(), Some(0));
    daemon.launch();
}
