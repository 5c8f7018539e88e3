//! A catalog file out of units that exist.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::process::Command;

use serde::Serialize;

use super::args::{Import, Output};
use super::exit::Failure;
use super::terminal::{Terminal, printable};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CatalogFile {
    service_id: u64,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    containers: Vec<Container>,
}

#[derive(Serialize)]
struct Container {
    name: String,
    unit: String,
}

/// What systemd says of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    id: String,
    load: String,
    description: String,
}

/// deployctl service import
pub fn import(import: &Import, output: Output, terminal: &mut Terminal) -> Result<u8, Failure> {
    if !is_name(&import.name) {
        let text = format!("`{}` is no name: 1 to 63 of a-z, 0-9 and -, not beginning with -", import.name);
        return Err(Failure::Other(text));
    }
    let file = catalog_file(import, ask(import)?)?;
    let text = serde_yaml::to_string(&file).map_err(|error| Failure::Other(error.to_string()))?;
    let Some(path) = &import.file else {
        let output = if output == Output::Json { output } else { Output::Yaml };
        terminal.document(output, &file)?;
        return Ok(0);
    };
    let written = File::options().write(true).create_new(true).open(path);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| Failure::File { file: path.display().to_string(), source })?;
    terminal.note(&printable(&format!("{} is written; next: deployctl service reload", path.display())));
    Ok(0)
}

/// What systemd says of the units, in their order.
fn ask(import: &Import) -> Result<Vec<Unit>, Failure> {
    let names = import.units.iter().map(|unit| full_name(unit)).collect::<Result<Vec<_>, _>>()?;
    let mut command = Command::new("systemctl");
    if import.user {
        command.arg("--user");
    }
    command.args(["show", "--property=Id,LoadState,Description", "--"]).args(&names);
    let cannot = |why: &str| Failure::Other(format!("cannot ask systemd about the units: {}", why.trim()));
    let output = command.output().map_err(|error| cannot(&error.to_string()))?;
    if !output.status.success() {
        return Err(cannot(&String::from_utf8_lossy(&output.stderr)));
    }
    let units = parse(&String::from_utf8_lossy(&output.stdout));
    if units.len() != names.len() {
        return Err(cannot("its answer is not about each of them"));
    }
    let missing: Vec<_> = names.iter().zip(&units).filter(|(_, unit)| unit.load != "loaded").collect();
    if missing.is_empty() {
        return Ok(units);
    }
    let list: Vec<_> = missing.iter().map(|(name, unit)| format!("{name} is {}", unit.load)).collect();
    Err(Failure::Other(format!("nothing is imported: {}; see systemctl list-units --all", list.join(", "))))
}

/// As systemctl completes it: `web` is `web.service`.
fn full_name(unit: &str) -> Result<String, Failure> {
    let kinds =
        ["socket", "target", "timer", "mount", "automount", "path", "slice", "scope", "swap", "device"];
    let kind = unit.rsplit_once('.').map(|(_, kind)| kind);
    if kind.is_some_and(|kind| kinds.contains(&kind)) {
        return Err(Failure::Other(format!(
            "{unit} can't be a container; name a unit that ends in .service"
        )));
    }
    let name = if kind == Some("service") { unit.to_string() } else { format!("{unit}.service") };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if !name.bytes().all(valid) || name.starts_with(['@', '.', '-']) {
        return Err(Failure::Other(format!("{unit} is not the name of a unit")));
    }
    if name.ends_with("@.service") {
        return Err(Failure::Other(format!("{unit} is a template; name its instances")));
    }
    Ok(name)
}

fn parse(shown: &str) -> Vec<Unit> {
    let block = |block: &str| {
        let mut unit = Unit::default();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "Id" => unit.id = value.to_string(),
                "LoadState" => unit.load = value.to_string(),
                "Description" => unit.description = printable(value),
                _ => {}
            }
        }
        unit
    };
    shown.split("\n\n").filter(|text| !text.trim().is_empty()).map(block).collect()
}

fn catalog_file(import: &Import, units: Vec<Unit>) -> Result<CatalogFile, Failure> {
    let (mut names, mut descriptions, mut ids) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let mut containers = Vec::new();
    for unit in units {
        // Two names of one unit.
        if !ids.insert(unit.id.clone()) {
            return Err(Failure::Other(format!("{} is named twice", unit.id)));
        }
        if !descriptions.contains(&unit.description) {
            descriptions.push(unit.description);
        }
        let name = unused_name(&unit.id, &names);
        names.insert(name.clone());
        containers.push(Container { name, unit: unit.id });
    }
    let (service_id, name) = (import.id, import.name.clone());
    Ok(CatalogFile { service_id, name, description: descriptions.join("; "), containers })
}

/// A name for the container of a unit that no other one has.
fn unused_name(unit: &str, used: &BTreeSet<String>) -> String {
    let stem = unit.strip_suffix(".service").unwrap_or(unit).to_ascii_lowercase();
    let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.chars().map(valid).collect();
    // There is room for a number.
    let name: String = name.trim_matches('-').chars().take(56).collect();
    let name = if name.is_empty() { "unit".to_string() } else { name };
    let numbered = |number: usize| if number == 1 { name.clone() } else { format!("{name}-{number}") };
    (1..=used.len() + 1).map(numbered).find(|name| !used.contains(name)).unwrap_or(name)
}

/// As the catalog wants it.
fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(valid) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_valid_and_unique() {
        let mut used = BTreeSet::new();
        for (unit, expected) in [
            ("Web@1.service", "web-1"),
            ("web-1.service", "web-1-2"),
            ("web_1.service", "web-1-3"),
            ("_.service", "unit"),
            ("a\\x2db.service", "a-x2db"),
        ] {
            let name = unused_name(unit, &used);
            assert_eq!(name, expected);
            assert!(is_name(&name));
            used.insert(name);
        }
        let long = unused_name(&format!("{}.service", "a".repeat(200)), &used);
        assert!(is_name(&long));
    }

    #[test]
    fn what_is_no_service_is_refused() {
        assert_eq!(full_name("web").unwrap(), "web.service");
        assert_eq!(full_name("web@1.service").unwrap(), "web@1.service");
        for wrong in ["web.socket", "web@.service", "--root", "a b", "../x"] {
            assert!(full_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_systemctl_shows_is_read() {
        let units =
            parse("Id=a.service\nDescription=A = B\nLoadState=loaded\n\nId=b.service\nLoadState=not-found\n");
        assert_eq!(units.len(), 2);
        assert_eq!((&*units[0].description, &*units[1].load), ("A = B", "not-found"));
    }
}
