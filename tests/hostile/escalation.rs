//! What an operator may send: no plan, package, repository or request of theirs runs anything as root, or
//! reaches a file beyond the service's own.

use tar::{EntryType, Header};

use crate::harness::{is_root, items, skip};
use crate::push::push;
use crate::server::{Server, Step};
use crate::stage::Stage;

/// What comes of an attack.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Comes {
    /// The plan or the request is refused.
    Refused,
    /// The task fails.
    Fails,
    /// It is carried out, and that is harmless.
    Harmless,
}

use Comes::{Fails, Harmless, Refused};

/// Items of plans. What is executed by them would leave a canary.
const PLANS: [(&str, Comes); 48] = [
    ("serviceId: 0, deployment: START", Refused),
    ("serviceId: -1, deployment: START", Refused),
    ("serviceId: 18446744073709551616, deployment: START", Refused),
    ("serviceId: 1.0, deployment: START", Refused),
    ("serviceId: '1; touch /tmp/deployd-evil', deployment: START", Refused),
    ("serviceId: ../../etc, deployment: START", Refused),
    ("serviceId: 1, deployment: START, user: root", Refused),
    ("serviceId: 1, deployment: START, runAs: root", Refused),
    ("serviceId: 1, deployment: START, command: [touch, /tmp/deployd-evil]", Refused),
    ("serviceId: 1, deployment: START, run: { command: [id], user: root }", Refused),
    ("serviceId: 1, deployment: START, environment: { LD_PRELOAD: /tmp/deployd-evil }", Refused),
    ("serviceId: 1, deployment: START, hooks: { preDeploy: [touch, /tmp/deployd-evil] }", Refused),
    ("serviceId: 1, deployment: START, dest: ../../etc", Refused),
    ("serviceId: 1, deployment: START, sharedPaths: [../../../outside]", Refused),
    ("serviceId: 1, deployment: 'START; id'", Refused),
    ("serviceId: 1, deployment: START, deployLabel: ../../etc", Refused),
    ("serviceId: 1, deployment: START, deployLabel: '$(touch /tmp/deployd-evil)'", Refused),
    ("serviceId: 1, deployment: START, containerExecMethod: '`id`'", Refused),
    ("serviceId: 1, deployment: START, comment: !!python/object/apply:os.system [id]", Refused),
    ("serviceId: !include /etc/shadow, deployment: START", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'file:///etc/shadow'", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'file://localhost/etc/shadow'", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'FILE:///etc/shadow'", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: /etc/shadow", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'unix:///run/deployd/deployd.sock'", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'gopher://127.0.0.1/x'", Refused),
    ("serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: '--output=/tmp/deployd-evil'", Refused),
    (
        "serviceId: 1, deployment: HTTP_UPLOAD_DEPLOY, httpSrcUri: 'http://x/', httpSrcSha256: ../../x",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: 'ext::sh -c touch% /tmp/deployd-evil'",
        Refused,
    ),
    ("serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: 'fd::17'", Refused),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: '--upload-pack=touch /tmp/deployd-evil;'",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: 'file:///etc'",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: /root/x.git",
        Refused,
    ),
    ("serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: ../app", Refused),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: app/../../outside",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: 'git@-oProxyCommand=touch /tmp/deployd-evil:x'",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoBranch: main, compileRepoPath: 'ssh://-oProxyCommand=id/x'",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: '--upload-pack=touch /tmp/deployd-evil;'",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: 'main:refs/heads/x'",
        Refused,
    ),
    ("serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: +main", Fails),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: \"main\\nx\"",
        Refused,
    ),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: ../../config",
        Refused,
    ),
    ("serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: '@{-1}'", Refused),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: main, compileRepoCommit: --output=x",
        Refused,
    ),
    ("serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: HEAD", Fails),
    (
        "serviceId: 1, deployment: COMPILE_DEPLOY, compileRepoPath: app, compileRepoBranch: main, compileRepoCommit: '0000000'",
        Fails,
    ),
    ("serviceId: 1, deployment: START, deployLabel: l1, httpSrcUri: 'file:///etc/shadow'", Fails),
    ("serviceId: 1, deployment: STOP, compileRepoPath: 'ext::id'", Harmless),
];

/// Requests that are no plans: method, path, further headers, body.
const REQUESTS: [(&str, &str, &str, &str); 14] = [
    (
        "POST",
        "/v1/plans?name=..%2F..%2Foutside%2Fx",
        "",
        "deployPlanItems: [{serviceId: 1, deployment: START}]",
    ),
    ("POST", "/v1/plans?name=%00", "", "deployPlanItems: [{serviceId: 1, deployment: START}]"),
    ("POST", "/v1/plans?name=x%0Ay", "", "deployPlanItems: [{serviceId: 1, deployment: START}]"),
    ("POST", "/v1/repositories", "", "{\"name\": \"../../outside/x\"}"),
    ("POST", "/v1/repositories", "", "{\"name\": \"--template=/tmp\"}"),
    ("POST", "/v1/repositories", "", "{\"name\": \"app.git/hooks\"}"),
    ("DELETE", "/v1/repositories/..%2F..%2Foutside", "", ""),
    ("DELETE", "/v1/repositories/..", "", ""),
    ("GET", "/v1/tasks/1/logs?service=..%2F..%2F..%2Foutside%2Fsecret", "", ""),
    ("GET", "/v1/services/..%2F..%2Foutside/logs", "", ""),
    ("POST", "/v1/services/reload", "", ""),
    ("GET", "/v1/backup", "", ""),
    ("POST", "/v1/services/reload", "X-Uid: 0\r\nX-Forwarded-User: root\r\n", ""),
    ("GET", "/v1/../v1/backup", "", ""),
];

/// A tar with these entries: name, kind, what it links to, mode; files hold `content`.
fn package(entries: &[(&str, EntryType, &str, u32)], content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, link, mode) in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        let content = if *kind == EntryType::Regular { content } else { "" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

type Entry<'a> = (&'a str, EntryType, &'a str, u32);

/// Packages; the program of each runs as the service's user, and tries all that it can.
fn packages(outside: &str) -> Vec<(&'static str, Vec<Entry<'_>>, Comes)> {
    use EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let run: Entry = ("run", Regular, "", 0o755);
    vec![
        ("plain", vec![run], Harmless),
        ("dots", vec![("../../../../../outside/deployd-evil", Regular, "", 0o644), run], Fails),
        ("absolute", vec![("/etc/deployd-evil", Regular, "", 0o644), run], Fails),
        ("a link out", vec![("secret", Symlink, "/etc/shadow", 0o777), run], Fails),
        ("a link far out", vec![("x", Symlink, "../../../../../../../../etc/shadow", 0o777), run], Fails),
        (
            "through a link",
            vec![("d", Symlink, outside, 0o777), ("d/deployd-evil", Regular, "", 0o644), run],
            Fails,
        ),
        ("a hard link out", vec![("secret", Link, "/etc/shadow", 0o644), run], Fails),
        ("a hard link up", vec![("secret", Link, "../../../../../outside/secret", 0o644), run], Fails),
        ("setuid", vec![("sh", Regular, "", 0o4755), run], Fails),
        ("setgid", vec![("sh", Regular, "", 0o2777), run], Fails),
        ("all may write", vec![("sh", Regular, "", 0o777), run], Harmless),
        ("a device", vec![("memory", Char, "", 0o666), run], Fails),
        ("a disk", vec![("disk", Block, "", 0o666), run], Fails),
        ("a fifo", vec![("fifo", Fifo, "", 0o666), run], Fails),
        ("the program is a link", vec![("run", Symlink, "/proc/1/root/bin/sh", 0o777)], Fails),
        ("the shared path", vec![("uploads", Symlink, outside, 0o777), run], Fails),
        ("the shared path as a file", vec![("uploads", Regular, "", 0o644), run], Fails),
        (
            "programs of the daemon's",
            vec![("bin/git", Regular, "", 0o755), ("git", Regular, "", 0o755), run],
            Harmless,
        ),
        (
            "ld.so",
            vec![("etc/ld.so.preload", Regular, "", 0o644), ("lib/libc.so.6", Regular, "", 0o755), run],
            Harmless,
        ),
    ]
}

/// Builds, beside the payload; what becomes of their output.
const BUILDS: [(&str, &str, Comes); 14] = [
    ("plain", "mkdir out; (cat build.sh; echo exec sleep 1000) > out/run", Harmless),
    ("a link to a secret", "ln -s /etc/shadow out", Fails),
    ("a link to outside", "ln -s OUTSIDE out", Fails),
    ("a link in it", "mkdir out; ln -s /etc/shadow out/shadow; echo exec sleep 1000 > out/run", Fails),
    (
        "a link up in it",
        "mkdir out; ln -s ../../../../../outside/secret out/x; echo exec sleep 1000 > out/run",
        Fails,
    ),
    (
        "a hard link in it",
        "mkdir out; ln OUTSIDE/secret out/x; ln /etc/shadow out/y; (cat build.sh; echo exec sleep 1000) > out/run",
        Harmless,
    ),
    ("a fifo", "mkfifo out", Fails),
    ("a fifo in it", "mkdir out; mkfifo out/x; echo exec sleep 1000 > out/run", Fails),
    (
        "setuid in it",
        "mkdir out; cp /bin/sh out/sh; chmod 6777 out/sh; (cat build.sh; echo exec sleep 1000) > out/run",
        Harmless,
    ),
    ("its own directory is exchanged", "cd ..; rm -rf src; ln -s OUTSIDE src; mv src x", Fails),
    ("an archive that leads out", "cp evil.tar out", Fails),
    (
        "a name with an escape",
        "mkdir out; touch \"out/$(printf '\\033[2J')\"; echo exec sleep 1000 > out/run",
        Fails,
    ),
    (
        "a service file",
        "mkdir -p out/etc/systemd/system; echo exec sleep 1000 > out/run; systemctl start x; true",
        Harmless,
    ),
    ("other names", "sudo -n id; su -c id; newgrp root; mkdir out; echo exec sleep 1000 > out/run", Harmless),
];

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn no_operator_becomes_root_or_gets_out_of_a_service() {
    if !is_root() {
        return skip("what root's daemon does for others is tested as root");
    }
    let mut stage = Stage::new("");
    let outside = stage.daemon.path("outside").display().to_string();
    let program = format!("{}\nexec sleep 1000\n", stage.payload());
    let kinds = packages(&outside);
    let archives: Vec<_> = kinds.iter().map(|(_, entries, _)| package(entries, &program)).collect();
    let server = Server::new(move |_, head| {
        let number: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let archive = &archives[number];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", archive.len());
        vec![Step::Say([head.as_bytes(), archive].concat())]
    });
    stage.launch();
    let created = stage.ask("POST", "/v1/repositories", "", "{\"name\": \"app\"}");
    assert_eq!(created.status, 201, "{}", created.body);
    let mut tried = 0;
    let mut wrong = Vec::new();
    let mut judge = |what: &str, came: Result<(u64, String), u16>, expected: Comes| {
        tried += 1;
        let comes = match &came {
            Err(status) if (400..500).contains(status) => Refused,
            Ok((_, state)) if state == "FAILED" => Fails,
            Ok(_) => Harmless,
            Err(status) => panic!("{what}: {status}"),
        };
        if comes != expected {
            let report = came.ok().map(|(id, _)| stage.daemon.report(id)["deployments"].to_string());
            wrong.push(format!("{what}: {comes:?} instead of {expected:?}: {report:?}"));
        }
        stage.assert_unharmed(what);
    };
    let payload = stage.payload();
    // What is committed stays for the builds that follow.
    let evil = package(&[("../../deployd-evil", EntryType::Regular, "", 0o644)], "x");
    std::fs::create_dir(stage.daemon.path("source-app")).unwrap();
    std::fs::write(stage.daemon.path("source-app/evil.tar"), evil).unwrap();
    init(&stage);
    push(
        &stage.daemon,
        "app",
        &[("build.sh", "true"), (".gitattributes", "* filter=evil diff=evil")],
        "main",
    );
    for (item, comes) in PLANS {
        let plan = format!("deployPlanItems:\n  - {{ {item} }}\n");
        judge(item, stage.execute(&plan), comes);
    }
    for (method, path, headers, body) in REQUESTS {
        let answer = stage.ask(method, path, headers, body);
        let came = if answer.status < 300 { Ok((0, String::new())) } else { Err(answer.status) };
        judge(&format!("{method} {path}"), came, Refused);
    }
    for (number, (what, _, comes)) in kinds.iter().enumerate() {
        let plan = items(&[(
            1,
            0,
            "HTTP_UPLOAD_DEPLOY",
            &format!(", httpSrcUri: '{}'", server.url(&format!("/{number}"))),
        )]);
        judge(&format!("package: {what}"), stage.execute(&plan), *comes);
    }
    for (what, script, comes) in BUILDS {
        let script = format!("{payload}{}\n", script.replace("OUTSIDE", &outside));
        push(&stage.daemon, "app", &[("build.sh", &script)], "main");
        let plan = items(&[(1, 0, "COMPILE_DEPLOY", ", compileRepoPath: app, compileRepoBranch: main")]);
        judge(&format!("build: {what}"), stage.execute(&plan), comes);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let ran = std::fs::read_dir(stage.daemon.path("marks")).unwrap().count();
    assert!(ran >= 20, "what is meant to run as others has run {ran} times");
    eprintln!("{tried} attacks by an operator, {ran} programs of theirs ran, none as root");
}

fn init(stage: &Stage) {
    let made = std::process::Command::new("git")
        .args(["init", "-q", "-b", "main"])
        .current_dir(stage.daemon.path("source-app"))
        .status();
    assert!(made.unwrap().success());
}
