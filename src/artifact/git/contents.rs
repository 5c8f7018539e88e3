//! What a commit has that a checkout leaves out: submodules, and the files of Git LFS. A build without them would be
//! wrong, and nothing would say so.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::GitError;

/// How the pointer to a file of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Maximum length of a pointer.
const MAX_POINTER: u64 = 1024;
/// Maximum number of bytes that are read of a list of attributes.
const MAX_ATTRIBUTES: u64 = 1 << 20;

/// What of a commit may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// `build.submodules: ignore`
    pub submodules: bool,
    /// `build.lfs: ignore`
    pub lfs: bool,
}

/// The error of a commit with submodules.
pub fn submodules(origin: String, commit: &str, first: &str) -> GitError {
    GitError::LeftOut {
        origin,
        commit: commit.into(),
        what: format!("submodules ({first})"),
        fix: "Copy into the repository what the build needs of them, or deploy a package. To build without them, write \
              build.submodules: ignore in the catalog",
    }
}

/// The error of a commit with files of Git LFS.
pub fn lfs(origin: String, commit: &str, first: &str) -> GitError {
    GitError::LeftOut {
        origin,
        commit: commit.into(),
        what: format!("Git LFS files ({first})"),
        fix: "Keep the files in the repository itself (git lfs migrate export), or deploy a package. To build with the \
              pointers in their place, write build.lfs: ignore in the catalog",
    }
}

/// The first file of a checkout that is a pointer of Git LFS. Blocking.
pub fn pointer(checkout: &Path) -> Option<String> {
    let mut uses_lfs = false;
    let mut small = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        // Nobody but the daemon can write there yet, and links are not followed.
        for entry in fs::read_dir(checkout.join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(path);
                continue;
            }
            if !metadata.is_file() {
                continue;
            }
            if entry.file_name() == ".gitattributes" {
                let text = beginning(&checkout.join(&path), MAX_ATTRIBUTES);
                uses_lfs |= String::from_utf8_lossy(&text).contains("filter=lfs");
            }
            if (POINTER.len() as u64..=MAX_POINTER).contains(&metadata.len()) {
                small.push(path);
            }
        }
    }
    // Where no attribute asks for the filter, such a file is what it is.
    if !uses_lfs {
        return None;
    }
    small.sort();
    let is_pointer = |path: &PathBuf| beginning(&checkout.join(path), POINTER.len() as u64) == POINTER;
    small.into_iter().find(is_pointer).map(|path| path.to_string_lossy().escape_debug().to_string())
}

fn beginning(path: &Path, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        file.take(length).read_to_end(&mut bytes).ok();
    }
    bytes
}
