//! What no decent client sends: answered with 4xx, or closed; nobody else notices.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use deployd::control::routes::ROUTES;

use crate::client::{ask, raw, scaled};
use crate::harness::{Daemon, PATIENCE};

#[test]
fn broken_http_is_refused_or_closed() {
    let daemon = Daemon::gated(1);
    let get = "GET /v1/info HTTP/1.1\r\nHost: d\r\nConnection: close\r\n";
    let many = (0..5000).map(|number| format!("X-{number}: y\r\n")).collect::<Vec<_>>().concat();
    let broken: Vec<Vec<u8>> = [
        "\r\n\r\n".into(),
        "GET\r\n\r\n".into(),
        "GET /v1/info\r\n\r\n".into(),
        "GET /v1/info HTTP/9.9\r\n\r\n".into(),
        "GET  /v1/info HTTP/1.1\r\n\r\n".into(),
        "G\u{e9}T /v1/info HTTP/1.1\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "\u{16}\u{3}\u{1}\u{0}".into(),
        format!("{get}no colon\r\n\r\n"),
        format!("{get}X: a\u{0}b\r\n\r\n"),
        format!("{get} folded\r\n\r\n"),
        format!("{get}Content-Length: -1\r\n\r\n"),
        format!("{get}Content-Length: 99999999999999999999\r\n\r\n"),
        format!("{get}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("{get}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{get}Transfer-Encoding: nonsense\r\n\r\n"),
        format!("{get}X: {}\r\n\r\n", "x".repeat(1 << 20)),
        format!("{get}{many}\r\n"),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)),
    ]
    .into_iter()
    .map(String::into_bytes)
    .chain([vec![0; 4096], vec![0xff; 4096], (0..=255).collect()])
    .collect();
    for request in broken {
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        let answer = raw_half_closed(&daemon, &request);
        let fine = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4");
        assert!(fine, "{shown:?}: {answer}");
        assert_eq!(daemon.call("GET", "/healthz", "").0, 200, "{shown:?}");
    }
    assert!(!daemon.log().contains("panic"), "{}", daemon.log());
}

/// As [`raw`], but nothing more will come.
fn raw_half_closed(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_that_is_too_large_is_a_problem_wherever_a_body_is_expected() {
    let daemon = Daemon::gated(1);
    let socket = daemon.socket();
    let plan = "[".repeat(deployd::plan::parse::MAX_BYTES + 1);
    let json = " ".repeat((64 << 10) + 1);
    for (path, body) in [
        ("/v1/plans/check", &plan),
        ("/v1/plans?name=x", &plan),
        ("/v1/tasks", &json),
        ("/v1/repositories", &json),
        ("/v1/tasks/1/resume", &json),
    ] {
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        let said = [ask(&socket, "POST", path, "", body), raw(&socket, chunked.as_bytes())];
        for answer in said.into_iter().flatten() {
            assert!(answer.status == 413 && answer.is_problem(), "{path}: {answer:?}");
        }
        let most = &body[1..];
        let answer = ask(&socket, "POST", path, "", most).unwrap();
        assert!(answer.status != 413, "{path}: {answer:?}");
    }
}

#[test]
fn requests_in_one_breath_are_answered_in_their_order() {
    let daemon = Daemon::gated(1);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n");
    let paths: Vec<_> = (0..100).map(|number| format!("/v1/tasks/{}", 1000 + number)).collect();
    let all = paths.iter().map(|path| one(path)).collect::<String>()
        + "GET /v1/info HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(all.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let mut rest = &*answers;
    for number in 0..100 {
        let at = rest.find(&format!("there is no task {};", 1000 + number));
        rest = &rest[at.unwrap_or_else(|| panic!("{number} is missing: {rest}"))..];
    }
    assert!(rest.contains("\"version\""), "{rest}");
}

#[test]
fn halves_of_requests_leave_nothing_done() {
    let daemon = Daemon::gated(1);
    let body = "{\"name\": \"half\"}";
    let whole =
        format!("POST /v1/repositories HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for cut in 0..whole.len() {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(&whole.as_bytes()[..cut]).unwrap();
    }
    let (_, repositories) = daemon.call("GET", "/v1/repositories", "");
    assert_eq!(repositories["repositories"].as_array().unwrap().len(), 0);
    assert!(!daemon.log().contains("panic"), "{}", daemon.log());
}

#[test]
fn methods_that_are_not_offered_are_refused_everywhere() {
    let daemon = Daemon::gated(1);
    for route in &ROUTES {
        let path = route.path.replace("{id}", "1").replace("{name}", "x");
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "BREW", "get"] {
            let answer = ask(&daemon.socket(), method, &path, "", "").unwrap();
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            let allow = answer.head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
            assert!(allow.split(", ").any(|offered| offered == route.method.to_lowercase()), "{answer:?}");
        }
    }
}

#[test]
fn of_many_who_create_or_delete_the_same_repository_at_once_one_does() {
    let daemon = Daemon::gated(1);
    let socket = daemon.socket();
    let at_once = |method: &'static str, path: &'static str, body: &'static str| -> Vec<u16> {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| ask(&socket, method, path, "", body).unwrap().status))
                .collect();
            let mut all: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
            all.sort_unstable();
            all
        })
    };
    for _ in 0..scaled(5) {
        let created = at_once("POST", "/v1/repositories", "{\"name\": \"r\"}");
        assert_eq!(created, [201, 409, 409, 409, 409, 409, 409, 409]);
        let deleted = at_once("DELETE", "/v1/repositories/r", "");
        assert_eq!(deleted, [204, 404, 404, 404, 404, 404, 404, 404]);
    }
}

#[test]
fn who_asks_and_leaves_is_in_the_journal_all_the_same() {
    let daemon = Daemon::gated(1);
    for number in 0..scaled(20) {
        let body = format!("{{\"name\": \"r{number}\"}}");
        let head =
            format!("POST /v1/repositories HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all((head + &body).as_bytes()).unwrap();
    }
    daemon.ctl_ends(0, &["repo", "create", "last"]);
    // What is still going on comes to its end.
    let begun = Instant::now();
    loop {
        let (_, list) = daemon.call("GET", "/v1/repositories", "");
        let created = daemon.ctl_ends(0, &["events"]).matches("repository.created").count();
        if created == list["repositories"].as_array().unwrap().len() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{created} in the journal: {list:#}");
    }
}
