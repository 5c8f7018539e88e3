//! Hostile Git repositories: what is in them runs nothing, and ends up nowhere but in the checkout.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use deployd::artifact::git::{Git, GitError, Origin};
use tokio_util::sync::CancellationToken;

/// The commands in the corpus would make files of this name.
const CANARY: &str = "deployd-evil";

/// What of the corpus can't be checked out, and what is said of it; everything else is harmless data.
const REFUSED: [(&str, &str); 5] = [
    ("huge-tree", "more than 500000 files"),
    ("submodule-dash-path", "disallowed submodule path"),
    ("submodule-dash-url", "disallowed submodule url"),
    ("submodule-name-traversal", "disallowed submodule name"),
    ("submodule-update-cmd", "disallowed submodule update setting"),
];

/// No repository takes longer (this is not a measurement: it ends what runs away).
const TIME: Duration = Duration::from_mins(1);

fn canaries() -> Vec<String> {
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.contains(CANARY)).collect::<Vec<_>>()
    };
    ["/tmp", "/etc", "/", "."].into_iter().flat_map(names).collect()
}

/// Makes a repository of a bundle, as if it had been pushed there by somebody who knows no shame.
fn unbundle(bundle: &Path, into: &Path) {
    for arguments in [
        vec!["init", "-q", "--bare", "-b", "main", "."],
        vec!["fetch", "-q", bundle.to_str().unwrap(), "+refs/*:refs/*"],
    ] {
        let mut git = Command::new("git");
        git.args(arguments)
            .current_dir(into)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let ran = git.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

async fn check_out(git: &Git, origin: &Origin, branch: &str, into: &Path) -> Result<(), GitError> {
    let cancel = CancellationToken::new();
    let pin = git.resolve(origin, branch, None, &cancel).await?;
    git.checkout(origin, &pin.commit, into, &cancel).await
}

/// Everything below a directory: nothing is a link that was followed, nothing has a right too many.
fn look_through(name: &str, directory: &Path, files: &mut usize) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        assert_eq!(meta.mode() & 0o7000, 0, "{name}: {}", entry.path().display());
        assert_ne!(entry.file_name().to_ascii_lowercase(), ".git", "{name}");
        *files += 1;
        if meta.is_dir() {
            look_through(name, &entry.path(), files);
        } else {
            assert!(meta.is_file() || meta.is_symlink(), "{name}: {}", entry.path().display());
        }
    }
}

#[tokio::test]
async fn hostile_repositories_run_nothing() {
    let room = tempfile::tempdir().unwrap();
    let git = Git::open(room.path().join("git"), room.path().join("cache"), Duration::from_mins(1)).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/git");
    let before = canaries();
    let mut bundles: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    bundles.sort();
    assert_eq!(bundles.len(), 25);
    let mut wrong = Vec::new();
    for bundle in bundles {
        let name = bundle.file_stem().unwrap().to_str().unwrap();
        let (repository, tree) = (room.path().join(name), room.path().join(format!("{name}.tree")));
        fs::create_dir(&repository).unwrap();
        fs::create_dir(&tree).unwrap();
        unbundle(&bundle, &repository);
        let begun = Instant::now();
        let ended = check_out(&git, &Origin::BuiltIn(repository), "main", &tree).await;
        let mut files = 0;
        look_through(name, &tree, &mut files);
        assert!(begun.elapsed() < TIME, "{name} took {:?}", begun.elapsed());
        let refusal = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (ended, refusal) {
            (Ok(()), None) => assert!(files > 0, "{name}: nothing was checked out"),
            (Err(error), Some((_, words))) => {
                let said = error.to_string();
                assert!(said.contains(words) && !said.contains(char::is_control), "{name}: {said:?}");
                assert_eq!(files, 0, "{name}: {files} files are left");
            }
            (ended, _) => wrong.push(format!("{name}: {ended:?}")),
        }
        assert_eq!(canaries(), before, "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
