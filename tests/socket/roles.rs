//! Who may do what: the whole table of routes, for everybody there is.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use deployd::control::Role;
use deployd::control::routes::{ROUTES, Route};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};

use crate::client::{Answer, Identity, STRANGER, ask, scaled};
use crate::harness::{Daemon, is_root, items, skip};

/// Two groups that every Linux host has.
const OPERATORS: (u32, &str) = (1, "daemon");
const VIEWERS: (u32, &str) = (2, "bin");

/// Everybody, with what the contract gives them.
const EVERYBODY: [(&str, Identity, Option<Role>); 13] = [
    ("root", who(0, 0, &[]), Some(Role::Admin)),
    ("root in no group of root's", who(0, 65534, &[]), Some(Role::Admin)),
    ("an operator by primary group", who(4711, OPERATORS.0, &[]), Some(Role::Operator)),
    ("an operator by another group", who(4711, 65534, &[7, OPERATORS.0]), Some(Role::Operator)),
    ("an operator who also views", who(4711, VIEWERS.0, &[OPERATORS.0]), Some(Role::Operator)),
    ("a viewer by primary group", who(4712, VIEWERS.0, &[]), Some(Role::Viewer)),
    ("a viewer by another group", who(4712, 65534, &[VIEWERS.0]), Some(Role::Viewer)),
    ("another user", who(4713, 4713, &[]), None),
    ("a user in group root", who(4713, 0, &[0]), None),
    ("a service's user", STRANGER, None),
    ("a uid over 2^31", who(4_000_000_000, 4_000_000_000, &[]), None),
    ("the uid before -1", who(4_294_967_294, 4_294_967_294, &[4_294_967_294]), None),
    ("a uid that is a group's number", who(OPERATORS.0, 65534, &[]), None),
];

const fn who(uid: u32, gid: u32, groups: &'static [u32]) -> Identity {
    Identity { uid, gid, groups }
}

/// The contract in three lines, apart from the product's own table.
fn contract(route: &Route) -> Role {
    match (route.method, route.path) {
        ("POST", "/v1/services/reload") | ("GET", "/v1/backup") => Role::Admin,
        ("GET", _) | ("POST", "/v1/plans/check") => Role::Viewer,
        _ => Role::Operator,
    }
}

/// A daemon whose socket lets everybody connect, as its own would not.
fn open_to_all() -> Daemon {
    let mut daemon = Daemon::new();
    let access = format!("access: {{ operators: [{}], viewers: [{}] }}\n", OPERATORS.1, VIEWERS.1);
    daemon.write("deployd.yaml", &access);
    daemon.launch();
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o666)).unwrap();
    daemon
}

fn path_of(route: &Route) -> String {
    let query = if route.path == "/v1/events" { "?follow=false" } else { "" };
    route.path.replace("{id}", "1").replace("{name}", "x") + query
}

fn is_refusal(answer: &Answer) -> bool {
    answer.status == 403 && answer.body.contains("\"code\":\"notPermitted\"") && answer.is_problem()
}

/// The same path, each character of it percent-encoded once, and other disguises.
fn disguises(path: &str) -> Vec<String> {
    let (plain, query) = path.split_once('?').map_or((path, String::new()), |(p, q)| (p, format!("?{q}")));
    let encoded = |at: usize, c: char| {
        let (before, after) = (&plain[..at], &plain[at + 1..]);
        [
            format!("{before}%{:02x}{after}{query}", c as u32),
            format!("{before}%{:02X}{after}{query}", c as u32),
        ]
    };
    let mut all: Vec<_> = plain.char_indices().skip(1).flat_map(|(at, c)| encoded(at, c)).collect();
    all.push(format!("/{path}"));
    all.push(format!("/.{path}"));
    all.push(format!("/x/..{path}"));
    all.push(format!("http://d{path}"));
    all.push(format!("{plain}/{query}"));
    all.push(format!("{plain};uid=0{query}"));
    all.push(plain.to_uppercase());
    all
}

#[test]
fn every_route_is_open_to_whom_the_contract_says_and_to_nobody_else() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let daemon = open_to_all();
    let socket = daemon.socket();
    for (name, identity, role) in EVERYBODY {
        identity.does(|| {
            for route in &ROUTES {
                let (path, needed) = (path_of(route), contract(route));
                assert_eq!(route.role, needed, "{} {}", route.method, route.path);
                let answer = ask(&socket, route.method, &path, "", "").unwrap();
                let may = role.is_some_and(|role| role >= needed);
                assert_eq!(!is_refusal(&answer), may, "{name}: {} {path}: {answer:?}", route.method);
                assert_ne!(answer.status == 403, may, "{name}: {} {path}: {answer:?}", route.method);
            }
        });
    }
}

#[test]
fn no_other_way_to_write_a_path_opens_a_route() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let daemon = open_to_all();
    let socket = daemon.socket();
    // A plan to be lost, so that whatever gets through is seen by what it does, too.
    let plan = "deployPlanItems: [{serviceId: 1, deployment: STOP}]";
    daemon.write(
        "services.d/s1.yaml",
        "serviceId: 1\nname: s1\ncontainers: [{name: c}]\nrun: {command: [/bin/true], user: root}\n",
    );
    daemon.call("POST", "/v1/services/reload", "");
    assert_eq!(daemon.call("POST", "/v1/plans?name=x", plan).0, 201);
    for (name, identity, role) in EVERYBODY {
        let told = |route: &&Route| role.is_none_or(|role| role < contract(route));
        identity.does(|| {
            for route in ROUTES.iter().filter(told) {
                for path in disguises(&path_of(route)) {
                    let Some(answer) = ask(&socket, route.method, &path, "", "") else { continue };
                    let nothing = match role {
                        None => is_refusal(&answer) || answer.status == 400,
                        Some(_) => matches!(answer.status, 400 | 403 | 404 | 405),
                    };
                    assert!(nothing, "{name}: {} {path}: {answer:?}", route.method);
                }
            }
        });
    }
    assert_eq!(daemon.call("GET", "/v1/plans/x", "").0, 200);
    let events = daemon.ctl_ends(0, &["events"]);
    let by_others = events.lines().filter(|line| line.contains("\"by\"") && !line.contains("\"uid\":0"));
    assert_eq!(by_others.count(), 0, "{events}");
}

#[test]
fn nothing_that_a_client_says_makes_it_somebody_else() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let daemon = open_to_all();
    let (socket, directory) = (daemon.socket(), daemon.path("anybodys"));
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let headers = [
        "X-Uid: 0\r\n",
        "X-Forwarded-User: root\r\nX-Remote-User: root\r\n",
        "Forwarded: for=127.0.0.1;by=root\r\n",
        "Authorization: Basic cm9vdDpyb290\r\n",
        "X-HTTP-Method-Override: GET\r\n",
        "Host: root@localhost\r\n",
        "Cookie: uid=0; role=admin\r\n",
    ];
    STRANGER.does(|| {
        for headers in headers {
            let answer = ask(&socket, "GET", "/v1/tasks", headers, "");
            assert!(answer.is_none_or(|answer| is_refusal(&answer) || answer.status == 400), "{headers}");
        }
        // A client may have an address of its own, whose name the server is shown (dirty_sock).
        for (number, name) in ["x;uid=0;", "x;uid=0;pid=1;", "\nuid=0\n"].into_iter().enumerate() {
            let own = UnixAddr::new(&directory.join(format!("{number}{name}"))).unwrap();
            let client = socket_with_name(&own, &socket);
            let mut client = UnixStream::from(client);
            client.write_all(b"GET /v1/info HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 403"), "{name}: {answer}");
        }
    });
}

fn socket_with_name(own: &UnixAddr, to: &std::path::Path) -> std::os::fd::OwnedFd {
    let client = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(client.as_raw_fd(), own).unwrap();
    connect(client.as_raw_fd(), &UnixAddr::new(to).unwrap()).unwrap();
    client
}

#[test]
fn ten_thousand_requests_of_a_stranger_get_403_and_root_is_answered_all_the_while() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let daemon = open_to_all();
    let socket = daemon.socket();
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            STRANGER.does(|| {
                for number in 0..scaled(10_000) {
                    let route = &ROUTES[number % ROUTES.len()];
                    let answer = ask(&socket, route.method, &path_of(route), "", "{}");
                    assert!(answer.as_ref().is_none_or(is_refusal), "{}: {answer:?}", route.path);
                }
            });
        });
        while !stranger.is_finished() {
            daemon.ctl_ends(0, &["list"]);
        }
    });
    let events = daemon.ctl_ends(0, &["events"]);
    assert!(!events.contains("65534"), "{events}");
}

#[test]
fn by_its_own_mode_the_socket_lets_no_stranger_connect() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let daemon = Daemon::gated(1);
    let socket = daemon.socket();
    for (name, identity, _) in EVERYBODY.iter().filter(|entry| entry.1.uid != 0) {
        let error = identity.does(|| UnixStream::connect(&socket).unwrap_err());
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{name}");
        let replaced = identity.does(|| fs::remove_file(&socket).or_else(|_| fs::rename(&socket, "/tmp/x")));
        assert!(replaced.is_err(), "{name}");
    }
    daemon.ctl_ends(0, &["list"]);
}

#[test]
fn a_container_does_not_get_at_the_socket_of_its_daemon() {
    if !is_root() {
        return skip("who may do what is tested as root, who can become others");
    }
    let mut daemon = Daemon::new();
    let (said, socket) = (daemon.path("said"), daemon.socket());
    fs::write(&said, "").unwrap();
    fs::set_permissions(&said, Permissions::from_mode(0o666)).unwrap();
    let script = format!(
        "(id -u; id -G; curl -sS -i --unix-socket {0} http://d/v1/info; curl -sS -i -X POST --unix-socket {0} http://d/v1/tasks) > {1} 2>&1; exec sleep 1000",
        socket.display(),
        said.display()
    );
    let run = format!("run:\n  command: [/bin/sh, -c, \"{script}\"]\n  user: nobody\n");
    let health = format!(
        "health: {{ command: [/bin/sh, -c, 'test $(grep -c HTTP/ {}) = 2'], interval: 10ms, settle: 0s }}",
        said.display()
    );
    daemon.add_running(1, &[("c", "")], &run, &health);
    daemon.launch();
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o666)).unwrap();
    daemon.executed("plan", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    let said = fs::read_to_string(said).unwrap();
    assert!(said.starts_with("65534\n65534\n"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 403").count(), 2, "{said}");
}
