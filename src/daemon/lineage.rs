//! Who this daemon is, and which history its store has: settled before anything else is read or given out.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::DaemonError;
use crate::clock;
use crate::config::Config;
use crate::identity::{Arrival, Identity, Owner};
use crate::store::{Integrity, Ownership, Restored, Store};
use crate::task::host_event::Cause;

/// Opens the store of a state directory that is locked, as its owner.
///
/// # Errors
/// When the identity or the store can't be used.
pub fn open(config: &Config) -> Result<(Store, Arc<Owner>), DaemonError> {
    let identity = Identity::settle(&config.state_dir)?;
    say_arrival(&identity);
    if let Arrival::Copied(_) = identity.arrival {
        forget_commands(&config.state_dir)?;
    }
    let cause = match identity.arrival {
        Arrival::Copied(_) => Some(Cause::OtherDirectory),
        Arrival::Replaced => Some(Cause::ReplacedDirectory),
        Arrival::New | Arrival::Same | Arrival::Moved(_) => None,
    };
    let ownership = Ownership { id: identity.id.clone(), cause, at: clock::now() };
    let path = config.state_dir.join("deployd.redb");
    let store = Store::open_for(&path, &Integrity::Child(config.binary.clone()), &ownership)?;
    if let Some(restored) = store.restored() {
        say_restored(restored, &path);
        if restored.cause == Cause::OtherDirectory {
            forget_commands(&config.state_dir)?;
        }
    }
    identity.confirm()?;
    let owner = Owner::new(&identity, store.number());
    Ok((store, Arc::new(owner)))
}

/// Builds and hooks of which there are notes here are those of the daemon that this directory was copied from.
fn forget_commands(state: &Path) -> Result<(), DaemonError> {
    match fs::remove_dir_all(state.join("commands")) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DaemonError::Io { what: "remove the notes of another daemon's builds and hooks", source })
        }
        _ => Ok(()),
    }
}

fn say_arrival(identity: &Identity) {
    let state = identity.directory.display();
    match &identity.arrival {
        Arrival::Moved(from) => {
            tracing::info!(
                "the state directory was moved from {} to {state}; containers stay its own",
                from.display()
            );
        }
        Arrival::Copied(of) => tracing::warn!(
            "the state directory {state} is a copy of {}, which keeps its containers: this daemon has an identity of \
             its own, and none of them",
            of.display()
        ),
        Arrival::New | Arrival::Same | Arrival::Replaced => {}
    }
}

fn say_restored(restored: &Restored, path: &Path) {
    let Restored { epoch, cause, last, first, first_task } = restored;
    tracing::warn!(
        epoch,
        cause = cause.name(),
        last,
        first,
        first_task = first_task.0,
        "the store {} was restored: what happened after event {last} is not in it. Events go on from {first}, tasks \
         from {first_task}",
        path.display()
    );
}
