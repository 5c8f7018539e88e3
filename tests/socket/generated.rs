//! The OpenAPI document in use: a client is generated from what the daemon serves, and executes a plan through
//! the Unix socket. (`pip install openapi-python-client`; `.ci/run` does.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Daemon, items, skip};

/// The generator, and the Python beside it that has what a generated client needs.
fn generator() -> Option<(PathBuf, PathBuf)> {
    let paths = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&paths).find(|folder| folder.join("openapi-python-client").exists())?;
    Some((found.join("openapi-python-client"), found.join("python3")))
}

fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}\n{err}");
    out.into_owned()
}

#[test]
fn a_client_that_was_generated_from_the_document_executes_a_plan() {
    let Some((generator, python)) = generator() else {
        return skip("openapi-python-client is missing (pip install openapi-python-client)");
    };
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "")], "");
    daemon.add(2, &[("c2", "")], "");
    daemon.launch();
    let plan = daemon.write("shop.yaml", &items(&[(1, 1, "START", ""), (2, 0, "START", "")]));
    daemon.ctl_ends(0, &["plan", "create", plan.to_str().unwrap()]);
    let (status, _, document) = daemon.http("GET", "/v1/openapi.json", "", "");
    assert_eq!(status, 200);
    let document = daemon.write("openapi.json", &document);
    // No formatter runs over it, and what it can't be (a plan is YAML) it leaves out.
    let settings = daemon.write("generator.yaml", "post_hooks: []\n");
    let into = daemon.path("deployd_client");
    ran(Command::new(generator)
        .args(["generate", "--meta", "none", "--path"])
        .arg(document)
        .arg("--output-path")
        .arg(&into)
        .arg("--config")
        .arg(settings));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/socket/generated.py");
    fs::copy(script, daemon.path("generated.py")).unwrap();
    let said = ran(Command::new(python)
        .arg(daemon.path("generated.py"))
        .arg(daemon.socket())
        .arg("shop")
        .env("PYTHONDONTWRITEBYTECODE", "1"));
    assert!(said.starts_with("shop "), "{said}");
    assert_eq!(daemon.witness().len(), 2);
}
