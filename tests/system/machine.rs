//! A throw-away machine with a real systemd, and deployd in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::harness::{PATIENCE, deployctl, skip};

/// Where the machine finds what cargo has built. (`/usr/bin/deployd` links there, so that a package can replace it.)
const BUILD: &str = "/opt/deployd-build";

/// A booted machine; dropping it powers it off, and so does the end of the tests.
pub struct Machine {
    name: String,
}

impl Machine {
    /// Boots a machine with `deployd` and `deployctl` in its PATH, and nothing of them configured.
    /// `topic` tells machines of one test run apart. `None`: it can't be done here, and the test is skipped.
    pub fn boot(topic: &str) -> Option<Self> {
        Self::boot_with(topic, &[])
    }

    /// As [`Self::boot`], with more arguments for `lab up`.
    pub fn boot_with(topic: &str, options: &[&str]) -> Option<Self> {
        let machine = Self { name: format!("{topic}-{}", std::process::id()) };
        let cannot = machine.lab(&["why-not"]);
        if !cannot.status.success() {
            skip(text(&cannot.stdout).trim());
            return None;
        }
        let directory = deployctl().parent().unwrap().to_str().unwrap();
        let (bind, owner) = (format!("{directory}:{BUILD}"), std::process::id().to_string());
        let up = [&["up", "--bind-ro", &bind, "--owner", &owner], options].concat();
        succeeded(&up.join(" "), &machine.lab(&up));
        machine.sh(&format!("ln -sf {BUILD}/deployd {BUILD}/deployctl /usr/bin/"));
        Some(machine)
    }

    /// As [`Self::boot`], with the daemon installed as the README says, and started. `catalog` is
    /// the content of its `services.d`: names of files and their text.
    pub fn with_deployd(topic: &str, catalog: &[(&str, &str)]) -> Option<Self> {
        let machine = Self::boot(topic)?;
        for (name, text) in catalog {
            machine.write(&format!("/etc/deployd/services.d/{name}"), text);
        }
        machine.install();
        machine.sh("systemctl start deployd");
        Some(machine)
    }

    /// Installs the daemon's units as the README says.
    pub fn install(&self) {
        for (file, place) in [
            ("deployd.service", "/etc/systemd/system/deployd.service"),
            ("deployd.socket", "/etc/systemd/system/deployd.socket"),
            ("deployd.sysusers", "/etc/sysusers.d/deployd.conf"),
            ("deployd.tmpfiles", "/etc/tmpfiles.d/deployd.conf"),
            ("process-runtime.conf", "/usr/lib/deployd/process-runtime.conf"),
            ("deployd.yaml", "/etc/deployd/deployd.yaml"),
        ] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(file);
            self.write(place, &std::fs::read_to_string(from).unwrap());
        }
        self.sh("systemd-sysusers && systemd-tmpfiles --create deployd.conf && systemctl daemon-reload");
    }

    /// Lets the daemon run plain processes, as `process-runtime.conf` says.
    pub fn loosen(&self) {
        self.sh("mkdir -p /etc/systemd/system/deployd.service.d; \
                 ln -s /usr/lib/deployd/process-runtime.conf /etc/systemd/system/deployd.service.d/; \
                 systemctl daemon-reload; systemctl try-restart deployd");
    }

    fn lab(&self, arguments: &[&str]) -> Output {
        let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/lab");
        Command::new(lab).arg(&self.name).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command inside as root, however it ends.
    pub fn run(&self, command: &[&str]) -> Output {
        self.lab(&[&["run"], command].concat())
    }

    /// Runs a shell script inside, which has to succeed; what it printed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(&["sh", "-ec", script]);
        if !output.status.success() {
            self.tell_journal();
        }
        succeeded(script, &output)
    }

    /// Runs a shell script inside, which has to end with this exit code; what it printed, errors included.
    pub fn sh_ends(&self, code: i32, script: &str) -> String {
        let output = self.run(&["sh", "-ec", script]);
        let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{script}\n{all}");
        all
    }

    /// Waits until a shell script inside succeeds; what it printed then.
    pub fn until(&self, script: &str) -> String {
        let begun = Instant::now();
        loop {
            let output = self.run(&["sh", "-ec", script]);
            if output.status.success() {
                return text(&output.stdout);
            }
            if begun.elapsed() > PATIENCE {
                self.tell_journal();
                panic!("it never came to be that {script}\n{}{}", text(&output.stdout), text(&output.stderr));
            }
        }
    }

    /// deployctl's JSON.
    pub fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.sh(&format!("deployctl {command} -o json"))).unwrap()
    }

    /// Stores and executes a plan; the task's number.
    pub fn execute(&self, name: &str, plan: &str) -> u64 {
        let file = format!("/root/{name}.yaml");
        self.write(&file, plan);
        self.sh(&format!("deployctl execute -f {file} --name {name}")).trim().parse().unwrap()
    }

    /// Waits until a task is in a state.
    pub fn until_state(&self, task: u64, state: &str) {
        // What it is instead, if it never is.
        self.until(&format!(
            "deployctl status {task} -o json | grep -q '\"state\": *\"{state}\"' || {{ deployctl report {task}; false; }}"
        ));
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.sh(&format!("systemctl show -p {property} --value {unit}")).trim().to_string()
    }

    /// Writes a file inside, with the directories above it.
    pub fn write(&self, path: &str, text: &str) {
        let scratch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(scratch.path(), text).unwrap();
        self.sh(&format!("mkdir -p $(dirname {path})"));
        self.put(scratch.path(), path);
        self.sh(&format!("chmod 644 {path}"));
    }

    /// Copies a file or directory of the host into it.
    pub fn put(&self, from: &Path, to: &str) {
        succeeded("put", &self.lab(&["put", from.to_str().unwrap(), to]));
    }

    /// Its root, as the host sees it.
    pub fn root(&self) -> PathBuf {
        let pid = succeeded("pid", &self.lab(&["pid"]));
        Path::new("/proc").join(pid.trim()).join("root")
    }

    /// Pulls the plug, and boots it again on the same disk.
    pub fn crash(&self) {
        succeeded("crash", &self.lab(&["crash"]));
    }

    /// Reboots it in good order.
    pub fn reboot(&self) {
        succeeded("reboot", &self.lab(&["reboot"]));
    }

    #[expect(clippy::print_stderr, reason = "whoever looks for what went wrong needs it")]
    fn tell_journal(&self) {
        let journal = self.run(&["journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic"]);
        eprintln!("the journal of {}:\n{}", self.name, text(&journal.stdout));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.lab(&["down"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(what: &str, output: &Output) -> String {
    assert!(output.status.success(), "{what}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
