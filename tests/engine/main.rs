//! deployd with engines: a real Podman (see `podman`, the script that runs one for a test), and a fake that says
//! what no engine could be made to say.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    reason = "these are tests, helpers included; the harness is shared"
)]

mod crashes;
mod fake;
#[path = "../it/harness.rs"]
mod harness;
mod pulls;
mod states;
mod versions;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use deployd::crashpoint::ENGINE;
use harness::{Daemon, is_root, skip};

/// A daemon beside an engine of its own.
struct Lab {
    daemon: Daemon,
    /// Where the engine lives; removed after it.
    engine: tempfile::TempDir,
}

impl Lab {
    /// `None` where the test can't run, which was said then.
    fn new() -> Option<Self> {
        let has = |program: &str| {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            found.is_ok_and(|found| found.status.success())
        };
        if !is_root() {
            skip("an engine of its own needs root");
            return None;
        }
        if let Some(program) =
            ["podman", "crun", "conmon", "busybox", "nsenter", "curl"].iter().find(|program| !has(program))
        {
            skip(&format!("{program} is not installed"));
            return None;
        }
        // No command, but a helper of Podman's.
        if !["lib", "libexec"].iter().any(|at| Path::new("/usr").join(at).join("podman/netavark").exists()) {
            skip("netavark is not installed");
            return None;
        }
        let engine = tempfile::Builder::new().prefix("deployd-engine").tempdir().unwrap();
        // Not the image's users: what is served to them has to be reachable.
        fs::set_permissions(engine.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let lab = Self { daemon: Daemon::new(), engine };
        lab.podman("up", &[]);
        lab.daemon.write(
            "deployd.yaml",
            &format!("engines: {{ podman: {} }}\n", lab.engine.path().join("podman.sock").display()),
        );
        lab.catalog("");
        Some(lab)
    }

    fn podman(&self, verb: &str, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/podman");
        let output = Command::new(script).arg(verb).arg(self.engine.path()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "podman {verb} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A service of two containers that write down their starts in what outlives releases.
    fn catalog(&self, run: &str) {
        let text = format!(
            "serviceId: 1\nname: web\nruntime: podman\ncontainers: [{{ name: a }}, {{ name: b }}]\n\
             run:\n  image: localhost/test:1\n  command: [./serve, one]\n  user: nobody\n  stopTimeout: 5s\n{run}\
             health: {{ command: [test, -e, /tmp/up], interval: 50ms, settle: 0s }}\nsharedPaths: [kept]\n"
        );
        self.daemon.write("services.d/web.yaml", &text);
    }

    /// A plan that deploys `script` as the program `serve`.
    fn deploy(&self, script: &str) -> String {
        let package = self.daemon.path("package");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("serve"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(package.join("serve"), fs::Permissions::from_mode(0o755)).unwrap();
        let file = self.daemon.path("package.tar");
        assert!(
            Command::new("tar")
                .arg("-C")
                .arg(&package)
                .arg("-cf")
                .arg(&file)
                .arg("serve")
                .status()
                .unwrap()
                .success()
        );
        let allowed = format!(
            "engines: {{ podman: {} }}\npackages: {{ allowedUris: [\"file://{}/\"] }}\n",
            self.engine.path().join("podman.sock").display(),
            file.parent().unwrap().display()
        );
        self.daemon.write("deployd.yaml", &allowed);
        format!(
            "deployPlanItems: [{{ serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: \"file://{}\" }}]\n",
            file.display()
        )
    }

    /// How often each operation has started a program.
    fn starts(&self) -> BTreeMap<String, usize> {
        let kept =
            fs::read_to_string(self.daemon.path("state/services/web/shared/kept/starts")).unwrap_or_default();
        let mut starts = BTreeMap::new();
        for line in kept.lines() {
            *starts.entry(line.to_string()).or_default() += 1;
        }
        starts
    }

    fn names(&self) -> Vec<String> {
        let listed = self.podman("do", &["ps", "--format", "{{.Names}}"]);
        let mut names: Vec<_> = listed.lines().map(str::to_string).collect();
        names.sort();
        names
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.podman("down", &[]);
    }
}

/// Writes down its start, is up, and ends when it is told to.
const SERVE: &str = "echo $DEPLOYD_OPERATION >> kept/starts; touch /tmp/up; id -u; trap 'exit 0' TERM; \
                     while :; do sleep 0.1; done";

fn plan(way: &str) -> String {
    format!("deployPlanItems: [{{ serviceId: 1, deployment: {way} }}]\n")
}

/// A catalog with a service of one container at the engine that listens at `socket`.
fn catalog_at(daemon: &Daemon, socket: &Path) {
    daemon.write("deployd.yaml", &format!("engines: {{ docker: {} }}\n", socket.display()));
    let run = format!("image: lab:1\n  command: [sleep, 1000]\n{}  stopTimeout: 1s\n", harness::user());
    daemon.write(
        "services.d/web.yaml",
        &format!(
            "serviceId: 1\nname: web\nruntime: docker\ncontainers: [{{ name: a }}]\n\
             run:\n  {run}health: {{ settle: 0s }}\n"
        ),
    );
}

const BOTH: [&str; 2] = ["deployd-web-a", "deployd-web-b"];

#[test]
fn each_way_does_to_an_engine_what_it_says() {
    let Some(mut lab) = Lab::new() else { return };
    let deploy = lab.deploy(SERVE);
    lab.daemon.launch();
    let task = lab.daemon.executed("deploy", &deploy, "SUCCEEDED");
    assert_eq!(lab.names(), BOTH);
    assert_eq!(lab.starts().len(), 2);
    let ended = |task: u64| {
        lab.daemon.report(task)["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| Some(event.get("containerId")?.as_str()?.to_string()))
            .collect::<Vec<_>>()
    };
    let first = ended(task);
    assert_eq!(first.len(), 2);

    let task = lab.daemon.executed("start", &plan("START"), "SUCCEEDED");
    let report = lab.daemon.report(task);
    assert_eq!(report["deployments"][0]["operations"][0]["state"], "UNCHANGED");
    let task = lab.daemon.executed("restart", &plan("RESTART"), "SUCCEEDED");
    assert!(ended(task).iter().all(|id| !first.contains(id)));
    assert_eq!(lab.starts().len(), 4);

    // What it says, as whom it runs, and from which release.
    let shown = lab.daemon.json(&["service", "show", "web"]);
    assert_eq!(shown["containers"][0]["state"], "running");
    assert_eq!(shown["containers"][0]["runningRelease"], shown["containers"][0]["release"]);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.to_string();
    assert!(lab.daemon.ctl_ends(0, &["service", "logs", "web"]).contains(&format!("a: {nobody}")));

    // A daemon that ends leaves them alone, and finds them again.
    lab.daemon.kill_9();
    assert_eq!(lab.names(), BOTH);
    lab.daemon.launch();
    assert_eq!(lab.daemon.json(&["service", "show", "web"])["containers"][1]["state"], "running");

    lab.daemon.executed("stop", &plan("STOP"), "SUCCEEDED");
    assert_eq!(lab.podman("do", &["ps", "-aq"]), "");
    lab.daemon.executed("again", &plan("START"), "SUCCEEDED");
    assert_eq!(lab.names(), BOTH);
}

#[test]
fn what_can_not_start_stops_nothing_or_says_why() {
    let Some(mut lab) = Lab::new() else { return };
    let deploy = lab.deploy(SERVE);
    lab.daemon.launch();
    lab.daemon.executed("deploy", &deploy, "SUCCEEDED");
    let before = lab.starts();

    // Without its image nothing is stopped.
    lab.catalog("  environment: {}\n");
    let text = fs::read_to_string(lab.daemon.path("services.d/web.yaml")).unwrap();
    lab.daemon.write("services.d/web.yaml", &text.replace("localhost/test:1", "127.0.0.1:1/none:1"));
    lab.daemon.ctl_ends(0, &["service", "reload"]);
    let task = lab.daemon.executed("image", &plan("RESTART"), "FAILED");
    let report = lab.daemon.report(task);
    assert_eq!(report["deployments"][0]["operations"][0]["error"]["code"], "imageFailed", "{report}");
    assert_eq!((lab.names(), lab.starts()), (BOTH.map(str::to_string).to_vec(), before));

    // A program that ends at once is shown with its last words.
    lab.catalog("");
    lab.daemon.ctl_ends(0, &["service", "reload"]);
    let broken = lab.deploy("echo I cannot find my database; exit 3");
    let task = lab.daemon.executed("broken", &broken, "FAILED");
    let report = lab.daemon.report(task).to_string();
    assert!(report.contains("I cannot find my database"), "{report}");

    // A container of that name which is somebody else's is left alone.
    lab.daemon.executed("stop", &plan("STOP"), "SUCCEEDED");
    lab.podman(
        "do",
        &["run", "-d", "--network", "none", "--name", "deployd-web-a", "localhost/test:1", "sleep", "1000"],
    );
    let task = lab.daemon.executed("foreign", &plan("START"), "FAILED");
    assert!(lab.daemon.report(task).to_string().contains("was not made by deployd"));
    assert_eq!(lab.names(), ["deployd-web-a"]);
}

#[test]
fn a_service_moves_between_a_process_and_an_engine() {
    let Some(mut lab) = Lab::new() else { return };
    let deploy = lab.deploy(SERVE);
    let of_engine = fs::read_to_string(lab.daemon.path("services.d/web.yaml")).unwrap();
    let of_process =
        of_engine.replace("runtime: podman", "runtime: process").replace("  image: localhost/test:1\n", "");
    lab.daemon.write("services.d/web.yaml", &of_process.replace("command: [test, -e, /tmp/up], ", ""));
    lab.daemon.launch();
    lab.daemon.executed("deploy", &deploy, "SUCCEEDED");
    let pid = lab.daemon.json(&["service", "show", "web"])["containers"][0]["pid"].as_i64().unwrap();
    lab.daemon.write("services.d/web.yaml", &of_engine);
    lab.daemon.ctl_ends(0, &["service", "reload"]);
    lab.daemon.executed("there", &plan("RESTART"), "SUCCEEDED");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the process runs beside its container");
    assert_eq!(lab.names(), BOTH);
    lab.daemon.write("services.d/web.yaml", &of_process.replace("command: [test, -e, /tmp/up], ", ""));
    lab.daemon.ctl_ends(0, &["service", "reload"]);
    lab.daemon.executed("back", &plan("RESTART"), "SUCCEEDED");
    assert_eq!(lab.podman("do", &["ps", "-aq"]), "");
    lab.daemon.executed("stop", &plan("STOP"), "SUCCEEDED");
}

/// The first of each point, in each way that meets it: what was begun is done once.
#[test]
fn killed_at_each_point_of_an_engine_each_container_is_started_once() {
    let Some(mut lab) = Lab::new() else { return };
    let deploy = lab.deploy(SERVE);
    let mut met = Vec::new();
    lab.daemon.launch();
    lab.daemon.executed("deploy", &deploy, "SUCCEEDED");
    // Its image has a volume, so that making one is met, too.
    let text = fs::read_to_string(lab.daemon.path("services.d/web.yaml")).unwrap();
    lab.daemon.write("services.d/web.yaml", &text.replace("localhost/test:1", "localhost/test:data"));
    lab.daemon.ctl_ends(0, &["service", "reload"]);
    for point in ENGINE.into_iter().chain(["before the commit of operation.ended"]) {
        let way = if point.contains("stop") || point.contains("remove") { "STOP" } else { "RESTART" };
        lab.daemon.executed("up", &plan("START"), "SUCCEEDED");
        lab.daemon.terminate();
        lab.daemon.environment = vec![("DEPLOYD_CRASH_AT", format!("{point}:1"))];
        lab.daemon.launch();
        let task = lab.daemon.execute("killed", &plan(way));
        assert_eq!(lab.daemon.wait_or_ended(), None, "{point} was not met");
        met.push(point);
        lab.daemon.environment.clear();
        lab.daemon.launch();
        lab.daemon.ctl_ends(0, &["resume", &task.to_string()]);
        lab.daemon.until_state(task, "SUCCEEDED");
        let twice: Vec<_> = lab.starts().into_iter().filter(|(_, count)| *count > 1).collect();
        assert!(twice.is_empty(), "killed {point}: started twice: {twice:?}");
        let expected: &[&str] = if way == "STOP" { &[] } else { &BOTH };
        assert_eq!(lab.names(), expected, "killed {point}");
        let own =
            lab.starts().into_keys().filter(|id| id.split('.').nth(1) == Some(&task.to_string())).count();
        assert_eq!(own, expected.len(), "killed {point}: each of this task's operations starts once");
    }
    lab.daemon.executed("stop", &plan("STOP"), "SUCCEEDED");
}
