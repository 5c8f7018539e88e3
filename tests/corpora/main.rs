//! Hostile input, file by file: archives that must be refused, and those that must not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "these are tests, helpers included")]

mod repositories;
mod third_party;
mod yaml;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use deployd::artifact::fetch::Limits;
use deployd::artifact::unpack::{UnpackError, Unpacked, unpack};

/// What the archives are judged by: small, so that bombs are found out soon.
const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_unpacked_bytes: 64 << 20, max_entries: 20_000 };

/// No archive needs more address space than this: code, stacks and the allocator's reserve included.
const MEMORY: u64 = 256 << 20;

/// Runs a test in a process of its own that gets no more memory than [`MEMORY`]; true in there.
fn bounded(test: &str) -> bool {
    if std::env::var_os("DEPLOYD_TEST_BOUNDED").is_some() {
        return true;
    }
    let mut alone = Command::new("prlimit");
    alone.arg(format!("--as={MEMORY}")).arg(std::env::current_exe().unwrap());
    alone.args(["--exact", "--nocapture", test]);
    // An arena for each thread would reserve 64 MiB of addresses each.
    alone.env("DEPLOYD_TEST_BOUNDED", "1").env("MALLOC_ARENA_MAX", "1");
    let ended = alone.output().expect("prlimit (util-linux) can be run");
    let output =
        [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ended.status.success() && output.contains("1 passed"), "{output}");
    false
}

/// A directory in memory, where there is one: what is accepted is synced thousands of times here.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

struct Case {
    file: PathBuf,
    verdict: String,
    note: String,
}

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/archives");
    let table = fs::read_to_string(directory.join("expected.tsv")).unwrap();
    let case = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        Case {
            file: directory.join(columns[0]),
            verdict: columns[1].to_string(),
            note: format!("{} ({})", columns[0], columns.last().unwrap()),
        }
    };
    table.lines().skip(1).map(case).collect()
}

/// The archive's file; what is stored compressed is decompressed first.
fn archive(case: &Case, directory: &Path) -> PathBuf {
    if case.file.exists() {
        return case.file.clone();
    }
    let compressed = PathBuf::from(format!("{}.xz", case.file.display()));
    let compressed = fs::File::open(&compressed).unwrap_or_else(|error| panic!("{}: {error}", case.note));
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(compressed).read_to_end(&mut bytes).unwrap();
    let path = directory.join("archive");
    fs::write(&path, bytes).unwrap();
    path
}

fn tried(case: &Case, directory: &Path) -> Result<Unpacked, UnpackError> {
    let archive = archive(case, directory);
    unpack(&archive, &directory.join("service/releases/release"), &LIMITS, 0, |_| Ok(()))
}

/// Everything below a directory, links not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            all.extend(below(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn archives_are_refused_without_a_trace_or_unpacked_without_harm() {
    if !bounded("archives_are_refused_without_a_trace_or_unpacked_without_harm") {
        return;
    }
    let mut wrong = Vec::new();
    let mut counts = [0; 3];
    for case in cases() {
        let directory = in_memory();
        let releases = directory.path().join("service/releases");
        fs::create_dir_all(&releases).unwrap();
        let begun = Instant::now();
        let result = tried(&case, directory.path());
        let took = begun.elapsed();
        match (&*case.verdict, &result) {
            ("accept", Err(error)) => wrong.push(format!("refused: {}: {error}", case.note)),
            ("reject", Ok(_)) => wrong.push(format!("accepted: {}", case.note)),
            _ => {}
        }
        if let Err(error) = &result
            && error.to_string().chars().any(char::is_control)
        {
            wrong.push(format!("says {error:?}: {}", case.note));
        }
        counts[usize::from(result.is_ok()) + usize::from(case.verdict == "either")] += 1;
        let left = below(&releases);
        if result.is_err() && !left.is_empty() {
            wrong.push(format!("left {left:?}: {}", case.note));
        }
        let outside: Vec<_> = below(directory.path())
            .into_iter()
            .filter(|path| !path.starts_with(&releases) && !path.ends_with("archive"))
            .filter(|path| !releases.starts_with(path))
            .collect();
        if !outside.is_empty() {
            wrong.push(format!("wrote {outside:?}: {}", case.note));
        }
        for path in left {
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let mode = metadata.permissions().mode() & 0o7777;
            let plain = kind.is_file() && (mode == 0o644 || mode == 0o755) && metadata.nlink() == 1;
            let directory = kind.is_dir() && mode == 0o755;
            if !plain && !directory && !kind.is_symlink() {
                wrong.push(format!("{} has mode {mode:o}: {}", path.display(), case.note));
            }
        }
        // Bounded, not fast: the slowest of these takes a tenth of it.
        assert!(took < Duration::from_mins(1), "{took:?}: {}", case.note);
    }
    assert!(wrong.is_empty(), "{} of {counts:?}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counts.iter().sum::<i32>() > 230);
}

/// The same files in each form, told by their content.
#[test]
fn archives_are_told_by_their_content() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in [("top/bin/run", 0o755, "#!/bin/sh\n"), ("top/data", 0o600, "data")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let plain = builder.into_inner().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    std::io::Write::write_all(&mut gz, &plain).unwrap();
    std::io::Write::write_all(&mut xz, &plain).unwrap();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, mode, content) in [("top/bin/run", 0o755, "#!/bin/sh\n"), ("top/data", 0o600, "data")] {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        zip.start_file(name, options).unwrap();
        std::io::Write::write_all(&mut zip, content.as_bytes()).unwrap();
    }
    let forms = [
        ("tar", plain.clone()),
        ("gz", gz.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zstd::encode_all(&*plain, 1).unwrap()),
        ("zip", zip.finish().unwrap().into_inner()),
    ];
    for (form, bytes) in forms {
        let directory = tempfile::tempdir().unwrap();
        // The name says nothing, or lies.
        let archive = directory.path().join("package.zip");
        fs::write(&archive, &bytes).unwrap();
        let release = directory.path().join("release");
        unpack(&archive, &release, &LIMITS, 1, |_| Ok(())).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(fs::read_to_string(release.join("bin/run")).unwrap(), "#!/bin/sh\n", "{form}");
        let mode = |name: &str| release.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bin/run"), mode("data")), (0o755, 0o644), "{form}");
        // Cut anywhere (a tar between two files, too), it is refused, and nothing is left.
        for cut in [1, 1024, bytes.len() / 2, bytes.len() - 20] {
            let cut = cut.min(bytes.len() - 1);
            if form == "tar" && cut == bytes.len() - 20 {
                continue; // some of the zeros at a tar's end may be missing
            }
            fs::write(&archive, &bytes[..cut]).unwrap();
            let other = directory.path().join("other");
            unpack(&archive, &other, &LIMITS, 0, |_| Ok(())).unwrap_err();
            assert!(!other.exists() && !directory.path().join("other.tmp").exists(), "{form} cut at {cut}");
        }
    }
}

/// Libraries quote what they can't read: that is text of an attacker's choice.
#[test]
fn what_an_archive_holds_drives_no_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("package.tar");
    for field in [100, 108, 124, 136, 148] {
        let mut header = tar::Header::new_ustar();
        header.set_path("file").unwrap();
        header.set_mode(0o644);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes[field..field + 7].copy_from_slice(b"\x1b[2J\r\n\x07");
        bytes.resize(2048, 0);
        fs::write(&archive, bytes).unwrap();
        let release = directory.path().join("release");
        let error = unpack(&archive, &release, &LIMITS, 0, |_| Ok(())).unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn what_no_attack_planned_exists_outside() {
    for path in ["/tmp/deployd-evil-abs", "/etc/cron.d/deployd-evil", "/tmp/deployd-evil-ds"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

/// What some readers of tar believe and others pass over decides nothing here.
#[test]
fn what_readers_understand_in_different_ways_is_refused() {
    type Extensions = &'static [(&'static str, &'static str)];
    let cases: [(&str, u8, Extensions, bool); 6] = [
        ("harmless", b'x', &[("comment", "1"), ("path", "other")], true),
        ("sparse", b'x', &[("GNU.sparse.major", "1"), ("GNU.sparse.name", "other")], false),
        ("said twice", b'x', &[("path", "one"), ("path", "two")], false),
        ("before 1970", b'x', &[("mtime", "-1")], false),
        ("a commit for all", b'g', &[("comment", "0123456789abcdef")], true),
        ("a path for all", b'g', &[("path", "other")], false),
    ];
    for (case, kind, extensions, accepted) in cases {
        let record = |(key, value): &(&str, &str)| {
            let rest = format!(" {key}={value}\n");
            // Two digits are enough for all of these; the length counts itself.
            format!("{}{rest}", rest.len() + 2)
        };
        let records = extensions.iter().map(record).collect::<String>();
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, content) in [(kind, records.as_str()), (b'0', "content")] {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, "file", content.as_bytes()).unwrap();
        }
        let directory = in_memory();
        let archive = directory.path().join("archive");
        fs::write(&archive, builder.into_inner().unwrap()).unwrap();
        let result = unpack(&archive, &directory.path().join("release"), &LIMITS, 0, |_| Ok(()));
        assert_eq!(result.is_ok(), accepted, "{case}: {result:?}");
    }
}

/// A zip with the empty file `name`, in whose header stand these flags and extra fields.
fn zip_of_one(flags: u16, extra: &[u8]) -> Vec<u8> {
    let field = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_le_bytes();
    let common = [&[0; 18][..], &field(b"name"), &field(extra)].concat();
    let header = [b"PK\x03\x04\x14\0".as_slice(), &flags.to_le_bytes(), &common, b"name", extra].concat();
    let entry = [b"PK\x01\x02\x14\0\x14\0\0\0", &*common, &[0; 14], b"name", extra].concat();
    let places = [entry.len(), header.len()].map(|place| u32::try_from(place).unwrap().to_le_bytes());
    [&*header, &entry, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &places.concat(), b"\0\0"].concat()
}

#[test]
fn a_file_of_a_zip_has_one_name_and_one_encryption() {
    // The checksum of `name`, with which readers tell that the other name belongs to it.
    let mut crc = flate2::Crc::new();
    crc.update(b"name");
    let unicode = |name: &[u8; 4]| [b"up\x09\0\x01", &crc.sum().to_le_bytes()[..], name].concat();
    let cases = [
        (0, Vec::new(), true),
        (0, unicode(b"name"), true),
        (0, unicode(b"eman"), false),
        (1, Vec::new(), false),
    ];
    for (flags, extra, accepted) in cases {
        let directory = in_memory();
        let archive = directory.path().join("archive");
        fs::write(&archive, zip_of_one(flags, &extra)).unwrap();
        let result = unpack(&archive, &directory.path().join("release"), &LIMITS, 0, |_| Ok(()));
        assert_eq!(result.is_ok(), accepted, "{flags} {extra:?}: {result:?}");
    }
}
