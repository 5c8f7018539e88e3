//! The Debian package: installed, upgraded in the middle of a release, removed, purged.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{deployctl, skip};
use crate::machine::Machine;

/// Up when a file is there: a task that starts it is under way until then.
const GATED: &str = "serviceId: 1\nname: gated\nruntime: process\ncontainers: [{ name: gated-1 }]\n\
    run: { command: [/bin/sleep, '1000'], user: root }\n\
    health: { command: [/bin/sh, -c, 'test -e /run/open'], interval: 50ms, timeout: 60s, settle: 0s }\n";

/// A unit that deployd writes.
const WRITTEN: &str = "serviceId: 2\nname: written\nruntime: systemd\ncontainers: [{ name: written-1 }]\n\
    run: { command: [/bin/sleep, '2000'], user: root }\nhealth: { settle: 0s }\n";

/// The package with this version, made of the binaries that cargo has built for the tests; `None`: it
/// can't be made here.
fn package(version: &str, output: &Path) -> Option<PathBuf> {
    for tool in ["cargo-deb", "dpkg-deb", "lintian"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip(&format!("the Debian package needs {tool}"));
            return None;
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(root.join("systemd/debian/build"))
        .arg("--binaries")
        .arg(deployctl().parent().unwrap())
        .args(["--version", version, "--output"])
        .arg(output)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()))
}

fn install(machine: &Machine, package: &Path) -> String {
    machine.put(package, "/root/deployd.deb");
    machine.sh("dpkg -i /root/deployd.deb 2>&1")
}

#[test]
fn a_package_is_installed_upgraded_removed_and_purged() {
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = package("0.1.0-1", directory.path()) else { return };
    let second = package("0.1.0-2", directory.path()).unwrap();
    let Some(machine) = Machine::boot("package") else { return };
    install(&machine, &first);
    assert_eq!(machine.sh("systemctl is-enabled deployd.service deployd.socket"), "enabled\nenabled\n");
    machine.sh("systemctl is-active deployd.service deployd.socket && deployctl list");
    let fit = machine.sh("deployd check");
    let here = |line: &str| assert!(fit.lines().any(|said| said.starts_with(line)), "{line}\n{fit}");
    here("ok    systemd: systemd ");
    here("ok    D-Bus: answers at ");
    here("ok    user deployd-build: there");
    assert!(!fit.contains("fail"), "{fit}");
    assert_eq!(machine.sh("stat -c '%a %U %G' /run/deployd/deployd.sock"), "660 root deployd\n");

    // An upgrade in the middle of a release.
    machine.loosen();
    machine.write("/etc/deployd/services.d/gated.yaml", GATED);
    machine.write("/etc/deployd/services.d/written.yaml", WRITTEN);
    // (An administrator's own configuration, which the upgrade leaves as it is; the operation does not end.)
    machine.sh("echo 'shutdownGrace: 1s' >>/etc/deployd/deployd.yaml; systemctl restart deployd");
    let plan = "deployPlanItems:\n- { serviceId: 2, priority: 1, deployment: START }\n\
                - { serviceId: 1, deployment: START }\n";
    let task = machine.execute("start", plan);
    let pids = machine.until("test $(pgrep -cx sleep) = 2 && pgrep -x sleep");
    let (daemon, inode) = (machine.property("deployd", "MainPID"), "stat -c %i /run/deployd/deployd.sock");
    let socket = machine.sh(inode);
    install(&machine, &second);
    assert_eq!(machine.sh("dpkg-query -W -f '${Version}' deployd"), "0.1.0-2");
    assert_ne!(machine.property("deployd", "MainPID"), daemon);
    assert_eq!(machine.json(&format!("status {task}"))["state"], "INTERRUPTED");
    let untouched = |machine: &Machine| assert_eq!(machine.sh("pgrep -x sleep"), pids);
    untouched(&machine);
    assert_eq!(machine.sh(inode), socket);
    machine.sh("grep -qx 'shutdownGrace: 1s' /etc/deployd/deployd.yaml; touch /run/open");
    machine.sh(&format!("deployctl resume {task} --wait"));
    untouched(&machine);

    // What was stopped by hand is not started by an upgrade.
    machine.sh("systemctl stop deployd.socket deployd.service; dpkg -i /root/deployd.deb");
    assert_eq!(machine.property("deployd", "ActiveState"), "inactive");

    let files = machine.sh("for f in $(dpkg -L deployd); do test -d $f || echo $f; done");
    machine.sh("systemctl start deployd.service deployd.socket");
    let said = machine.sh("dpkg -r deployd 2>&1");
    let left_alone = |said: &str| {
        for container in
            ["service gated container gated-1 (pid ", "service written container written-1 (pid "]
        {
            assert!(said.contains(&format!("still running, and left alone: {container}")), "{said}");
        }
    };
    left_alone(&said);
    assert_eq!(machine.property("deployd.service", "ActiveState"), "inactive");
    untouched(&machine);
    machine.sh("test -s /var/lib/deployd/deployd.redb && test -s /etc/deployd/deployd.yaml");

    left_alone(&machine.sh("dpkg -P deployd 2>&1"));
    untouched(&machine);
    for file in files.lines() {
        machine.sh_ends(1, &format!("test -e {file}"));
    }
    // (What systemd itself keeps of a unit that runs is not ours.)
    let left = machine.sh(
        "find /etc /var/lib /var/log /run /usr/lib/systemd -name '*deployd*' -not -path '/run/systemd/*' || :",
    );
    assert_eq!(left, "", "left by the purge");
}

#[test]
fn lintian_finds_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let Some(package) = package("0.1.0-1", directory.path()) else { return };
    let output =
        Command::new("lintian").args(["--allow-root", "--fail-on", "error"]).arg(&package).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let content = Command::new("dpkg-deb").arg("-c").arg(&package).output().unwrap();
    let content = String::from_utf8(content.stdout).unwrap();
    for file in [
        "/usr/share/man/man8/deployd.8.gz",
        "/usr/share/man/man1/deployctl.1.gz",
        "/usr/share/man/man1/deployctl-plan-check.1.gz",
        "/usr/share/bash-completion/completions/deployctl",
        "/usr/share/zsh/vendor-completions/_deployctl",
        "/usr/share/fish/vendor_completions.d/deployctl.fish",
        "/usr/lib/sysusers.d/deployd.conf",
        "/usr/share/doc/deployd/copyright",
    ] {
        assert!(content.lines().any(|line| line.ends_with(file)), "{file} is missing\n{content}");
    }
}
