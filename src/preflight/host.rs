//! Whether this host is fit: what deployd needs of it, and who else could meddle.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{AccessFlags, Group, User, access, geteuid};

use super::{Finding, Verdict, confinement};
use crate::artifact::{free_space, hex};
use crate::catalog::{Catalog, Engine, RuntimeKind};
use crate::config::Config;
use crate::systemd::Scope;

/// Older ones don't read the one configuration that deployd gives them (GIT_CONFIG_GLOBAL).
const GIT: (u32, u32) = (2, 32);
/// Where git is looked for, here as at work.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Less than that, and soon nothing can be written down any more.
const LITTLE_SPACE: u64 = 64 << 20;
const CATALOG: &str = "catalog directory";
/// The longest path of a socket.
const LONGEST_SOCKET: usize = 107;
/// A bus that does not answer by then is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at everything.
pub fn look(config: &Config, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = systemd(config, catalog);
    findings.extend(engines(config, catalog));
    findings.push(directory("state directory", &config.state_dir));
    findings.push(socket(&config.socket));
    findings.push(catalog_files(&config.services_dir));
    findings.push(space(&config.state_dir, config.limits.max_bytes));
    let builds = catalog.services().any(|service| service.build.is_some());
    findings.push(git(version_of_git().as_deref(), builds));
    if geteuid().is_root() {
        let is_group = |name: &str| Group::from_name(name).ok().flatten().is_some();
        let is_user = |name: &str| User::from_name(name).ok().flatten().is_some();
        let own_builds = catalog.services().filter_map(|service| service.build.as_ref());
        let own_builds = own_builds.filter(|build| build.user.is_none()).count() > 0;
        findings.extend(groups(config, is_group));
        findings.push(build_user(own_builds, is_user));
        if let Some(Scope::System) = config.systemd {
            findings.extend(confinement::look(catalog));
        }
    }
    findings
}

// --- systemd ------------------------------------------------------------------------------------------------

fn systemd(config: &Config, catalog: &Catalog) -> Vec<Finding> {
    let Some(scope) = &config.systemd else {
        return vec![Finding::ok("systemd", "not running here; containers are plain processes")];
    };
    let version = printed(Command::new("systemctl").arg("--version"));
    let version = version.as_deref().and_then(|text| text.lines().next()).unwrap_or("running").to_string();
    let (path, needed) =
        (scope.bus_socket(), catalog.services().any(|service| service.runtime == RuntimeKind::Systemd));
    let bus = match greet(&path) {
        Ok(()) => Finding::ok("D-Bus", format!("answers at {}", path.display())),
        Err(why) => {
            let text = format!("cannot reach {}: {why}; is the package dbus installed?", path.display());
            if needed { Finding::fail("D-Bus", text) } else { Finding::warn("D-Bus", text) }
        }
    };
    vec![Finding::ok("systemd", version), bus]
}

/// Engines matter only to a catalog that has services for them.
fn engines(config: &Config, catalog: &Catalog) -> Vec<Finding> {
    let used = |engine| catalog.services().any(|service| service.runtime == RuntimeKind::Engine(engine));
    let look = |engine: Engine| {
        let (name, path) = (engine.name(), config.engine(engine));
        match UnixStream::connect(path) {
            Ok(_) => Finding::ok(name, format!("listens at {}", path.display())),
            Err(why) => Finding::fail(
                name,
                format!(
                    "cannot reach {}: {why}; start it (systemctl enable --now {name}.socket), or name its \
                     socket in the configuration (engines.{name})",
                    path.display()
                ),
            ),
        }
    };
    Engine::ALL.into_iter().filter(|engine| used(*engine)).map(look).collect()
}

/// Whether a bus lets us in: the first lines of its protocol.
fn greet(path: &Path) -> Result<(), String> {
    let mut answer = [0; 3];
    let mut stream = UnixStream::connect(path).map_err(|error| error.to_string())?;
    let id = hex(geteuid().to_string().as_bytes());
    let talk = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(format!("\0AUTH EXTERNAL {id}\r\n").as_bytes()))
        .and_then(|()| stream.read_exact(&mut answer));
    talk.map_err(|error| error.to_string())?;
    if &answer == b"OK " { Ok(()) } else { Err("it does not let this user in".into()) }
}

// --- Files --------------------------------------------------------------------------------------------------

fn directory(subject: &str, path: &Path) -> Finding {
    let shown = path.display();
    if !path.exists() {
        let above = path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("/"));
        return if access(above, AccessFlags::W_OK).is_ok() {
            Finding::ok(subject, format!("{shown} will be made at the first start"))
        } else {
            let text = format!("cannot make {shown}: {} can't be written to by this user", above.display());
            Finding::fail(subject, format!("{text}; run this as the daemon's user"))
        };
    }
    if !path.is_dir() {
        return Finding::fail(subject, format!("{shown} is no directory; move it away"));
    }
    if access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Finding::fail(
            subject,
            format!("{shown} can't be written to by this user; run this as the daemon's"),
        );
    }
    others_can_write(subject, path)
}

/// The catalog's directory, and what lies in it.
fn catalog_files(directory: &Path) -> Finding {
    let found = others_can_write(CATALOG, directory);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.exists());
    let files = paths.map(|path| others_can_write(CATALOG, &path));
    std::iter::once(found.clone()).chain(files).find(|found| found.verdict != Verdict::Ok).unwrap_or(found)
}

/// Who can write there decides what the daemon does: that should be root and its own user alone.
fn others_can_write(subject: &str, path: &Path) -> Finding {
    const ANYBODY: u32 = 0o002;
    const ONLY_OWN: u32 = 0o1000;
    let shown = path.display();
    let Ok(status) = fs::metadata(path) else {
        return Finding::warn(subject, format!("there is no {shown}; make it: mkdir -p {shown}"));
    };
    let (mode, owner) = (status.mode(), status.uid());
    if mode & ANYBODY != 0 && mode & ONLY_OWN != 0 {
        Finding::warn(subject, format!("anybody can make files in {shown}; use a directory of its own"))
    } else if mode & ANYBODY != 0 {
        let text = format!("anybody can write to {shown}, and so decide what deployd does");
        Finding::fail(subject, format!("{text}; chmod o-w {shown}"))
    } else if owner != 0 && owner != geteuid().as_raw() {
        let text = format!("{shown} is the user's with the id {owner}, who so decides what deployd does");
        Finding::warn(subject, format!("{text}; chown it to the daemon's user, unless that is meant"))
    } else {
        Finding::ok(subject, shown.to_string())
    }
}

fn socket(path: &Path) -> Finding {
    const SUBJECT: &str = "socket";
    let shown = path.display();
    if path.as_os_str().len() > LONGEST_SOCKET {
        let text = format!("{shown} is longer than the {LONGEST_SOCKET} bytes that the kernel takes");
        return Finding::fail(SUBJECT, format!("{text}; set `socket` in the configuration"));
    }
    match fs::symlink_metadata(path) {
        Ok(status) if !status.file_type().is_socket() => {
            return Finding::fail(SUBJECT, format!("{shown} is no socket; move it away"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Finding::ok(SUBJECT, format!("a daemon serves {shown}"));
        }
        _ => {}
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let found = directory(SUBJECT, parent);
    if found.verdict == Verdict::Ok { Finding::ok(SUBJECT, shown.to_string()) } else { found }
}

fn space(path: &Path, largest: u64) -> Finding {
    const SUBJECT: &str = "free disk";
    let there = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    match free_space(there) {
        Ok(free) => enough(free, largest, there),
        Err(error) => Finding::warn(SUBJECT, format!("cannot say for {}: {error}", there.display())),
    }
}

fn enough(free: u64, largest: u64, path: &Path) -> Finding {
    const SUBJECT: &str = "free disk";
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let there = format!("{} below {}", mib(free), path.display());
    if free < LITTLE_SPACE {
        Finding::fail(SUBJECT, format!("only {there}; make room"))
    } else if free < largest {
        let text = format!("{there}: less than a package may have, {} (packages.maxBytes)", mib(largest));
        Finding::warn(SUBJECT, format!("{text}; make room, or lower it"))
    } else {
        Finding::ok(SUBJECT, there)
    }
}

// --- Programs and people ------------------------------------------------------------------------------------

pub fn printed(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn version_of_git() -> Option<String> {
    printed(Command::new("git").env("PATH", PATH).arg("--version"))
}

fn git(said: Option<&str>, builds: bool) -> Finding {
    let bad = |text: String| if builds { Finding::fail("git", text) } else { Finding::warn("git", text) };
    let Some(said) = said else {
        return bad(format!(
            "not found in {PATH}; COMPILE_DEPLOY and built-in repositories need it: install git"
        ));
    };
    let version = said.trim().trim_start_matches("git version ");
    let mut numbers = version.split(['.', '-', ' ']).map_while(|number| number.parse::<u32>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) < GIT {
        return bad(format!("version {version} is too old; deployd needs {}.{}", GIT.0, GIT.1));
    }
    Finding::ok("git", version)
}

fn groups(config: &Config, is_group: impl Fn(&str) -> bool) -> Vec<Finding> {
    const SOCKET: &str = "deployd";
    let mut names: Vec<&str> = vec![SOCKET];
    names.extend(config.operators.iter().chain(&config.viewers).map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let found = |name: &str| match (is_group(name), name) {
        (true, _) => Finding::ok(format!("group {name}"), "there"),
        (false, SOCKET) => {
            let text = "not there: nobody but root can use the socket";
            Finding::warn("group deployd", format!("{text}; groupadd --system deployd"))
        }
        (false, _) => {
            let text = format!("named in `access`, but not there; groupadd {name}, or leave it out");
            Finding::warn(format!("group {name}"), text)
        }
    };
    names.into_iter().map(found).collect()
}

fn build_user(needed: bool, is_user: impl Fn(&str) -> bool) -> Finding {
    const SUBJECT: &str = "user deployd-build";
    let make = "useradd --system deployd-build";
    if is_user("deployd-build") {
        Finding::ok(SUBJECT, "there")
    } else if is_user("nobody") {
        Finding::warn(SUBJECT, format!("not there: builds run as nobody, as other programs may; {make}"))
    } else if needed {
        Finding::fail(SUBJECT, format!("not there, nor is nobody: nothing can be built; {make}"))
    } else {
        Finding::warn(SUBJECT, format!("not there, nor is nobody; before something is built: {make}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn nobody_else_may_write_there() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(super::directory("state", directory.path()).verdict, Verdict::Ok);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let found = super::directory("state", directory.path());
        assert!(found.verdict == Verdict::Fail && found.text.contains("anybody"), "{found}");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(super::directory("state", directory.path()).verdict, Verdict::Warn);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = directory.path().join("web.yaml");
        fs::File::create(&file).unwrap();
        assert_eq!(catalog_files(directory.path()).verdict, Verdict::Ok);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let found = catalog_files(directory.path());
        assert!(found.verdict == Verdict::Fail && found.text.contains("web.yaml"), "{found}");
        if geteuid().is_root() {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
            assert_eq!(catalog_files(directory.path()).verdict, Verdict::Warn);
        }
    }

    #[test]
    fn a_directory_may_be_missing_and_nothing_else_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(super::directory("state", &directory.path().join("a/b")).verdict, Verdict::Ok);
        let file = directory.path().join("file");
        fs::File::create(&file).unwrap();
        assert!(super::directory("state", &file).text.contains("is no directory"));
        assert!(socket(&file).text.contains("is no socket"));
        assert!(socket(&directory.path().join("s".repeat(200))).text.contains("longer than"));
        let live = directory.path().join("live");
        let listener = UnixListener::bind(&live).unwrap();
        assert!(socket(&live).text.contains("a daemon serves"));
        drop(listener);
        assert_eq!(socket(&live).verdict, Verdict::Ok, "what a killed daemon left is replaced");
    }

    #[test]
    fn space_is_compared_with_the_largest_package() {
        let verdict = |free| enough(free, 4 << 30, Path::new("/")).verdict;
        assert_eq!([10 << 20, 1 << 30, 5 << 30].map(verdict), [Verdict::Fail, Verdict::Warn, Verdict::Ok]);
    }

    #[test]
    fn git_has_to_be_new_enough_where_something_is_built() {
        assert_eq!(git(Some("git version 2.39.5\n"), true), Finding::ok("git", "2.39.5"));
        assert_eq!(git(Some("git version 2.50.1 (Apple Git-155)"), true).verdict, Verdict::Ok);
        assert_eq!(git(Some("git version 2.32.0-rc1"), true).verdict, Verdict::Ok);
        assert_eq!(git(Some("git version 2.31.8"), true).verdict, Verdict::Fail);
        assert_eq!(git(Some("nonsense"), false).verdict, Verdict::Warn);
        assert_eq!(git(None, true).verdict, Verdict::Fail);
    }

    #[test]
    fn groups_and_users_are_looked_up() {
        let mut config = Config::of_system(std::path::PathBuf::new());
        config.viewers = vec!["dev".into()];
        let found = groups(&config, |name| name == "dev");
        assert_eq!(found[0].verdict, Verdict::Warn);
        assert_eq!(found[1], Finding::ok("group dev", "there"));
        assert_eq!(found.len(), 2);
        assert_eq!(build_user(true, |_| false).verdict, Verdict::Fail);
        assert_eq!(build_user(true, |name| name == "nobody").verdict, Verdict::Warn);
        assert_eq!(build_user(true, |_| true).verdict, Verdict::Ok);
    }

    #[test]
    fn a_bus_is_greeted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        assert!(greet(&path).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        for (answer, lets_in) in [("OK 1234\r\n", true), ("REJECTED EXTERNAL\r\n", false)] {
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| greet(&path));
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 14];
                stream.read_exact(&mut head).unwrap();
                assert_eq!(&head, b"\0AUTH EXTERNAL");
                stream.write_all(answer.as_bytes()).unwrap();
                assert_eq!(asked.join().unwrap().is_ok(), lets_in);
            });
        }
    }
}
