//! Hostile YAML: refused or read rightly, in little time and memory, whatever it is.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use deployd::catalog::Catalog;
use deployd::plan::check::{self, Policy};
use deployd::yaml::{Kind, Meaning, Node, parse};
use serde_json::{Map, Value};

use super::{bounded, third_party::folder};

/// No file of the corpus takes longer to judge (this is not a measurement: it ends what runs away).
const TIME: Duration = Duration::from_secs(20);

/// What a file says, as JSON.
fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::List(nodes) => nodes.iter().map(json).collect(),
        Kind::Map(entries) => {
            let entry =
                |(key, node): &(deployd::yaml::Spanned<String>, Node)| (key.value.clone(), json(node));
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        Kind::Scalar { text, .. } => match node.meaning() {
            Meaning::Null => Value::Null,
            Meaning::Integer(number) => {
                i64::try_from(number).map_or_else(|_| text.clone().into(), Value::from)
            }
            Meaning::Other(_) => serde_yaml::from_str(text).unwrap(),
            Meaning::Text => text.clone().into(),
        },
    }
}

/// Judges a text as a plan; what is said of it has to be fit for a terminal.
fn judge(name: &str, text: &[u8]) -> bool {
    let begun = Instant::now();
    let read = check::read(text, &Catalog::default(), &Policy::default());
    assert!(begun.elapsed() < TIME, "{name} took {:?}", begun.elapsed());
    for mistake in read.as_ref().err().into_iter().flatten() {
        let said = format!("{} {}", mistake.path, mistake.message);
        assert!(!said.contains(char::is_control), "{name}: {said:?}");
        assert!(mistake.line >= 1 && mistake.column >= 1, "{name}: {mistake:?}");
    }
    read.is_ok()
}

#[test]
fn hostile_files_are_refused_in_bounded_time_and_memory() {
    if !bounded("yaml::hostile_files_are_refused_in_bounded_time_and_memory") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yaml");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let text = if path.extension().is_some_and(|extension| extension == "xz") {
            let mut text = Vec::new();
            liblzma::read::XzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
            text
        } else {
            bytes
        };
        // The catalog is empty, so that no plan of the corpus can be right.
        assert!(!judge(&path.display().to_string(), &text), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 41);
}

#[test]
fn no_value_of_the_yaml_test_suite_is_read_wrongly() {
    let Some(folder) = folder("yaml-test-suite") else { return };
    let packed = fs::read(folder.join("yaml-test-suite-data-2022-01-17.tar.xz")).unwrap();
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(&packed[..]));
    let room = tempfile::tempdir().unwrap();
    archive.unpack(room.path()).unwrap();
    let mut tests = Vec::new();
    find(room.path(), &mut tests);
    let (mut read, mut refused, mut wrong) = (0, 0, BTreeSet::new());
    for test in &tests {
        let name = test.strip_prefix(room.path()).unwrap().display().to_string();
        let text = fs::read(test.join("in.yaml")).unwrap();
        judge(&name, &text);
        let Ok(node) = parse(&text, 16 << 20) else {
            refused += 1;
            continue;
        };
        let wanted = fs::read_to_string(test.join("in.json")).ok();
        let wanted = wanted.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if test.join("error").exists() {
            wrong.insert(format!("{name}: is no YAML, and was read"));
        } else if let Some(wanted) = wanted
            && wanted != json(&node)
        {
            wrong.insert(format!("{name}: {wanted} was read as {}", json(&node)));
        }
        read += 1;
    }
    assert!(read > 150 && refused > 94, "{read} were read and {refused} refused");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The directories below that hold a test.
fn find(directory: &Path, tests: &mut Vec<std::path::PathBuf>) {
    if directory.join("in.yaml").exists() {
        tests.push(directory.to_path_buf());
    }
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        // `name/` and `tags/` hold links to the same tests.
        if entry.file_type().unwrap().is_dir()
            && !["name", "tags"].iter().any(|name| entry.file_name() == *name)
        {
            find(&entry.path(), tests);
        }
    }
}

#[test]
fn naughty_strings_go_nowhere() {
    let Some(folder) = folder("strings") else { return };
    let text = fs::read_to_string(folder.join("blns.txt")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() > 400, "{}", lines.len());
    for line in lines {
        let quoted = serde_json::to_string(line).unwrap();
        for key in ["comment", "deployLabel", "compileRepoBranch", "compileRepoPath", "httpSrcUri", line] {
            let key = serde_json::to_string(key).unwrap();
            let plan = format!(
                "{{\"deployPlanItems\": [{{\"serviceId\": 1, \"deployment\": \"START\", {key}: {quoted}}}]}}"
            );
            assert!(!judge(line, plan.as_bytes()), "{plan}");
            assert!(!judge(line, format!("{line}: {line}").as_bytes()));
        }
    }
}
