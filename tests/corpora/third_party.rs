//! Archives of other projects' tests: none of ours has made them, so none of our mistakes is in them.
//!
//! They are not part of this repository; where they come from stands in `SOURCES.md` beside them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deployd::artifact::hex;
use deployd::artifact::unpack::unpack;
use sha2::{Digest, Sha256};

use super::{LIMITS, below, bounded, in_memory};

/// Says what a second reader, Python's own, finds in an archive that was accepted; and whether the two
/// descriptions of a file in a zip differ.
const SECOND_READER: &str = include_str!("second_reader.py");

#[expect(clippy::print_stderr, reason = "whoever runs the tests has to see it")]
fn skip(why: &str) {
    assert!(std::env::var_os("DEPLOYD_TEST_NO_SKIP").is_none(), "a test was skipped: {why}");
    eprintln!("skipped: {why}");
}

/// The folder of an origin; says so when it is not there.
pub fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/third-party").join(name);
    if !path.is_dir() {
        skip(&format!("third-party archives are not here ({})", path.display()));
        return None;
    }
    Some(path)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("LICENSE"));
    files.sort();
    files
}

/// What was accepted so far, each with what was unpacked of it.
struct Accepted {
    directory: tempfile::TempDir,
    names: Vec<String>,
}

impl Accepted {
    fn new() -> Self {
        Self { directory: in_memory(), names: Vec::new() }
    }

    /// Unpacks an archive; what must never be is a failure at once.
    fn judge(&mut self, name: &str, bytes: &[u8]) -> bool {
        let number = self.names.len();
        let archive = self.directory.path().join(format!("{number}.archive"));
        fs::write(&archive, bytes).unwrap();
        let room = in_memory();
        let releases = room.path().join("releases");
        fs::create_dir(&releases).unwrap();
        let release = releases.join("release");
        let begun = std::time::Instant::now();
        let done = unpack(&archive, &release, &LIMITS, 0, |_| Ok(()));
        assert!(begun.elapsed().as_secs() < 60, "{name} takes too long");
        let all = below(room.path());
        assert!(all.iter().all(|path| path.starts_with(&releases)), "{name} wrote {all:?}");
        if let Err(error) = done {
            assert!(!error.to_string().contains(char::is_control), "{name}: {error:?}");
            assert!(all.len() == 1, "{name} left {all:?}");
            fs::remove_file(archive).unwrap();
            return false;
        }
        let mut listing = BTreeMap::new();
        for path in all.iter().filter(|path| path.starts_with(&release) && !path.is_symlink()) {
            if path.is_file() {
                let name = path.strip_prefix(&release).unwrap().to_str().unwrap().to_string();
                listing.insert(name, hex(&Sha256::digest(fs::read(path).unwrap())));
            }
        }
        let text = serde_json::to_string(&listing).unwrap();
        fs::write(self.directory.path().join(format!("{number}.json")), text).unwrap();
        self.names.push(name.to_string());
        true
    }

    /// What the second reader says about all that was accepted: by name, what is different.
    fn differences(&self) -> Vec<String> {
        if Command::new("python3").arg("-V").output().is_err() {
            skip("there is no python3 to read the archives a second time");
            return Vec::new();
        }
        let mut python = Command::new("python3")
            .arg("-")
            .arg(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(SECOND_READER.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let (last, lines) = text.trim_end().rsplit_once('\n').map_or((text.trim_end(), ""), |(a, b)| (b, a));
        assert_eq!(last, format!("read {}", self.names.len()), "the second reader did not read all");
        lines
            .lines()
            .map(|line| {
                let (number, what) = line.split_once(' ').unwrap();
                format!("{}: {what}", self.names[number.parse::<usize>().unwrap()])
            })
            .collect()
    }
}

#[test]
fn archives_of_other_projects_are_refused_or_mean_the_same_to_another_reader() {
    if !bounded("third_party::archives_of_other_projects_are_refused_or_mean_the_same_to_another_reader") {
        return;
    }
    let mut accepted = Accepted::new();
    let mut counts = BTreeMap::new();
    // Each with how many are there at least.
    for (origin, least) in [
        ("zip-libzip", 160),
        ("zip-libarchive", 70),
        ("zip-zip2", 30),
        ("zip-go", 28),
        ("zip-cpython", 3),
        ("zip-yauzl-success", 20),
        ("zip-yauzl-failure", 24),
        ("tar-libarchive", 35),
        ("tar-go", 40),
        ("tar-tar-rs", 18),
    ] {
        let Some(folder) = folder(origin) else { return };
        let files = files(&folder);
        assert!(files.len() >= least, "only {} files of {origin}", files.len());
        let mut taken = Vec::new();
        for file in &files {
            let name = format!("{origin}/{}", file.file_name().unwrap().to_string_lossy());
            if accepted.judge(&name, &fs::read(file).unwrap()) {
                taken.push(name);
            }
        }
        if origin == "zip-yauzl-failure" {
            assert!(taken.is_empty(), "must be refused: {taken:?}");
        }
        counts.insert(origin, (taken.len(), files.len()));
    }
    let different = accepted.differences();
    assert!(different.is_empty(), "{counts:?}\n{}", different.join("\n"));
    // Not everything is refused.
    assert!(accepted.names.len() > 100, "{counts:?}");
}

/// Archives that were constructed so that readers disagree about them (USENIX Security 2025).
#[test]
fn no_archive_is_accepted_whose_two_descriptions_of_a_file_differ() {
    if !bounded("third_party::no_archive_is_accepted_whose_two_descriptions_of_a_file_differ") {
        return;
    }
    let Some(folder) = folder("zip-zipdiff") else { return };
    let packed = fs::File::open(folder.join("zipdiff-constructions-5927.tar.xz")).unwrap();
    let mut archives = tar::Archive::new(liblzma::read::XzDecoder::new(packed));
    let (mut accepted, mut count) = (Accepted::new(), 0);
    for entry in archives.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            accepted.judge(&name, &bytes);
            count += 1;
        }
    }
    assert_eq!(count, 5927);
    let different = accepted.differences();
    // Not all of them are ambiguous: 1,214 mean the same to both.
    assert!((1000..2000).contains(&accepted.names.len()), "{} accepted", accepted.names.len());
    assert!(different.is_empty(), "{} accepted, of which:\n{}", accepted.names.len(), different.join("\n"));
}
