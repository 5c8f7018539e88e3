//! Memory runs out, at once or soon: what can't be done is refused or ends the daemon, and either way the
//! journal is right, and what was begun is finished by the next one without repeating anything.

use std::fs;
use std::process::Command;

use crate::harness::items;
use crate::http::PackageServer;
use crate::scene::{Daemon, assert_starts, resume, state};

/// How much more address space the daemon may take than it has, in MiB.
const LIMITS: [u64; 6] = [1, 4, 16, 48, 128, 1024];

fn address_space_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A plan of so many items in so many batches.
fn large(count: i64) -> String {
    items(&(0..count).map(|n| (1, n, "START", "")).collect::<Vec<_>>())
}

/// What of it was done within the limit.
fn limited(mebibytes: u64) -> bool {
    let server = PackageServer::new();
    let mut daemon = Daemon::new();
    // An arena for each thread would have reserved what they may take.
    daemon.environment = vec![("RUST_BACKTRACE", "0".into()), ("MALLOC_ARENA_MAX", "1".into())];
    daemon.add(1, &[("c1", "")], &daemon.gate());
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    let waiting = daemon.execute("waiting", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.until(waiting, |event| event["type"] == "operation.begun");
    while daemon.witness().is_empty() {
        std::thread::yield_now();
    }
    let bytes = (address_space_kib(daemon.pid()) << 10) + (mebibytes << 20);
    let mut limit = Command::new("prlimit");
    limit.arg(format!("--pid={}", daemon.pid())).arg(format!("--as={bytes}"));
    assert!(limit.status().unwrap().success());
    let mut refused = Vec::new();
    let mut ask = |method: &str, path: &str, body: &str| {
        let answer = daemon.try_http(method, path, "", body);
        let status = answer.as_ref().map_or(0, |answer| answer.0);
        if !(200..300).contains(&status) {
            refused.push(format!("{method} {path}: {status}"));
        }
        status
    };
    ask("POST", "/v1/plans/check", &large(30_000));
    ask("POST", "/v1/plans?name=large", &large(5_000));
    let package = format!(", httpSrcUri: '{}'", server.url("/big.tar"));
    ask("POST", "/v1/plans?name=package", &items(&[(2, 0, "HTTP_UPLOAD_DEPLOY", &package)]));
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for path in ["/v1/tasks", "/v1/services", "/v1/plans", "/metrics"] {
                    daemon.try_http("GET", path, "", "");
                }
            });
        }
    });
    let whole = ask("GET", "/v1/tasks", "") == 200;
    let whole = whole && refused.is_empty();
    // Whatever has become of it: it lives, or it has ended as by any crash.
    if daemon.runs() {
        daemon.kill_9();
    }
    daemon.environment.clear();
    daemon.launch();
    let (now, reason) = state(&daemon, waiting);
    assert_eq!(now, "INTERRUPTED", "{mebibytes} MiB: {}", daemon.log());
    assert!(["daemonDied", "storeFailed", "actorCrashed"].contains(&&*reason), "{mebibytes} MiB: {reason}");
    daemon.release("c1");
    resume(&daemon, waiting);
    assert_eq!(state(&daemon, waiting).0, "SUCCEEDED");
    assert_starts(&daemon, &[("c1", 1), ("c2", 1)]);
    whole
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs this")]
fn without_memory_it_refuses_or_ends_and_the_journal_is_right() {
    let done: Vec<_> = LIMITS.iter().map(|&limit| (limit, limited(limit))).collect();
    eprintln!("all was done within so many MiB more: {done:?}");
    assert!(done.last().unwrap().1, "with memory enough all is done: {done:?}");
}
