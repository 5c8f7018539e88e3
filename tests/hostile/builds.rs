//! Builds of hostile repositories: each ends, as somebody who is not root, with nothing left of it and
//! nobody else disturbed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::harness::{PATIENCE, is_root, items, skip};
use crate::push::push;
use crate::stage::Stage;

/// What the builds may write, in all.
const ROOM: &str = "48m";

/// Puts a bundle of the corpus into a built-in repository, as a push would.
fn unbundle(stage: &Stage, name: &str) {
    let created = stage.ask("POST", "/v1/repositories", "", &format!("{{\"name\": \"{name}\"}}"));
    assert_eq!(created.status, 201, "{}", created.body);
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/git/{name}.bundle"));
    let fetched = Command::new("git")
        .args(["-c", "safe.directory=*", "fetch", "-q"])
        .arg(bundle)
        .arg("+refs/*:refs/*")
        .current_dir(stage.daemon.path(&format!("state/git/{name}.git")))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
}

/// The processes that say in their environment that they belong to a build of this daemon.
fn processes(stage: &Stage) -> Vec<String> {
    let place = format!("TMPDIR={}", stage.daemon.path("state/builds").display());
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let of_a_build = |pid: &String| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&place)
    };
    all.filter(|name| name.parse::<u32>().is_ok()).filter(of_a_build).collect()
}

/// A repository of the corpus, as whom it is built by, and what its script does.
const ATTACKS: [(&str, &str, &str); 8] = [
    ("build-hostile", "[make]", "uid.txt"),
    ("build-daemon", "[make]", "out"),
    ("build-fill", "[make]", "fill"),
    ("build-forkbomb", "[/bin/sh, build.sh]", "out"),
    // The same, as a shell understands it.
    ("attr-filter", "[/bin/sh, -c, 'b() { b | b & }; b; sleep 100']", "out"),
    ("symlink-abs", "[/bin/sh, -c, 'cp -r . ../copy; mv ../copy out']", "out"),
    ("symlink-out", "[/bin/sh, -c, 'cat * > out; true']", "out"),
    ("ok", "[/bin/sh, -c, 'kill -9 -1; kill -9 $PPID; sleep 100']", "out"),
];

#[test]
fn hostile_builds_end_alone_and_leave_nothing() {
    if !is_root() {
        return skip("as whom a build runs is tested as root");
    }
    let mut stage = Stage::new("");
    // Its builds have little room, and not many processes: this machine is not theirs.
    let mount = format!(
        "mkdir -p {0} && mount -t tmpfs -o size={ROOM},mode=755 builds {0} && exec prlimit --nproc=300 \"$@\"",
        stage.daemon.path("state/builds").display()
    );
    stage.daemon.wrapper = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &mount, "sh"]
        .map(str::to_string)
        .into();
    let run = "run:\n  command: [/bin/sleep, '1000']\n  user: daemon\n";
    stage.daemon.add_running(50, &[("bystander", "")], run, "health: { settle: 0s }");
    for (id, (_, command, output)) in (2..).zip(ATTACKS) {
        let build = format!("build: {{ command: {command}, output: {output}, timeout: 2s }}");
        let run = "run:\n  command: [/bin/sleep, '1000']\n  user: daemon\n";
        stage.daemon.add_running(
            id,
            &[(&format!("c{id}"), "")],
            run,
            &format!("health: {{ settle: 0s }}\n{build}"),
        );
    }
    stage.launch();
    stage.daemon.executed("bystander", &items(&[(50, 0, "START", "")]), "SUCCEEDED");
    let pid = |stage: &Stage| stage.daemon.json(&["service", "show", "s50"])["containers"][0]["pid"].clone();
    let bystander = pid(&stage);
    for (id, (name, ..)) in (2..).zip(ATTACKS) {
        unbundle(&stage, name);
        let more = format!(", compileRepoPath: {name}, compileRepoBranch: main");
        let begun = Instant::now();
        let (task, state) = stage.execute(&items(&[(id, 0, "COMPILE_DEPLOY", &more)])).unwrap();
        assert!(begun.elapsed() < PATIENCE);
        let report = stage.daemon.report(task)["deployments"].to_string();
        assert!(
            state == "FAILED" || matches!(name, "build-daemon" | "symlink-abs" | "symlink-out"),
            "{name}: {report}"
        );
        let log = stage.daemon.ctl_ends(0, &["logs", &task.to_string()]);
        assert!(!log.contains("root:"), "{name}: {log}");
        let begun = Instant::now();
        while !processes(&stage).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{name}: {:?} are left of it", processes(&stage));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // What it has filled is free again.
        let inside =
            format!("/proc/{}/root{}", stage.daemon.pid(), stage.daemon.path("state/builds").display());
        assert_eq!(fs::read_dir(inside).unwrap().count(), 0, "{name}");
        assert_eq!(pid(&stage), bystander, "{name} has disturbed another service");
        stage.assert_unharmed(name);
    }
}

/// What a build does to another one: all that may have come of it is told. Each waits until the other one is there, and
/// then until it has done its worst.
fn assault(stage: &Stage, me: u64, other: u64) -> String {
    let marks = stage.daemon.path("marks");
    let builds = stage.daemon.path("state/builds");
    let (marks, builds) = (marks.display(), builds.display());
    format!(
        "echo mine-{me} > secret; echo mine-{me} > $HOME/secret; echo mine-{me} > $TMPDIR/secret\n\
         echo $PWD > {marks}/at-{me}.part; mv {marks}/at-{me}.part {marks}/at-{me}\n\
         until test -e {marks}/at-{other}; do sleep 0.01; done\n\
         at=$(dirname $(cat {marks}/at-{other}))\n\
         for place in $at $at/src $at/home $at/tmp; do\n\
           (ls $place; cat $place/secret; echo x > $place/new && echo wrote $place/new\n\
           echo x >> $place/secret && echo wrote $place/secret; mv $place $place.aside && echo moved $place\n\
           rm -rf $place/secret $place/out\n\
           chmod 777 $place && echo opened $place)\n\
         done > {marks}/told-{me} 2> /dev/null\n\
         ls {builds} >> {marks}/told-{me} 2> /dev/null\n\
         touch {marks}/over-{me}; until test -e {marks}/over-{other}; do sleep 0.01; done\n\
         mkdir out; cat secret $HOME/secret $TMPDIR/secret > out/kept\n"
    )
}

#[test]
fn builds_of_two_users_at_once_do_not_reach_each_other() {
    if !is_root() {
        return skip("as whom a build runs is tested as root");
    }
    let mut stage = Stage::new("");
    // Not nobody, whose processes are all ended by one of the attacks above.
    for (id, user) in [(2, "bin"), (3, "mail")] {
        let build =
            format!("build: {{ command: [/bin/sh, build.sh], output: out, timeout: 20s, user: {user} }}");
        let run = "run:\n  command: [/bin/sleep, '1000']\n  user: daemon\n";
        stage.daemon.add_running(
            id,
            &[(&format!("c{id}"), "")],
            run,
            &format!("health: {{ settle: 0s }}\n{build}"),
        );
    }
    stage.launch();
    for (me, other) in [(2, 3), (3, 2)] {
        let name = format!("r{me}");
        assert_eq!(
            stage.ask("POST", "/v1/repositories", "", &format!("{{\"name\": \"{name}\"}}")).status,
            201
        );
        push(&stage.daemon, &name, &[("build.sh", &assault(&stage, me, other))], "main");
    }
    let from = |id| format!(", compileRepoPath: r{id}, compileRepoBranch: main");
    let plan = items(&[(2, 0, "COMPILE_DEPLOY", &from(2)), (3, 0, "COMPILE_DEPLOY", &from(3))]);
    stage.daemon.executed("both", &plan, "SUCCEEDED");
    for id in [2, 3] {
        let told = fs::read_to_string(stage.daemon.path(&format!("marks/told-{id}"))).unwrap();
        assert_eq!(told, "", "what build {id} has got out of the other one");
        let kept = stage.daemon.path(&format!("state/services/s{id}/containers/c{id}/current/kept"));
        assert_eq!(fs::read_to_string(kept).unwrap(), format!("mine-{id}\n").repeat(3));
    }
}
