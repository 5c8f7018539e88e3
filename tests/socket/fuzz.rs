//! Requests at random, from pieces that almost fit: never a 5xx, always a problem document.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use deployd::control::routes::{ROUTES, Route};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::client::scaled;
use crate::harness::{Daemon, PATIENCE, items};

/// A request: a route, what stands for its parameters, query, headers, body.
#[derive(Debug, Clone)]
struct Request {
    route: usize,
    parameter: String,
    query: String,
    headers: String,
    body: Vec<u8>,
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let Route { method, path, .. } = &ROUTES[self.route];
        let path = path.replace("{id}", &self.parameter).replace("{name}", &self.parameter);
        let (query, headers, length) = (&self.query, &self.headers, self.body.len());
        let head = format!(
            "{method} {path}?{query} HTTP/1.1\r\nHost: d\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &self.body].concat()
    }
}

/// As it stands in an address: whatever has to be encoded is.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Names and numbers that are there, that almost are, and anything.
fn parameter() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop_oneof![Just("1"), Just("2"), Just("p"), Just("s1"), Just("r")].prop_map(String::from),
        1 => prop_oneof![Just("0"), Just("-1"), Just("18446744073709551615"), Just("18446744073709551616"), Just("%2e%2e"), Just("%2F"), Just("%00"), Just("%"), Just("%ff%fe")].prop_map(String::from),
        2 => any::<String>().prop_map(|text| encoded(&text)),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("name"),
        Just("revision"),
        Just("state"),
        Just("limit"),
        Just("before"),
        Just("service"),
        Just("follow"),
        Just("task"),
        Just("after"),
        Just("lines")
    ];
    let value = prop_oneof![
        Just("false".to_string()),
        Just("true".to_string()),
        Just("p".to_string()),
        Just("SUCCEEDED,FAILED".to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        (0_u64..4).prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| encoded(&text)),
        "[!$&'()*+,./:;=?@_~0-9A-Za-z-]{0,12}",
    ];
    let pair = (key, value).prop_map(|(key, value)| format!("{key}={value}"));
    proptest::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"))
}

fn headers() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("Idempotency-Key"),
        Just("Last-Event-ID"),
        Just("Content-Type"),
        Just("Accept"),
        Just("Range"),
        Just("If-None-Match"),
        Just("Content-Encoding"),
        Just("X-Uid")
    ];
    let header = (name, "[ -~]{0,20}").prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    proptest::collection::vec(header, 0..3).prop_map(|headers| headers.concat())
}

/// What is accepted, and what differs from it in some bytes, or is something else altogether.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just(String::new()),
        Just("{\"plan\": \"p\"}".to_string()),
        Just("{\"plan\": \"p\", \"revision\": 1, \"dryRun\": true}".to_string()),
        Just("{\"force\": false}".to_string()),
        Just("{\"name\": \"r\"}".to_string()),
        Just(items(&[(1, 1, "START", ""), (2, 0, "STOP", "")])),
        Just(items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", ", httpSrcUri: 'http://127.0.0.1:9/x.zip'")])),
        Just(items(&[(1, 0, "COMPILE_DEPLOY", ", compileRepoPath: r, compileRepoBranch: main")])),
    ];
    let edits = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0_u8..4), 0..6);
    let mutated = (good, edits).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, byte, how) in edits {
            if bytes.is_empty() {
                bytes.push(byte);
                continue;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    });
    let json = any::<Vec<Option<i64>>>().prop_map(|list| serde_json::to_vec(&list).unwrap());
    prop_oneof![6 => mutated, 1 => proptest::collection::vec(any::<u8>(), 0..200), 1 => json]
}

/// Head and, unless it is a stream, body of the answer.
fn send(connection: &mut Option<UnixStream>, socket: &Path, request: &[u8]) -> (u16, String, String) {
    let mut stream = connection.take().unwrap_or_else(|| UnixStream::connect(socket).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    if stream.write_all(request).is_err() {
        // Kept alive for long enough.
        return send(connection, socket, request);
    }
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: Option<usize> = length.map(|length| length.parse().unwrap());
            let is_whole = length.is_none_or(|length| bytes.len() >= head.len() + 4 + length);
            let is_empty = head.starts_with("http/1.1 204");
            if is_whole || is_empty {
                if length.is_some() || is_empty {
                    *connection = Some(stream).filter(|_| !head.contains("connection: close"));
                }
                return (head[9..12].parse().unwrap(), head, body.to_string());
            }
        }
        match stream.read(&mut buffer).unwrap_or(0) {
            0 if bytes.is_empty() => return send(&mut None, socket, request),
            0 => panic!("half an answer: {}", String::from_utf8_lossy(&bytes)),
            count => bytes.extend(&buffer[..count]),
        }
    }
}

#[test]
fn no_request_is_answered_with_a_fault_of_the_daemons_own() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    let plan = items(&[(1, 1, "START", ""), (2, 0, "STOP", "")]);
    daemon.executed("p", &plan, "SUCCEEDED");
    let request = (0..ROUTES.len(), parameter(), query(), headers(), body()).prop_map(
        |(route, parameter, query, headers, body)| Request { route, parameter, query, headers, body },
    );
    let cases = u32::try_from(scaled(1500)).unwrap();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (socket, connection) = (daemon.socket(), std::cell::RefCell::new(None));
    let ran = runner.run(&request, |request| {
        let (status, head, body) = send(&mut connection.borrow_mut(), &socket, &request.bytes());
        prop_assert!(status < 500, "{}\n{head}\n{body}", String::from_utf8_lossy(&request.bytes()));
        if status >= 400 {
            let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let is_problem = head.contains("application/problem+json") && problem["status"] == status;
            prop_assert!(is_problem, "{}\n{head}\n{body}", String::from_utf8_lossy(&request.bytes()));
        }
        Ok(())
    });
    ran.unwrap();
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    daemon.ctl_ends(0, &["list"]);
}
