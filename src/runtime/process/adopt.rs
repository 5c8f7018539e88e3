//! Containers whose run file does not name them: it was lost, or an older one was put in its place.
//!
//! That a process is the container's is not believed because of its environment, which everybody may write: its output
//! must go to a file of ours in the container's directory, which nobody else can open.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::identity::Owner;
use crate::spawn::look::{Seen, environment};
use crate::spawn::proc;
use crate::spawn::tree::Run;

/// Whose containers, and where they are.
pub struct Place<'a> {
    pub services: &'a Path,
    pub boot_id: &'a str,
    pub owner: &'a Owner,
}

/// Gives the leaders among these processes their run files back. What can't be done for one is said, and left.
pub fn adopt<'a>(leaders: impl Iterator<Item = &'a Seen>, place: &Place<'_>) {
    let mut found: BTreeMap<PathBuf, Run> = BTreeMap::new();
    for process in leaders {
        let Some((directory, run)) = place.container_of(process) else { continue };
        // Should there be two, the younger one has taken the other one's place.
        if found.get(&directory).is_none_or(|other| other.start_ticks < run.start_ticks) {
            found.insert(directory, run);
        }
    }
    for (directory, run) in found {
        match place.give(&directory, &run) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                container = %directory.display(), pid = run.pid, operation = run.operation,
                "found a container that runs, and whose run file did not name it"
            ),
            Err(error) => {
                tracing::error!(container = %directory.display(), pid = run.pid, %error, "cannot write its run file");
            }
        }
    }
}

impl Place<'_> {
    fn container_of(&self, process: &Seen) -> Option<(PathBuf, Run)> {
        let operation = process.operation.as_deref().filter(|operation| self.owner.gave(operation))?;
        let environment = environment(process.pid).ok()?;
        let name = |key| environment.get(key).filter(|name| is_name(name));
        let (service, container) = (name("DEPLOYD_SERVICE")?, name("DEPLOYD_CONTAINER")?);
        let directory = self.services.join(service).join("containers").join(container);
        let run = Run {
            operation: operation.to_string(),
            release: environment.get("DEPLOYD_RELEASE").cloned(),
            pid: process.pid,
            start_ticks: process.start_ticks,
            boot_id: self.boot_id.to_string(),
        };
        self.writes_into(process.pid, &directory).then_some((directory, run))
    }

    /// Whether a process has a file of ours in this directory as its output, even if its name is gone.
    fn writes_into(&self, pid: i32, directory: &Path) -> bool {
        let Ok(device) = fs::metadata(self.services).map(|services| services.dev()) else { return false };
        let us = nix::unistd::geteuid().as_raw();
        [1, 2].into_iter().any(|stream| {
            let link = PathBuf::from(format!("/proc/{pid}/fd/{stream}"));
            let is_ours = |file: fs::Metadata| file.is_file() && file.dev() == device && file.uid() == us;
            let is_there = fs::read_link(&link).is_ok_and(|target| target.parent() == Some(directory));
            is_there && fs::metadata(&link).is_ok_and(is_ours)
        })
    }

    /// Writes a run file, unless one names a process that lives.
    fn give(&self, directory: &Path, run: &Run) -> io::Result<bool> {
        let path = directory.join("run");
        let known = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => Run::from_text(&text?).filter(|known| self.owner.gave(&known.operation)),
        };
        if let Some(known) = known
            && known.boot_id == self.boot_id
            && proc::is_alive(known.pid, known.start_ticks)?
        {
            return Ok(false);
        }
        fs::create_dir_all(directory)?;
        let temporary = directory.join("run.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(run.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()?;
        Ok(true)
    }
}

/// A name as the catalog allows it: it leads nowhere else.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().all(fits) && !name.starts_with('.') && !name.is_empty()
}
