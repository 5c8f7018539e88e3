//! Every text with which something fails, in one list that people read: what, where, why, and what to do next.
//!
//! The list is complete: the source says how many errors there are, and the samples have to be as many.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{samples, source};

/// How many errors each type of the source has.
fn declared() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (_, text) in source() {
        for part in text.split("thiserror::Error)]").skip(1) {
            let body = part.split("\n}").next().unwrap();
            let name = body.split("enum ").nth(1).unwrap().split_whitespace().next().unwrap();
            found.insert(name.to_string(), body.matches("#[error(").count());
        }
    }
    found
}

#[test]
fn every_error_says_what_and_what_to_do_next() {
    let all = samples::all();
    let declared = declared();
    let mut wrong = Vec::new();
    for (name, count) in &declared {
        // What is wrong with a row is told inside of a StoreError.
        if name == "RowError" {
            continue;
        }
        let said = all.get(name.as_str()).map_or(0, Vec::len);
        if said != *count {
            wrong.push(format!("{name} has {count} errors, and {said} samples"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut page = String::new();
    for (name, said) in &all {
        assert!(declared.contains_key(*name), "{name} is gone");
        writeln!(page, "{name}").unwrap();
        for text in said {
            writeln!(page, "    {}", text.replace('\n', "\n      ")).unwrap();
        }
    }
    writeln!(page, "ProbeFailure").unwrap();
    for failure in samples::probes() {
        writeln!(page, "    {failure}").unwrap();
    }
    writeln!(page, "said in place").unwrap();
    for text in in_place() {
        writeln!(page, "    {text}").unwrap();
    }
    insta::assert_snapshot!(page);
}

/// Texts that stand where something fails, and not in a type: the literals of these calls.
fn in_place() -> Vec<String> {
    let calls = [
        "failure(",
        "Unavailable(",
        "Refused::Host(",
        "BadName(",
        "NothingToDo(",
        "BadRequest(",
        "NotFound(",
        "Fault::TooLarge(",
        "NotPermitted(",
        "Failure::Usage(",
        "Failure::Other(",
        "wrong.push(",
        "Exists(",
    ];
    let mut found = BTreeSet::new();
    for (_, text) in source() {
        for call in calls {
            for part in text.split(call).skip(1) {
                // To the end of the statement.
                let statement = part.split(";\n").next().unwrap_or_default();
                let statement = statement.split("\n    }").next().unwrap_or_default();
                found.extend(literals(statement).filter(|literal| is_sentence(literal)));
            }
        }
    }
    found.into_iter().collect()
}

fn literals(code: &str) -> impl Iterator<Item = String> {
    let parts: Vec<String> = code.split('"').skip(1).step_by(2).map(joined).collect();
    parts.into_iter()
}

/// Not code between two literals, nor a format alone.
fn is_sentence(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '`' | '{'));
    begins && !text.contains('\n') && text.split(' ').filter(|word| word.len() > 2).count() > 1
}

/// A literal over several lines is one.
fn joined(literal: &str) -> String {
    let lines = literal.split("\\\n").map(str::trim_start);
    lines.collect::<Vec<_>>().concat()
}
