//! Whose a unit is: what has the name of a container's unit and was made by somebody else is not touched.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::{Author, MAX_BYTES};
use super::mark::Mark;
use super::{ContainerRef, RuntimeError, Unit, UnitRuntime, io_error};
use crate::foreign;
use crate::identity::{Owner, Stranger};
use crate::systemd::UnitState;

const RENAME: &str = "rename the service or the container in one of the two catalogs, or remove that unit with the deployd \
                      that made it";
const REMOVE: &str =
    "rename the service or the container, remove that unit, or drive it as it is, by `unit:` in the catalog";
const ADOPT: &str =
    "put that id back into the file `identity` and start deployd again, or stop and remove the unit by hand";

/// Whose the file of a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// There is none where we write ours.
    Nobodys,
    /// We have written it.
    Ours,
}

impl UnitRuntime {
    /// Whether there is a unit that this daemon generated for the container: one may be left of earlier days.
    pub fn has_generated(&self, container: &ContainerRef) -> bool {
        self.whose(&container.generated_unit()).is_ok_and(|whose| whose == Whose::Ours)
    }

    /// Whose file has this name where generated units are.
    ///
    /// # Errors
    /// [`RuntimeError::Foreign`] when somebody else wrote it.
    pub(super) fn whose(&self, name: &str) -> Result<Whose, RuntimeError> {
        let path = self.systemd.scope().unit_directory().join(name);
        let text = match foreign::read_text(&path, MAX_BYTES) {
            Err(error) if error.is_absent() => return Ok(Whose::Nobodys),
            // A mask, for example.
            Err(foreign::Unread::Unfit(_)) => return Err(foreign_unit(name, Stranger::Unknown, &self.owner)),
            text => text.map_err(|source| io_error("read the file of its unit", source.into()))?,
        };
        let judged = self.owner.judge(Author::of(&text).claim());
        judged.map(|()| Whose::Ours).map_err(|stranger| foreign_unit(name, stranger, &self.owner))
    }

    /// Whether what systemd knows by the name of a container's unit is the container's.
    ///
    /// # Errors
    /// [`RuntimeError::Foreign`] when it is not.
    pub(super) fn admit(&self, unit: &Unit, state: &UnitState) -> Result<(), RuntimeError> {
        if !unit.is_generated {
            return self.admit_existing(unit);
        }
        if self.whose(&unit.name)? == Whose::Ours {
            return Ok(());
        }
        // Another directory may have one; or its file was removed while it runs.
        let ours = self.systemd.scope().unit_directory().join(&unit.name);
        let is_elsewhere = !state.fragment.is_empty() && Path::new(&state.fragment) != ours;
        if (!is_elsewhere && !state.is_up()) || self.has_marked(unit, state)? {
            return Ok(());
        }
        Err(foreign_unit(&unit.name, Stranger::Unknown, &self.owner))
    }

    /// Whether an operation of ours has started what runs.
    fn has_marked(&self, unit: &Unit, state: &UnitState) -> Result<bool, RuntimeError> {
        let mark = self.mark_of(unit)?;
        Ok(mark.is_some_and(|mark| mark.is_of(&state.invocation)))
    }

    /// The mark of a unit, unless it came here with the files of another daemon.
    pub(super) fn mark_of(&self, unit: &Unit) -> Result<Option<Mark>, RuntimeError> {
        let mark = Mark::read(&unit.directory).map_err(|source| io_error("read its unit's mark", source))?;
        Ok(mark.filter(|mark| self.owner.gave(&mark.operation)))
    }

    /// A unit that exists already is driven for whoever names it, but for those that another deployd generated.
    fn admit_existing(&self, unit: &Unit) -> Result<(), RuntimeError> {
        if !unit.name.starts_with("deployd-") {
            return Ok(());
        }
        match self.whose(&unit.name) {
            Err(error @ RuntimeError::Foreign { stranger: Stranger::Daemon { .. }, .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// The units that this daemon generated, with the directories of their containers.
    pub(super) fn generated(place: &Path, owner: &Owner) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let named = names.filter(|name| name.starts_with("deployd-") && name.ends_with(".service"));
        named
            .filter_map(|name| {
                let author = Author::of(&foreign::read_text(&place.join(&name), MAX_BYTES).ok()?);
                owner.judge(author.claim()).ok()?;
                Some((name, author.directory?))
            })
            .collect()
    }
}

fn foreign_unit(name: &str, stranger: Stranger, owner: &Owner) -> RuntimeError {
    let fix = match &stranger {
        Stranger::Daemon { .. } => RENAME,
        Stranger::Former(_) => ADOPT,
        Stranger::Unknown => REMOVE,
    };
    RuntimeError::foreign(name.into(), stranger, owner, fix)
}
