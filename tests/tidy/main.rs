//! What the architecture promises in `src/lib.rs`, held to it: who sees whom, and how large things are.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the daemon with the modules that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    // The domain.
    ("address", &[]),
    ("mistake", &[]),
    ("yaml", &["mistake"]),
    ("reading", &["mistake", "yaml"]),
    ("catalog", &["address", "mistake", "reading", "yaml"]),
    ("plan", &["address", "catalog", "mistake", "reading", "yaml"]),
    ("task", &["catalog", "plan"]),
    // The host: store, artifact, runtime and probe never see each other.
    ("clock", &["task"]),
    ("blocking", &[]),
    ("crashpoint", &[]),
    ("metrics", &[]),
    ("random", &[]),
    ("identity", &["random"]),
    ("tls", &["address"]),
    ("foreign", &["blocking"]),
    ("spawn", &["blocking", "catalog", "crashpoint", "foreign"]),
    ("store", &["address", "catalog", "crashpoint", "metrics", "plan", "random", "task"]),
    ("artifact", &["address", "blocking", "catalog", "crashpoint", "foreign", "plan", "spawn", "tls"]),
    ("systemd", &["blocking", "catalog", "crashpoint", "identity", "random", "spawn"]),
    ("engine", &["catalog", "crashpoint", "tls"]),
    (
        "runtime",
        &[
            "blocking",
            "catalog",
            "clock",
            "crashpoint",
            "engine",
            "foreign",
            "identity",
            "spawn",
            "systemd",
            "task",
        ],
    ),
    ("probe", &["address", "catalog", "spawn", "tls"]),
    // Deeds.
    (
        "executor",
        &[
            "address",
            "artifact",
            "blocking",
            "catalog",
            "clock",
            "crashpoint",
            "foreign",
            "plan",
            "probe",
            "runtime",
            "spawn",
            "systemd",
            "task",
        ],
    ),
    // Actors never see a runtime.
    ("compile", &["catalog", "mistake", "plan", "task"]),
    (
        "actors",
        &[
            "artifact",
            "blocking",
            "catalog",
            "clock",
            "compile",
            "crashpoint",
            "executor",
            "metrics",
            "mistake",
            "plan",
            "random",
            "store",
            "task",
        ],
    ),
    (
        "control",
        &[
            "actors", "address", "catalog", "clock", "foreign", "metrics", "mistake", "plan", "reading",
            "store", "task",
        ],
    ),
    // The root.
    ("catalog_dir", &["catalog", "foreign", "mistake"]),
    ("retention", &["artifact", "blocking", "clock", "executor", "store", "task"]),
    ("config", &["artifact", "catalog", "foreign", "mistake", "reading", "retention", "systemd", "yaml"]),
    ("notify", &["actors", "control", "store"]),
    ("preflight", &["artifact", "catalog", "catalog_dir", "config", "engine", "foreign", "plan", "systemd"]),
    (
        "daemon",
        &[
            "actors",
            "artifact",
            "blocking",
            "catalog_dir",
            "clock",
            "config",
            "control",
            "executor",
            "foreign",
            "identity",
            "notify",
            "plan",
            "retention",
            "runtime",
            "spawn",
            "store",
            "systemd",
            "task",
        ],
    ),
    ("assets", &[]),
    ("log", &["metrics"]),
    ("demo", &["spawn"]),
];

/// What the domain has nothing to do with.
const NOT_IN_THE_DOMAIN: [&str; 9] =
    ["tokio", "actix", "redb", "reqwest", "std::fs", "std::net", "std::process", "SystemTime", "Instant"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All files of ours, by their path from the root.
fn all() -> Vec<(String, String)> {
    let folders = ["src", "ctl/src", "tests"];
    let files = folders.iter().flat_map(|folder| rust_files(&root().join(folder)));
    files
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The module of a file: `src/task/fold.rs` is `task`. Tests see whatever they need.
fn module(name: &str) -> Option<&str> {
    let inner = name.strip_prefix("src/").filter(|inner| !inner.contains("tests"))?;
    let module = inner.split(['/', '.']).next()?;
    (!matches!(module, "lib" | "main")).then_some(module)
}

/// A file's code, without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

fn is_domain(module: &str) -> bool {
    matches!(module, "address" | "yaml" | "mistake" | "reading" | "catalog" | "plan" | "task")
}

#[test]
fn layers_see_only_what_they_may() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, text) in all() {
        let Some(module) = module(&name) else { continue };
        let rule = MAY_USE.iter().find(|rule| rule.0 == module);
        let Some((_, may_use)) = rule else { panic!("{name} is in no layer: put it into the table") };
        seen.insert(module.to_string());
        for part in code(&text).split("crate::").skip(1) {
            let used: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if used != module && !may_use.contains(&&*used) {
                wrong.push(format!("{name} uses crate::{used}"));
            }
        }
    }
    assert_eq!(seen.len(), MAY_USE.len(), "the table names a module that is gone");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_domain_is_pure() {
    for (name, text) in all() {
        if !module(&name).is_some_and(is_domain) {
            continue;
        }
        let code = code(&text);
        for forbidden in NOT_IN_THE_DOMAIN {
            let used = code.lines().find(|line| line.contains(forbidden));
            assert!(used.is_none(), "{name} uses {forbidden}: {used:?}");
        }
    }
}

#[test]
fn no_file_is_a_giant() {
    let giants: Vec<_> = all().into_iter().filter(|(_, text)| text.lines().count() > 400).collect();
    let names: Vec<_> =
        giants.iter().map(|(name, text)| format!("{name}: {}", text.lines().count())).collect();
    assert!(names.is_empty(), "{names:#?}");
}

#[test]
fn every_file_says_why_it_exists() {
    for (name, text) in all() {
        assert!(text.starts_with("//! "), "{name} does not begin with its reason");
    }
}

#[test]
fn actors_never_see_a_runtime() {
    for (name, text) in all() {
        if module(&name) == Some("actors") {
            assert!(!code(&text).contains("Runtime"), "{name}");
        }
    }
}

#[test]
fn the_documents_name_what_is_there() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for part in readme.split("](").skip(1) {
        let target = part.split(')').next().unwrap();
        if !target.starts_with('#') && !target.contains("://") {
            assert!(root().join(target).exists(), "README.md leads to {target}, which is not there");
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let mut named = 0;
    for (letter, count) in [('F', 63), ('T', 55)] {
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with(&format!("| {letter}"))).collect();
        assert_eq!(rows.len(), count, "rows of {letter}");
        for (number, line) in (1..).zip(rows) {
            assert!(line.starts_with(&format!("| {letter}{number:02} |")), "out of order: {line}");
            let proofs = line.rsplit('|').nth(1).unwrap();
            let tests: Vec<_> = proofs.split('`').skip(1).step_by(2).collect();
            assert!(!tests.is_empty() || line.contains("*not covered"), "no proof: {line}");
            for test in tests {
                let (binary, name) = test.split_once("::").unwrap();
                let folder =
                    if binary == "src" { root().join("src") } else { root().join("tests").join(binary) };
                let is_there = rust_files(&folder)
                    .iter()
                    .any(|file| fs::read_to_string(file).unwrap().contains(&format!("fn {name}()")));
                assert!(is_there, "there is no test {test}");
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named}");
}

/// What a mutation changes is there, as it says.
#[test]
fn every_mutation_still_applies() {
    let mut patches = 0;
    for entry in fs::read_dir(root().join("tests/mutations")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        patches += 1;
        let text = fs::read_to_string(&path).unwrap();
        for part in text.split("\n--- a/").skip(1) {
            let file = part.lines().next().unwrap();
            let source = fs::read_to_string(root().join(file)).unwrap();
            for hunk in part.split("\n@@ ").skip(1) {
                let old = hunk.lines().skip(1).filter(|line| !line.starts_with('+'));
                let old = old.map(|line| line.get(1..).unwrap_or_default()).collect::<Vec<_>>().join("\n");
                assert!(source.contains(old.trim_end()), "{}: {file} has not:\n{old}", path.display());
            }
        }
    }
    assert_eq!(patches, 21);
}
