//! Units of containers that are in the catalog no more: removed when nothing of them runs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::file::{disable, owner};
use super::mark::{Mark, remove_file};
use super::{RuntimeError, UnitRuntime, io_error};
use crate::blocking;
use crate::runtime::{ContainerRef, Form};

impl UnitRuntime {
    /// Removes the files of generated units that none of these containers has and that are down: the unit, its
    /// link, its environment. Output and releases stay.
    ///
    /// # Errors
    /// When they can't be listed, or systemd does not answer.
    pub(super) async fn remove_unused(&self, keep: &HashSet<ContainerRef>) -> Result<(), RuntimeError> {
        let generated = keep.iter().filter(|container| container.form == Form::GeneratedUnit);
        let kept: HashSet<String> = generated.map(ContainerRef::generated_unit).collect();
        let (place, services) = (self.systemd.scope().unit_directory(), self.services.clone());
        let ours = blocking::run(move || units_below(&place, &services)).await;
        let mut removed = false;
        for (unit, directory) in ours.into_iter().filter(|(unit, _)| !kept.contains(unit)) {
            if !self.systemd.state(&unit, &[]).await?.is_down() {
                tracing::info!(
                    unit,
                    "still runs, though its container is in the catalog no more: left alone"
                );
                continue;
            }
            let (scope, name) = (self.systemd.scope().clone(), unit.clone());
            let remove = move || {
                disable(&scope, &name)?;
                remove_file(&scope.unit_directory().join(&name))?;
                remove_file(&directory.join("unit.env"))?;
                Mark::remove(&directory)
            };
            blocking::run(remove).await.map_err(|source| io_error("remove its unit", source))?;
            self.systemd.reset_failed(&unit).await?;
            tracing::info!(unit, "removed: its container is in the catalog no more");
            removed = true;
        }
        if removed {
            self.systemd.reload().await?;
        }
        Ok(())
    }
}

/// The units of containers below `services`, with the directories of these.
fn units_below(place: &Path, services: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ours = names.filter(|name| name.starts_with("deployd-") && name.ends_with(".service"));
    ours.filter_map(|name| {
        let directory = PathBuf::from(owner(&fs::read_to_string(place.join(&name)).ok()?)?);
        directory.starts_with(services).then_some((name, directory))
    })
    .collect()
}
