//! Dialogues as transient units: the daemon's own unit may not become another user.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::unix::pipe;
use zbus::{Fd, Variant};

use super::PATIENCE;
use super::properties::{Property, closed, micros, program};
use crate::spawn::SpawnError;
use crate::spawn::dialogue::{Dialogue, Dialogues, next_number, too_long, words};
use crate::systemd::{Systemd, SystemdError};

/// How much longer than systemd the daemon waits for a unit whose time is over.
const MARGIN: Duration = Duration::from_secs(30);

/// Runs dialogues as transient units.
pub struct DialogueUnits(pub Arc<Systemd>);

#[async_trait]
impl Dialogues for DialogueUnits {
    async fn run(&self, dialogue: Dialogue) -> Result<String, SpawnError> {
        let name = dialogue.argv.first().cloned().unwrap_or_default();
        let unit = format!("deployd-dialogue-{}-{}.service", std::process::id(), next_number());
        let timeout = dialogue.timeout;
        let prepare =
            |source| SpawnError::Prepare { program: name.clone(), what: "pass on its stream".into(), source };
        let (sender, receiver) = pipe::pipe().map_err(prepare)?;
        let properties = sender.into_blocking_fd().and_then(|stderr| properties(dialogue, stderr));
        let running = Running { systemd: self.0.clone(), unit: Some(unit.clone()) };
        let started = self.0.start_transient(&unit, properties.map_err(prepare)?).await;
        started.map_err(|error| failed(&name, &error))?;
        let said = tokio::time::timeout(timeout + MARGIN, words(receiver)).await;
        let said = said.map_err(|_| too_long(&name, timeout))?;
        running.ended();
        Ok(said)
    }
}

fn failed(program: &str, error: &SystemdError) -> SpawnError {
    SpawnError::Unit { program: program.into(), why: error.to_string(), in_doubt: error.is_in_doubt() }
}

fn properties(dialogue: Dialogue, stderr: OwnedFd) -> std::io::Result<Vec<Property>> {
    let Dialogue { argv, environment, account, stream, writes, umask, timeout } = dialogue;
    let name = argv.first().cloned().unwrap_or_default();
    let path = environment.get("PATH").map(String::as_str);
    let execute = (program(&name, path, "/".as_ref()), argv.clone(), vec!["no-env-expand".to_string()]);
    let environment: Vec<String> = environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let input = OwnedFd::from(stream.try_clone()?);
    let mut all: Vec<Property> = vec![
        ("Description", format!("{} for deployd", argv.join(" ")).into()),
        ("Type", "exec".into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("WorkingDirectory", "/".into()),
        ("Environment", environment.into()),
        ("ExecStartEx", Variant::from(vec![execute])),
        ("StandardInputFileDescriptor", Fd::from(input).into()),
        ("StandardOutputFileDescriptor", Fd::from(OwnedFd::from(stream)).into()),
        ("StandardErrorFileDescriptor", Fd::from(stderr).into()),
        ("RuntimeMaxUSec", micros(timeout).into()),
        ("TimeoutStopUSec", micros(PATIENCE).into()),
        ("UMask", umask.into()),
    ];
    if let Some(account) = account {
        all.push(("User", account.uid.to_string().into()));
        all.push(("Group", account.gid.to_string().into()));
    }
    let directory = writes.as_deref().map(|path| path.to_string_lossy().into_owned());
    closed(directory.as_deref().unwrap_or("/"), false, &mut all);
    // A repository may lie in a home that the daemon is allowed to see.
    all.retain(|(key, _)| *key != "ProtectHome");
    all.push(("ProtectHome", "read-only".into()));
    if directory.is_none() {
        all.retain(|(key, _)| !matches!(*key, "ReadWritePaths" | "BindPaths"));
    }
    Ok(all)
}

/// A unit that was asked for; dropping it stops the unit.
struct Running {
    systemd: Arc<Systemd>,
    unit: Option<String>,
}

impl Running {
    fn ended(mut self) {
        self.unit = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(unit) = self.unit.take() else { return };
        // Without a runtime the daemon is ending, and the stream ends with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let systemd = self.systemd.clone();
        runtime.spawn(async move {
            match systemd.stop(&unit, None).await {
                // It is not loaded: it was never started, or is over.
                Err(SystemdError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => {}
                Err(error) => tracing::warn!(unit, %error, "cannot stop a unit"),
                Ok(()) => {}
            }
        });
    }
}
