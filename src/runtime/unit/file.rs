//! The files of a generated unit: what systemd is told, and the environment, which only root may read.
//!
//! Whatever changes with each operation stands in the environment, so that systemd need not read its
//! units anew for each start. A user's additions go into drop-ins (`systemctl edit`), which are left alone.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::mark::{self, remove_file};
use crate::crashpoint::point;
use crate::runtime::StartSpec;
use crate::systemd::Scope;
use crate::systemd::transient::program;

/// What makes a unit run in the release of a container.
pub struct Place<'a> {
    /// Of which systemd.
    pub scope: &'a Scope,
    /// The container's directory.
    pub directory: &'a Path,
    /// What outlives the service's releases.
    pub shared: PathBuf,
}

/// The unit file of a container.
pub fn unit(spec: &StartSpec, place: &Place<'_>) -> String {
    let (service, container) = (&spec.container.service, &spec.container.container);
    let directory = place.directory;
    let mut text = format!(
        "# Written by deployd, which overwrites it. For changes of your own: systemctl edit\n\
         [Unit]\nDescription={service}: container {container}, released by deployd\n\
         After=network.target\nStartLimitIntervalSec=0\nX-Deployd-Container={}\n\n[Service]\n",
        plain(&directory.to_string_lossy())
    );
    let mut set = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    set("Type", "exec");
    set("Slice", &format!("deployd-{}.slice", service.replace('-', "\\x2d")));
    if let (Scope::System, Some(user)) = (place.scope, &spec.user) {
        set("User", &plain(user));
    }
    let work = if spec.release.is_some() { directory.join("current") } else { directory.to_path_buf() };
    set("WorkingDirectory", &plain(&work.to_string_lossy()));
    set("EnvironmentFile", &plain(&directory.join("unit.env").to_string_lossy()));
    // The mark, before the program's first instruction; `+`: whatever the program itself may not do.
    let mark = word(&directory.join(mark::NAME).to_string_lossy()).replace('$', "$$");
    let says = "${DEPLOYD_OPERATION} %b ${INVOCATION_ID} ${DEPLOYD_RELEASE}";
    set("ExecStartPre", &format!("+/bin/ln -sfn \"{says}\" {mark}"));
    set("ExecStart", &command(spec, &work));
    let log = plain(&directory.join("output.log").to_string_lossy());
    set("StandardOutput", &format!("append:{log}"));
    set("StandardError", &format!("append:{log}"));
    set("Restart", "on-failure");
    set("RestartSec", "1");
    set("KillSignal", &spec.stop_signal);
    // Zero would be for ever.
    set("TimeoutStopSec", &format!("{}ms", spec.stop_timeout.as_millis().max(1)));
    limits(spec, &mut set);
    if *place.scope == Scope::System {
        sandbox(spec, place, &mut set);
    }
    let target = place.scope.target();
    let _ = write!(text, "\n[Install]\nWantedBy={target}\n");
    text
}

/// The directory of the container whose unit this is; `None`: we have not written it.
pub fn owner(text: &str) -> Option<String> {
    let owner = text.lines().find_map(|line| line.strip_prefix("X-Deployd-Container="))?;
    Some(owner.replace("%%", "%"))
}

fn command(spec: &StartSpec, work: &Path) -> String {
    // `@`: the program's own name for itself stays what the catalog says; `:`: nothing is expanded any more.
    let program = program(&spec.argv[0], spec.environment.get("PATH").map(String::as_str), work);
    let words: Vec<String> = spec.argv.iter().map(|part| word(part)).collect();
    format!(":@{} {}", word(&program), words.join(" "))
}

fn limits(spec: &StartSpec, set: &mut impl FnMut(&str, &str)) {
    let limits = &spec.limits;
    if let Some(bytes) = limits.memory_max {
        set("MemoryMax", &bytes.to_string());
    }
    if let Some(percent) = limits.cpu_quota {
        set("CPUQuota", &format!("{percent}%"));
    }
    if let Some(tasks) = limits.tasks_max {
        set("TasksMax", &tasks.to_string());
    }
    if let Some(files) = limits.open_files {
        set("LimitNOFILE", &files.to_string());
    }
}

/// What a service seldom needs, and an intruder does. A drop-in loosens it.
fn sandbox(spec: &StartSpec, place: &Place<'_>, set: &mut impl FnMut(&str, &str)) {
    const YES: [&str; 14] = [
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "LockPersonality",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
    ];
    for key in YES {
        set(key, "yes");
    }
    set("ProtectSystem", "strict");
    set("ReadWritePaths", &format!("-{}", word(&place.shared.to_string_lossy())));
    set("ReadWritePaths", &format!("-{}", word(&place.directory.to_string_lossy())));
    set("ProtectProc", "invisible");
    set("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK");
    set("SystemCallArchitectures", "native");
    if spec.user.as_deref().is_some_and(|user| user != "root") {
        set("CapabilityBoundingSet", "");
    }
}

/// A value that stands alone on its line.
fn plain(text: &str) -> String {
    text.replace('%', "%%").replace(['\n', '\r'], "")
}

/// A word of a command line: quoted, without specifiers.
fn word(text: &str) -> String {
    let mut word = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                word.push('\\');
                word.push(character);
            }
            '%' => word.push_str("%%"),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(word, "\\x{byte:02x}");
                }
            }
            other => word.push(other),
        }
    }
    word.push('"');
    word
}

/// Writes a file in one piece, durably. False: it was so already.
pub fn write(path: &Path, text: &str, mode: u32) -> io::Result<bool> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    let Some(directory) = path.parent() else { return Err(io::ErrorKind::InvalidFilename.into()) };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".deployd-tmp");
    let temporary = directory.join(name);
    remove_file(&temporary)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    point("before a unit is written");
    fs::rename(&temporary, path)?;
    point("after a unit was written");
    File::open(directory)?.sync_all()?;
    Ok(true)
}

/// Where the units are named that are started with the machine.
pub fn wants(scope: &Scope) -> PathBuf {
    scope.unit_directory().join(format!("{}.wants", scope.target()))
}

/// Lets a unit be started with the machine.
pub fn enable(scope: &Scope, unit: &str) -> io::Result<()> {
    let wants = wants(scope);
    if !wants.exists() {
        fs::create_dir_all(&wants)?;
        File::open(scope.unit_directory())?.sync_all()?;
    }
    match std::os::unix::fs::symlink(scope.unit_directory().join(unit), wants.join(unit)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(&wants)?.sync_all(),
    }
}

/// What was stopped stays stopped when the machine starts.
pub fn disable(scope: &Scope, unit: &str) -> io::Result<()> {
    point("before a unit is disabled");
    let wants = wants(scope);
    match fs::remove_file(wants.join(unit)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(&wants)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_not_leave_their_place() {
        assert_eq!(word("a \"b\" %n\n[Service]"), "\"a \\\"b\\\" %%n\\x0a[Service]\"");
        assert_eq!(plain("a%b\nExecStart=x"), "a%%bExecStart=x");
    }
}
