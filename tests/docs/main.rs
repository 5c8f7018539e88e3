//! What people read: the texts of errors, and the pages below `docs/`, held to what the program does.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod errors;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with this ending below a folder of the project.
fn files(below: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The source of daemon and command line, without the tests at the end of files.
fn source() -> Vec<(PathBuf, String)> {
    let all = [root().join("src"), root().join("ctl/src")];
    let all = all.iter().flat_map(|folder| files(folder, ".rs"));
    let all = all.filter(|path| !path.to_string_lossy().contains("tests"));
    all.map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
        (path, code)
    })
    .collect()
}
