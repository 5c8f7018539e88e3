//! Secrets of addresses: wherever an address is shown, user information and the values of its query are masked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use crate::harness::{Daemon, items, user};

/// Answers every request with this status and these headers; its port.
fn server(answer: String) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

fn answer(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n")
}

/// Everything that is shown of a task.
fn shown(daemon: &Daemon, id: u64) -> String {
    let id = id.to_string();
    let commands: [&[&str]; 9] = [
        &["report", &id],
        &["report", &id, "-o", "json"],
        &["report", &id, "-o", "markdown"],
        &["report", &id, "-o", "html"],
        &["status", &id],
        &["logs", &id],
        &["events"],
        &["history"],
        &["service", "show", "s1", "-o", "json"],
    ];
    let mut all: String = commands
        .iter()
        .map(|command| {
            let output = daemon.ctl(command);
            assert!(output.status.success() || command[0] == "report", "{command:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
        })
        .collect();
    all += &daemon.http("GET", "/metrics", "", "").2;
    all + &daemon.log()
}

fn has_no_secret(text: &str) {
    for secret in ["S3CR3T", "t0ken", "pa55"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is shown: {}", line.unwrap());
    }
}

#[test]
fn a_health_address_is_shown_unexpanded_and_without_its_secrets() {
    for (health, expected) in [
        (
            "http: 'http://probe:pa55@127.0.0.1:${PORT}/up?key=${TOK}&v=S3CR3T#t0ken'",
            "http://***@127.0.0.1:${PORT}/up?key=***&v=***#***: HTTP 401",
        ),
        ("http: 'http://127.0.0.1:1/${TOK}/x?S3CR3T'", ""),
        ("tcp: '127.0.0.1:${CLOSED}'", "cannot connect to 127.0.0.1:${CLOSED}"),
    ] {
        let port = server(answer("401 Unauthorized", ""));
        let mut daemon = Daemon::new();
        let run = format!(
            "run:\n  command: [/bin/sleep, '1000']\n{}  stopTimeout: 1s\n  environment: {{ TOK: t0ken-abc, PORT: {port}, CLOSED: 1 }}\n",
            user()
        );
        daemon.add_running(
            1,
            &[("c1", "")],
            &run,
            &format!("health: {{ {health}, timeout: 300ms, interval: 50ms, settle: 0s }}"),
        );
        daemon.launch();
        let id = daemon.executed("plan", &items(&[(1, 0, "START", "")]), "FAILED");
        let all = shown(&daemon, id);
        has_no_secret(&all);
        assert!(all.contains(expected), "{expected}: {all}");
        // START of what runs and does not answer names the address, too.
        let id = daemon.executed("plan", &items(&[(1, 0, "START", "")]), "FAILED");
        has_no_secret(&shown(&daemon, id));
    }
}

#[test]
fn a_signed_address_is_shown_without_its_signature() {
    let query =
        "X-Amz-Credential=AKIA%2FS3CR3T%2F..%2Faws4&X-Amz-Signature=S3CR3T&private_token=t0ken&S3CR3T";
    let refuses = server(answer("403 Forbidden", ""));
    let leads = |to: &str| server(answer("302 Found", &format!("Location: {to}\r\n")));
    let away = leads(&format!("http://u:pa55@127.0.0.2:1/other?{query}"));
    let nowhere = leads(&format!("gopher://u:pa55@127.0.0.1/?{query}"));
    let broken = leads("http://u:pa55@127.0.0.1:99999/?s=S3CR3T");
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    // As other people write it: the address of a plan differs in what says nothing about the place.
    let allowed: Vec<_> =
        [refuses, away, nowhere, broken, 1].map(|port| format!("'HTTP://127.0.0.1:{port}/'")).into();
    daemon.write(
        "deployd.yaml",
        &format!("packages: {{ allowedUris: [{}] }}\ntimeouts: {{ fetch: 2s }}\n", allowed.join(", ")),
    );
    daemon.launch();
    for (port, expected) in [
        (refuses, "the server answers 403"),
        (away, "http://***@127.0.0.2:1/other?X-Amz-Credential=***&X-Amz-Signature=***&private_token=***&***"),
        (nowhere, "gopher://***@127.0.0.1"),
        (broken, "a redirect leads nowhere"),
        (1, ""),
    ] {
        let uri = format!("http://user:pa55@127.0.0.1:{port}/p.zip?{query}#t0ken");
        let plan = items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &format!(", httpSrcUri: \"{uri}\""))]);
        let file = daemon.write("dry.yaml", &plan);
        let dry = daemon.ctl(&["execute", "-f", file.to_str().unwrap(), "--dry-run"]);
        has_no_secret(&(String::from_utf8(dry.stdout).unwrap() + &String::from_utf8_lossy(&dry.stderr)));
        let id = daemon.executed("plan", &plan, "FAILED");
        let all = shown(&daemon, id);
        has_no_secret(&all);
        assert!(all.contains(expected.trim_start_matches("http://***@")), "{expected}: {all}");
        let masked = format!(
            "http://***@127.0.0.1:{port}/p.zip?X-Amz-Credential=***&X-Amz-Signature=***&private_token=***&***#***"
        );
        assert!(all.contains(&masked), "{masked}: {all}");
    }
}

#[test]
fn a_plan_with_an_address_that_is_refused_does_not_repeat_its_secrets() {
    let mut daemon = Daemon::new();
    daemon.write("deployd.yaml", "packages: { allowedUris: ['https://packages.example.org/'] }\n");
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    for uri in [
        "https://u:pa55@other.example.org/p?s=S3CR3T",
        "ftp://u:pa55@h/p?s=S3CR3T",
        "https://u:pa55@h:99999/p?s=S3CR3T",
        "https://u:pa55@/p?s=S3CR3T",
        "u:pa55@h/p?s=S3CR3T",
    ] {
        let plan = items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &format!(", httpSrcUri: \"{uri}\""))]);
        let (status, problem) = daemon.call("POST", "/v1/plans?name=x", &plan);
        assert_eq!(status, 422, "{uri}");
        has_no_secret(&problem.to_string());
    }
    has_no_secret(&daemon.log());
}
