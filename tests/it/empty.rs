//! Empty is an error: a key without a value is refused wherever it stands, and says what to do instead.
//!
//! The tables are made of the keys that the readers know, so that a new key is tested without being named here.

mod catalog;
mod plan;

use std::fs;
use std::path::Path;

use deployd::catalog::Catalog;
use deployd::catalog::check::{Host, Source};
use deployd::config::{Config, Overrides, keys as config_keys};
use deployd::mistake::{FileMistake, Mistake};
use deployd::reading::Key;

use crate::harness::{Daemon, items};

/// The spellings of nothing.
const NOTHING: [&str; 17] = [
    "",
    "~",
    "null",
    "Null",
    "NULL",
    "\"\"",
    "''",
    "' '",
    "\"\\t\"",
    "# a comment",
    "|",
    ">-",
    "!!null",
    "!!null ~",
    "!!str",
    "!!null ''",
    "! ''",
];

/// Sets the key of a block map: whatever was there before is replaced.
fn with(block: &str, indent: &str, key: &str, value: &str) -> String {
    let begins = format!("{indent}{key}:");
    let mut lines: Vec<String> = Vec::new();
    let mut below = false;
    for line in block.lines() {
        below =
            if line.starts_with(&begins) { true } else { below && line.starts_with(&format!("{indent} ")) };
        if !below {
            lines.push(line.to_string());
        }
    }
    lines.join("\n") + &format!("\n{begins} {value}\n")
}

/// The only mistake in a file whose last line is an empty key.
fn refused(mistakes: &[Mistake], key: &Key, path: &str, text: &str) {
    let line = u32::try_from(text.lines().count()).unwrap();
    let column = text.lines().last().unwrap().find(key.name).unwrap() + 1;
    let [mistake] = mistakes else { panic!("{path}: {mistakes:#?}\n{text}") };
    let place = (mistake.line as usize, mistake.column as usize);
    assert_eq!(place, (line as usize, column), "{mistake}\n{text}");
    assert_eq!(mistake.path, path, "{text}");
    let instead = key.instead.unwrap();
    assert_eq!(mistake.message, format!("{} is empty: {instead}", key.name), "{text}");
}

fn service() -> Catalog {
    let text = "serviceId: 1\nname: web\nruntime: process\ncontainers: [{name: web-1, labels: [red]}]\n\
                run: {command: [/bin/true]}\nbuild: {command: [make], output: dist}\n";
    catalog_of(text).unwrap()
}

fn catalog_of(text: &str) -> Result<Catalog, Vec<Mistake>> {
    let everybody = |_: &str| true;
    let host = Host { is_root: false, user: "me".into(), has_systemd: true, has_user: &everybody };
    let sources = [Source { file: "web.yaml".into(), text: text.into() }];
    let mistakes = |found: Vec<FileMistake>| found.into_iter().map(|it| it.mistake).collect();
    deployd::catalog::check::read(&sources, &host).map_err(mistakes)
}

#[test]
fn an_empty_key_of_the_configuration_is_refused_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deployd.yaml");
    let mistake = |text: &str| {
        fs::write(&file, text).unwrap();
        let overrides = Overrides { config: Some(file.clone()), ..Overrides::default() };
        Config::load(&overrides, "deployd".into(), &deployd::foreign::Reader::in_threads())
            .unwrap_err()
            .to_string()
    };
    let sections: [(&str, &[Key]); 10] = [
        ("", &config_keys::FILE),
        ("access", &config_keys::ACCESS),
        ("git", &config_keys::GIT),
        ("packages", &config_keys::PACKAGES),
        ("builds", &config_keys::BUILDS),
        ("concurrency", &config_keys::CONCURRENCY),
        ("timeouts", &config_keys::TIMEOUTS),
        ("retention", &config_keys::RETENTION),
        ("notify", &config_keys::NOTIFY),
        ("engines", &config_keys::ENGINES),
    ];
    for empty in NOTHING {
        for (section, keys) in sections {
            for key in keys {
                let (text, place, path) = if section.is_empty() {
                    (format!("# first\n{}: {empty}\n", key.name), "2:1", key.name.to_string())
                } else {
                    (
                        format!("{section}:\n  {}: {empty}\n", key.name),
                        "2:3",
                        format!("{section}.{}", key.name),
                    )
                };
                let said = mistake(&text);
                let expected = format!(
                    "{}:{place}: {path}: {} is empty: {}",
                    file.display(),
                    key.name,
                    key.instead.unwrap()
                );
                assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), [expected], "{text}");
            }
        }
    }
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/keys.rs")).unwrap();
    assert_eq!(source.matches("pub const ").count(), sections.len());
    for text in [
        "access: {operators: [~]}",
        "packages: {allowedUris: [\"\"]}",
        "git: {allowedRepositories: [https://x/, null]}",
        "notify: {command: [/bin/true, ~]}",
    ] {
        assert!(mistake(text).contains(" is empty: "), "{text}");
    }
    // These say something: that there is nothing.
    fs::write(
        &file,
        "access: {operators: [], viewers: []}\npackages: {allowedUris: []}\nnotify: {command: []}\n",
    )
    .unwrap();
    let overrides = Overrides { config: Some(file), ..Overrides::default() };
    let config = Config::load(&overrides, "deployd".into(), &deployd::foreign::Reader::in_threads()).unwrap();
    assert_eq!((config.operators.len(), config.allowed_uris, config.notify.len()), (0, Some(Vec::new()), 0));
}

#[test]
fn an_empty_label_stops_nothing() {
    let mut daemon = Daemon::new();
    daemon.add(1, &[("c1", "red"), ("c2", "")], "");
    daemon.launch();
    daemon.executed("up", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    for label in ["", "~", "\"\"", "\",\"", "\" , \""] {
        let text = format!("deployPlanItems:\n- serviceId: 1\n  deployment: STOP\n  deployLabel: {label}\n");
        let file = daemon.write("down.yaml", &text);
        let file = file.to_str().unwrap();
        for command in [&["plan", "check", file][..], &["plan", "create", file], &["execute", "-f", file]] {
            let said = daemon.ctl_ends(5, command);
            assert!(said.contains("deployLabel is empty: remove the key to choose all containers"), "{said}");
            assert!(said.contains(":4:"), "{said}");
        }
    }
    assert_eq!(daemon.json(&["list"])["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.json(&["plan", "list"])["plans"].as_array().unwrap().len(), 1);
}

#[test]
fn an_empty_member_of_a_request_is_refused() {
    let daemon = Daemon::gated(1);
    daemon.release("c1");
    let id = daemon.executed("plan", &items(&[(1, 0, "START", "")]), "SUCCEEDED");
    for (path, body, member) in [
        ("/v1/tasks", r#"{"plan": null}"#, "plan"),
        ("/v1/tasks", r#"{"plan": ""}"#, "plan"),
        ("/v1/tasks", r#"{"plan": "  "}"#, "plan"),
        ("/v1/tasks", r#"{"plan": "plan", "revision": null}"#, "revision"),
        ("/v1/tasks", r#"{"plan": "plan", "revision": ""}"#, "revision"),
        ("/v1/tasks", r#"{"plan": "plan", "dryRun": null}"#, "dryRun"),
        ("/v1/repositories", r#"{"name": null}"#, "name"),
        ("/v1/repositories", r#"{"name": ""}"#, "name"),
        (&format!("/v1/tasks/{id}/stop"), r#"{"now": null}"#, "now"),
        (&format!("/v1/tasks/{id}/resume"), r#"{"force": null}"#, "force"),
    ] {
        let (status, problem) = daemon.call("POST", path, body);
        assert_eq!((status, &problem["code"]), (400, &"badRequest".into()), "{path} {body}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{member} is empty: ")), "{body}: {detail}");
    }
    // What comes twice does not hide what is empty.
    for body in [
        r#"{"plan": null, "plan": "plan"}"#,
        r#"{"plan": "plan", "revision": null, "revision": 1}"#,
        "null",
        "[]",
        "{}",
    ] {
        assert_eq!(daemon.call("POST", "/v1/tasks", body).0, 400, "{body}");
    }
    assert_eq!(daemon.json(&["list"])["tasks"].as_array().unwrap().len(), 1);
}
