//! Archives: any bytes are refused without a trace, or unpacked within their directory and the limits.
#![no_main]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use deployd::artifact::fetch::Limits;
use deployd::artifact::unpack::unpack;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_unpacked_bytes: 1 << 20, max_entries: 100 };

/// In memory, and one for each process of the fuzzer.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = PathBuf::from(format!("/dev/shm/deployd-fuzz-{}", std::process::id()));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(directory.join("releases")).expect("there is /dev/shm");
    directory
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let archive = DIRECTORY.join("archive");
    let destination = DIRECTORY.join("releases/r");
    fs::write(&archive, whole(how, bytes)).expect("there is room");
    let unpacked = unpack(&archive, &destination, &LIMITS, u32::from(how >> 6), |_| Ok(()));
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).expect("it is there");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("it can be read").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&DIRECTORY), ["archive", "releases"], "something was written outside");
    match unpacked {
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            assert!(names(&DIRECTORY.join("releases")).is_empty(), "{error} left something");
        }
        Ok(unpacked) => {
            assert_eq!(names(&DIRECTORY.join("releases")), ["r"]);
            assert!(unpacked.bytes <= LIMITS.max_unpacked_bytes && unpacked.entries <= LIMITS.max_entries);
            harmless(&destination, &destination.canonicalize().expect("it is there"));
            fs::remove_dir_all(&destination).expect("it can be removed");
        }
    }
});

/// The bytes as they are; or as a tar whose checksums are right, so that more than its first block is tried.
fn whole(how: u8, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if how & 1 == 0 {
        return bytes;
    }
    let mut at = 0;
    while at + 512 <= bytes.len() {
        let header = &mut bytes[at..at + 512];
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = String::from_utf8_lossy(&header[124..135]).trim().to_string();
        let length = usize::from_str_radix(&digits, 8).unwrap_or(0).min(1 << 16);
        at += 512 + length.div_ceil(512) * 512;
    }
    bytes
}

/// Nothing but directories, files and links that stay inside; no privileges.
fn harmless(directory: &Path, root: &Path) {
    for entry in fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("it can be read").path();
        let metadata = path.symlink_metadata().expect("it is there");
        let kind = metadata.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{path:?}");
        assert_eq!(metadata.uid(), fs::metadata("/proc/self").expect("there is /proc").uid());
        if kind.is_symlink() {
            let target = fs::read_link(&path).expect("it is a link");
            assert!(!target.is_absolute(), "{path:?} leads to {target:?}");
            if let Ok(reached) = path.canonicalize() {
                assert!(reached.starts_with(root), "{path:?} leads to {reached:?}");
            }
            continue;
        }
        assert_eq!(metadata.permissions().mode() & 0o7022, 0, "{path:?}");
        if kind.is_dir() {
            harmless(&path, root);
        }
    }
}
