//! What a transient unit is told: its command, its limits, its box.

use std::path::Path;

use zbus::Variant;

use super::notes::Notes;
use super::{PATIENCE, description};
use crate::spawn::command::{Command, Identity, Sandbox};
use crate::systemd::Scope;

/// A property and its value.
pub type Property = (&'static str, Variant<'static>);

/// All properties of a command's unit.
pub fn of(command: &Command, identity: &Identity, notes: &Notes, scope: &Scope) -> Vec<Property> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let output = text(&notes.path("out"));
    let mut all: Vec<Property> = vec![
        ("Description", description(identity).into()),
        // Its start has ended well when its program is executed.
        ("Type", "exec".into()),
        // Nothing is left of it but its note.
        ("CollectMode", "inactive-or-failed".into()),
        ("WorkingDirectory", text(&command.directory).into()),
        // Not `Environment`, which everybody may ask systemd for.
        ("EnvironmentFiles", Variant::from(vec![(text(&notes.path("env")), false)])),
        ("ExecStartEx", Variant::from(vec![execute(command)])),
        ("ExecStopPostEx", Variant::from(vec![note_end(notes)])),
        ("StandardOutputFileToAppend", output.clone().into()),
        ("StandardErrorFileToAppend", output.into()),
        ("RuntimeMaxUSec", micros(command.timeout).into()),
        ("TimeoutStopUSec", micros(PATIENCE).into()),
        ("UMask", 0o022_u32.into()),
    ];
    if !identity.service.is_empty() {
        // Everything of a service can be seen, and limited, in one place.
        all.push(("Slice", format!("deployd-{}.slice", identity.service.replace('-', "\\x2d")).into()));
    }
    if let (Scope::System, Some(user)) = (scope, &command.user) {
        all.push(("User", user.clone().into()));
    }
    limits(command, &mut all);
    match (&command.sandbox, scope) {
        (Sandbox::Open, _) => {}
        (Sandbox::Closed { directory, network }, Scope::System) => {
            closed(&text(directory), *network, &mut all);
        }
        // A user's systemd can make no namespaces: what remains is what the kernel lets everybody give up.
        (Sandbox::Closed { network, .. }, Scope::User(_)) => given_up(*network, &mut all),
    }
    all
}

type Exec = (String, Vec<String>, Vec<String>);

fn execute(command: &Command) -> Exec {
    let name = command.argv.first().map(String::as_str).unwrap_or_default();
    let path = command.environment.get("PATH").map(String::as_str);
    let program = program(name, path, &command.directory);
    (program, command.argv.clone(), vec!["no-env-expand".into()])
}

/// The last thing that a unit does, whatever its program may not do.
fn note_end(notes: &Notes) -> Exec {
    let path = notes.path("end").to_string_lossy().replace('$', "$$");
    let argv = ["ln", "-sfn", &notes.says(), &path].map(str::to_string).to_vec();
    ("/bin/ln".into(), argv, vec!["privileged".into()])
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn limits(command: &Command, all: &mut Vec<Property>) {
    let limits = &command.limits;
    if let Some(bytes) = limits.memory_max {
        all.push(("MemoryMax", bytes.into()));
    }
    if let Some(percent) = limits.cpu_quota {
        all.push(("CPUQuotaPerSecUSec", (u64::from(percent) * 10_000).into()));
    }
    if let Some(tasks) = limits.tasks_max {
        all.push(("TasksMax", tasks.into()));
    }
    if let Some(files) = limits.open_files {
        all.push(("LimitNOFILE", files.into()));
        all.push(("LimitNOFILESoft", files.into()));
    }
}

/// What is taken from every closed command.
fn given_up(network: bool, all: &mut Vec<Property>) {
    for key in ["NoNewPrivileges", "LockPersonality", "RestrictRealtime", "RestrictSUIDSGID"] {
        all.push((key, true.into()));
    }
    let families: &[&str] =
        if network { &["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"] } else { &["AF_UNIX"] };
    all.push(("RestrictAddressFamilies", (true, words(families)).into()));
    all.push(("SystemCallArchitectures", words(&["native"]).into()));
}

/// Nothing of the host but to read it, nothing of its network unless that is wanted, no privileges.
fn closed(directory: &str, network: bool, all: &mut Vec<Property>) {
    const YES: [&str; 10] = [
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "RemoveIPC",
    ];
    // Loopback is there in its own network, and other machines are not.
    given_up(network, all);
    if !network {
        all.retain(|property| property.0 != "RestrictAddressFamilies");
        let families = words(&["AF_UNIX", "AF_INET", "AF_INET6"]);
        all.push(("RestrictAddressFamilies", (true, families).into()));
    }
    all.extend(YES.map(|key| (key, true.into())));
    all.push(("PrivateNetwork", (!network).into()));
    all.push(("PrivateUsers", true.into()));
    all.push(("ProtectSystem", "strict".into()));
    all.push(("ProtectHome", "tmpfs".into()));
    all.push(("ProtectProc", "invisible".into()));
    // Bound, so that it is there wherever it lies, even where everything else is hidden.
    all.push(("ReadWritePaths", words(&[directory]).into()));
    let bind = (directory.to_string(), directory.to_string(), false, 0_u64);
    all.push(("BindPaths", Variant::from(vec![bind])));
    all.push(("CapabilityBoundingSet", 0_u64.into()));
    all.push(("AmbientCapabilities", 0_u64.into()));
    all.push(("KeyringMode", "private".into()));
    // No namespace may be made.
    all.push(("RestrictNamespaces", 0_u64.into()));
    all.push(("SystemCallFilter", (true, words(&["@system-service"])).into()));
    all.push(("SystemCallErrorNumber", nix::libc::EPERM.into()));
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_string()).collect()
}

/// As execvp would look it up; systemd has a path of its own and wants absolute names.
pub fn program(name: &str, path: Option<&str>, work: &Path) -> String {
    if name.starts_with('/') {
        return name.to_string();
    }
    if name.contains('/') {
        let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
        return parts.fold(work.to_path_buf(), |path, part| path.join(part)).to_string_lossy().into_owned();
    }
    let directories = path.unwrap_or_default().split(':').filter(|directory| directory.starts_with('/'));
    let found =
        directories.map(|directory| format!("{directory}/{name}")).find(|file| Path::new(file).is_file());
    found.unwrap_or_else(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_execvp_would() {
        let work = Path::new("/srv/current");
        assert_eq!(program("/bin/x", None, work), "/bin/x");
        assert_eq!(program("./bin//x", None, work), "/srv/current/bin/x");
        assert_eq!(program("sh", Some("/nowhere:/bin"), work), "/bin/sh");
        assert_eq!(program("no-such-program", Some("/bin"), work), "no-such-program");
    }
}
