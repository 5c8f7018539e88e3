//! A service that exchanges whatever it may write for a symbolic link, all the time, while root's daemon releases it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::Identity;
use crate::harness::{Daemon, is_root, items, skip};
use crate::stage::below;

/// How often the service is released meanwhile.
const RELEASES: usize = 30;
/// What the catalog wants to be shared later, and what is said where that is a link.
const WANTED: [(&str, &str); 2] = [
    ("uploads/deep/inner", "the service has put that there"),
    ("data, way/in", "the package holds it, too, or a link on the way"),
];
/// What is not the service's to exchange.
const NOT_ITS_OWN: [&str; 7] = [
    "shared",
    "shared/uploads",
    "releases",
    "containers",
    "containers/c1",
    "containers/c1/current",
    "containers/c1/output.log",
];

/// As whom the service runs: somebody whose processes no other test ends.
fn service_itself() -> Identity {
    let user = nix::unistd::User::from_name("bin").unwrap().expect("there is a user bin");
    Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups: &[] }
}

/// A package of its own for each number, with a link to where the service writes.
fn package(daemon: &Daemon, number: usize) -> String {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(8);
    header.set_mode(0o644);
    builder.append_data(&mut header, "number", &*format!("{number:8}").into_bytes()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "way", "data/way").unwrap();
    fs::write(daemon.path(&format!("{number}.tar")), builder.into_inner().unwrap()).unwrap();
    let uri = daemon.path(&format!("{number}.tar"));
    items(&[(1, 0, "HTTP_UPLOAD_DEPLOY", &format!(", httpSrcUri: 'file://{}'", uri.display()))])
}

/// The service, whose shared directories are these.
fn share(daemon: &Daemon, paths: &str) {
    let run = "run:\n  command: [/bin/sleep, '1000']\n  user: bin\n  stopTimeout: 1s\n";
    let more = format!("health: {{ settle: 0s }}\nsharedPaths: [{paths}]\nreleases: {{ keep: 2 }}");
    daemon.add_running(1, &[("c1", "")], run, &more);
}

/// A path with mode, owner, group, when it was changed, and content.
type Seen = (PathBuf, u32, u32, u32, i64, Option<Vec<u8>>);

/// All that could be changed of what lies outside.
fn look(directory: &Path) -> Vec<Seen> {
    let mut all = below(directory);
    all.push(directory.into());
    let look = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let when = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
        let content = fs::read(&path).ok();
        (path, meta.mode(), meta.uid(), meta.gid(), when, content)
    };
    all.into_iter().map(look).collect()
}

/// What the service does: each of these places is a directory, a link to the outside, and gone, in turn.
fn exchange(service: &Path, outside: &Path, is_over: &AtomicBool) {
    let places = ["shared/uploads/deep", "shared/uploads/deep/inner", "shared/data/way"]
        .map(|place| service.join(place));
    while !is_over.load(Ordering::Relaxed) {
        for place in &places {
            let aside = place.with_extension("aside");
            fs::rename(place, &aside).ok();
            symlink(outside, place).ok();
            fs::remove_file(place).ok();
            fs::create_dir(place).ok();
            fs::set_permissions(place, fs::Permissions::from_mode(0o777)).ok();
            fs::remove_dir_all(&aside).ok();
        }
    }
}

#[test]
fn a_service_that_exchanges_its_directories_for_links_leads_root_nowhere() {
    if !is_root() {
        return skip("a service of another user's needs root");
    }
    let mut daemon = Daemon::new();
    daemon.write(
        "deployd.yaml",
        &format!("packages: {{ allowedUris: ['file://{}'] }}\n", daemon.path("").display()),
    );
    let outside = daemon.path("outside");
    fs::create_dir_all(outside.join("inner")).unwrap();
    daemon.write("outside/inner/file", "root's");
    fs::set_permissions(outside.join("inner"), fs::Permissions::from_mode(0o700)).unwrap();
    share(&daemon, "uploads, data, disk");
    let service = daemon.path("state/services/s1");
    // A link of root's own is another matter.
    let disk = daemon.path("disk");
    for directory in [&disk, &service.join("shared")] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(&disk, service.join("shared/disk")).unwrap();
    daemon.launch();
    daemon.executed("first", &package(&daemon, 0), "SUCCEEDED");
    assert_eq!(service.join("containers/c1/current/disk").canonicalize().unwrap(), disk);
    assert_eq!(disk.metadata().unwrap().uid(), 0);
    let before = look(&outside);

    // Links that were there before, on the way to what a changed catalog wants; `way` is one of the package's.
    service_itself().does(|| {
        for place in ["shared/uploads/deep", "shared/data/way"] {
            symlink(&outside, service.join(place)).unwrap();
        }
    });
    for (number, (paths, says)) in WANTED.into_iter().enumerate() {
        share(&daemon, paths);
        assert_eq!(daemon.call("POST", "/v1/services/reload", "").0, 200);
        let task = daemon.executed("linked", &package(&daemon, number + 1), "FAILED");
        let error = daemon.report(task)["deployments"][0]["error"].to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(look(&outside), before, "{paths}");
    }

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| service_itself().does(|| exchange(&service, &outside, &is_over)));
        for number in 3..RELEASES + 3 {
            share(&daemon, WANTED[number % 2].0);
            assert_eq!(daemon.call("POST", "/v1/services/reload", "").0, 200);
            let task = daemon.execute("raced", &package(&daemon, number));
            daemon.until(task, |event| {
                ["SUCCEEDED", "FAILED"]
                    .iter()
                    .any(|end| event["state"] == *end && event["type"].as_str().unwrap().starts_with("task."))
            });
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(look(&outside), before);
    service_itself().does(|| {
        for path in NOT_ITS_OWN.map(|path| service.join(path)) {
            assert!(fs::rename(&path, path.with_extension("aside")).is_err(), "{}", path.display());
        }
    });
}
