//! The served OpenAPI document against what is answered: schemathesis asks all that the document allows,
//! and much that it does not. (`pip install schemathesis`; `.ci/run` does.)

use std::fs;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::client::{figure, scaled};
use crate::harness::{Daemon, items, skip};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance,\
use_after_free";

/// It speaks TCP: what comes to this port on loopback goes to the socket. Ends with the test's process.
fn tcp_port_of(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(daemon) = UnixStream::connect(&socket) else { continue };
            join(client, daemon);
        }
    });
    port
}

fn join(client: TcpStream, daemon: UnixStream) {
    let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
    let (mut from_daemon, mut to_daemon) = (daemon.try_clone().unwrap(), daemon);
    std::thread::spawn(move || {
        std::io::copy(&mut from_client, &mut to_daemon).ok();
        to_daemon.shutdown(Shutdown::Both).ok();
    });
    std::thread::spawn(move || {
        std::io::copy(&mut from_daemon, &mut to_client).ok();
        to_client.shutdown(Shutdown::Both).ok();
    });
}

/// Runs it; `None` when it is not installed.
fn run(daemon: &Daemon, settings: &str, more: &[&str]) -> Option<()> {
    let port = tcp_port_of(daemon.socket());
    let file = daemon.write("schemathesis.toml", settings);
    let examples = scaled(10).to_string();
    let output = Command::new("schemathesis")
        .arg("--config-file")
        .arg(file)
        .args(["run", &format!("http://127.0.0.1:{port}/v1/openapi.json"), "--checks", CHECKS])
        .args(["--seed", "1", "--max-examples", &examples, "--generation-database", "none", "--no-color"])
        .args(["--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"])
        .args(more)
        .current_dir(daemon.path("."))
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let cases = said.lines().find(|line| line.contains(" generated, ")).unwrap_or_default().trim();
    figure(&format!("schemathesis, {examples} examples of each operation: {cases}"));
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    Some(())
}

/// The stream of events has to end.
const EVENTS: &str =
    "[[operations]]\ninclude-path = \"/v1/events\"\nparameters = { \"query.follow\" = false }\n";

#[test]
fn what_is_answered_is_what_the_document_says() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.launch();
    if run(&daemon, EVENTS, &[]).is_none() {
        skip("schemathesis is missing (pip install schemathesis)");
    }
}

#[test]
fn what_is_answered_about_what_exists_is_what_the_document_says() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    daemon.ctl_ends(0, &["repo", "create", "r"]);
    daemon.executed("p", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    fs::remove_file(daemon.path("services.d/s2.yaml")).unwrap();
    let fixed = [
        ("/v1/tasks/{id}", "\"path.id\" = 1"),
        ("/v1/tasks/{id}/report", "\"path.id\" = 1"),
        ("/v1/tasks/{id}/logs", "\"path.id\" = 1, \"query.service\" = \"s1\""),
        ("/v1/tasks/{id}/stop", "\"path.id\" = 1"),
        ("/v1/tasks/{id}/pause", "\"path.id\" = 1"),
        ("/v1/tasks/{id}/resume", "\"path.id\" = 1"),
        ("/v1/plans/{name}", "\"path.name\" = \"p\""),
        ("/v1/services/{id}", "\"path.id\" = \"s1\""),
        ("/v1/services/{id}/logs", "\"path.id\" = \"1\""),
        ("/v1/events", "\"query.task\" = 1, \"query.follow\" = false"),
    ];
    let settings = fixed.map(|(path, parameters)| {
        format!("[[operations]]\ninclude-path = \"{path}\"\nparameters = {{ {parameters} }}\n")
    });
    let only = ["--phases", "coverage,fuzzing", "--exclude-method", "DELETE"];
    if run(&daemon, &settings.concat(), &only).is_none() {
        skip("schemathesis is missing (pip install schemathesis)");
    }
}
