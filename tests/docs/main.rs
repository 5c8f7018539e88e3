//! What people read: the texts of errors, and the pages below `docs/`, held to what the program does.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "these are tests, helpers included; what they write is no state"
)]

mod editor;
mod errors;
mod pages;
mod reading;
mod reference;
mod samples;
mod tutorial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Whether a test that can't run here may be skipped; says so if it is.
#[expect(clippy::print_stderr, reason = "whoever runs the tests has to see it")]
fn skip(why: &str) {
    assert!(std::env::var_os("DEPLOYD_TEST_NO_SKIP").is_none(), "a test was skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Whether pages are to be brought up to date instead of compared.
fn updates() -> bool {
    std::env::var_os("DEPLOYD_UPDATE").is_some()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where deployd and deployctl are. (A test of one package alone does not build the other one.)
fn programs() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "deployctl"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.current_dir(root()).status().unwrap().success());
    Path::new(env!("CARGO_BIN_EXE_deployd")).parent().unwrap().to_path_buf()
}

/// A part of a page.
enum Part<'a> {
    Prose(&'a str),
    Block(Block<'a>),
}

/// What stands between two fences.
struct Block<'a> {
    language: &'a str,
    body: &'a str,
    /// The comment before it.
    comment: Option<&'a str>,
}

impl<'a> Block<'a> {
    /// What the comment says after this word.
    fn note(&self, word: &str) -> Option<&'a str> {
        self.comment?.strip_prefix(word)
    }

    /// The commands of a console's block.
    fn commands(&self) -> impl Iterator<Item = &'a str> {
        self.body.lines().filter_map(|line| line.strip_prefix("$ "))
    }
}

/// A page's parts, in their order; written one after another they are the page.
fn parts(page: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = page;
    while let Some(begin) = rest.find("```") {
        let (prose, fenced) = rest.split_at(begin);
        parts.push(Part::Prose(prose));
        let (language, fenced) = fenced[3..].split_once('\n').unwrap();
        let (body, after) = fenced.split_once("```\n").expect("a block has an end");
        let comment = prose.trim_end().rsplit('\n').next();
        let comment = comment.and_then(|line| line.trim().strip_prefix("<!-- ")?.strip_suffix(" -->"));
        parts.push(Part::Block(Block { language, body, comment }));
        rest = after;
    }
    parts.push(Part::Prose(rest));
    parts
}
