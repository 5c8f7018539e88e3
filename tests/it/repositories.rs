//! Repositories and builds.

use crate::harness::{Daemon, items};
use crate::push::push;

fn builder(build: &str) -> Daemon {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], build);
    daemon.add(2, &[("c2", "")], build);
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "app"]);
    daemon
}

fn compile(more: &str) -> String {
    let more = format!(", compileRepoPath: app, compileRepoBranch: main{more}");
    items(&[(1, 0, "COMPILE_DEPLOY", &more)])
}

#[test]
fn a_repository_is_created_listed_and_deleted() {
    let daemon = builder("");
    assert!(daemon.ctl_ends(4, &["repo", "create", "app"]).contains("exists already"));
    assert!(daemon.ctl_ends(1, &["repo", "create", "../app"]).contains("no name"));
    push(&daemon, "app", &[("x", "1")], "main");
    let list = daemon.json(&["repo", "list"]);
    assert_eq!(list["repositories"][0]["name"], "app");
    assert_eq!(list["repositories"][0]["branches"][0], "main");
    daemon.ctl_ends(0, &["repo", "delete", "app"]);
    daemon.ctl_ends(3, &["repo", "delete", "app"]);
}

#[test]
fn the_same_commit_is_not_built_twice_and_another_one_is() {
    let daemon = builder("build: { command: [/bin/sh, build.sh], output: out }");
    let count = "mkdir out; echo line of the build; cp source out/";
    let first = push(&daemon, "app", &[("build.sh", count), ("source", "1")], "main");
    let id = daemon.executed("plan", &compile(""), "SUCCEEDED");
    assert_eq!(daemon.report(id)["deployments"][0]["artifact"]["commit"], first);
    assert!(daemon.ctl_ends(0, &["logs", &id.to_string()]).contains("build: line of the build"));

    let again = daemon.executed("plan", &compile(""), "SUCCEEDED");
    let log = daemon.ctl_ends(0, &["logs", &again.to_string()]);
    assert!(log.contains("was built before") && !log.contains("line of the build"), "{log}");

    let second = push(&daemon, "app", &[("source", "2")], "main");
    let third = daemon.executed("plan", &compile(""), "SUCCEEDED");
    assert_eq!(daemon.report(third)["deployments"][0]["artifact"]["commit"], second);
    let back =
        daemon.executed("plan", &compile(&format!(", compileRepoCommit: {}", &first[..10])), "SUCCEEDED");
    assert_eq!(daemon.report(back)["deployments"][0]["artifact"]["commit"], first);
    let file = daemon.path("state/services/s1/containers/c1/current/source");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "1");
}

#[test]
fn a_failing_build_touches_nothing_and_shows_its_last_lines() {
    let daemon = builder("build: { command: [/bin/sh, build.sh], output: out }");
    push(&daemon, "app", &[("build.sh", "echo error: no such header >&2; exit 3")], "main");
    let id = daemon.executed("plan", &compile(""), "FAILED");
    let report = daemon.report(id);
    let error = &report["deployments"][0]["error"];
    assert_eq!(error["code"], "buildFailed");
    assert!(error["message"].as_str().unwrap().contains("exited with status 3"), "{error:#}");
    assert_eq!(error["log"][0], "error: no such header");
    assert_eq!(report["deployments"][0]["operations"][0]["state"], "SKIPPED");
    assert!(daemon.witness().is_empty());

    push(&daemon, "app", &[("build.sh", "true")], "main");
    let id = daemon.executed("plan", &compile(""), "FAILED");
    let message = daemon.report(id)["deployments"][0]["error"]["message"].to_string();
    assert!(message.contains("build.output") && message.contains("build.sh"), "{message}");
}

#[test]
fn a_build_that_takes_too_long_is_ended_with_all_its_processes() {
    let daemon = builder("build: { command: [/bin/sh, build.sh], output: out, timeout: 1s }");
    // A child in a session of its own, whose environment says whose it is.
    let script = "setsid sleep 987654 & echo $! ; sleep 987654";
    push(&daemon, "app", &[("build.sh", script)], "main");
    let id = daemon.executed("plan", &compile(""), "FAILED");
    let error = daemon.report(id)["deployments"][0]["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("build.timeout"), "{error:#}");
    let log = daemon.ctl_ends(0, &["logs", &id.to_string()]);
    let pid: i32 = log.lines().find_map(|line| line.split("build: ").nth(1)?.parse().ok()).unwrap();
    let alive = deployd::spawn::proc::Stat::read(pid).unwrap().is_some_and(|stat| stat.is_alive());
    assert!(!alive, "process {pid} of the build still lives");
}

#[test]
fn branches_and_commits_that_are_not_there() {
    let daemon = builder("build: { command: [/bin/sh, build.sh], output: out }");
    push(&daemon, "app", &[("build.sh", "true")], "main");
    let plan = compile("").replace("compileRepoBranch: main", "compileRepoBranch: mian");
    let id = daemon.executed("plan", &plan, "FAILED");
    let message = daemon.report(id)["deployments"][0]["error"]["message"].to_string();
    assert!(message.contains("no branch mian; its branches: main"), "{message}");
    let id = daemon.executed("plan", &compile(", compileRepoCommit: 0123456789abcdef"), "FAILED");
    let message = daemon.report(id)["deployments"][0]["error"]["message"].to_string();
    assert!(message.contains("is not on branch main"), "{message}");
}

#[test]
fn nothing_of_a_repository_runs_but_the_build() {
    let daemon = builder("build: { command: [/bin/sh, build.sh], output: out }");
    let mark = daemon.path("mark");
    let bad = format!("#!/bin/sh\ntouch {}\n", mark.display());
    push(
        &daemon,
        "app",
        &[("build.sh", "mkdir out; touch out/x"), (".gitattributes", "* filter=evil")],
        "main",
    );
    let repository = daemon.path("state/git/app.git");
    std::fs::create_dir_all(repository.join("hooks")).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-receive"] {
        let path = repository.join("hooks").join(hook);
        std::fs::write(&path, &bad).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfsmonitor = {0}\n\tsshCommand = {0}\n[filter \"evil\"]\n\tsmudge = {0}\n\tclean = {0}\n[uploadpack]\n\tpackObjectsHook = {0}\n",
        mark.with_extension("sh").display()
    );
    daemon.write("mark.sh", &bad);
    std::fs::set_permissions(daemon.path("mark.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::write(repository.join("config"), config).unwrap();
    daemon.executed("plan", &compile(""), "SUCCEEDED");
    assert!(!mark.exists());
}
