//! Which operation has started which run of a unit: a link whose target says it.
//!
//! A generated unit makes its mark itself, before its program's first instruction. For a unit that is
//! not ours the mark is made before its start is asked for, and says only which run it is *not*.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::crashpoint::point;

/// The mark's name in a container's directory.
pub const NAME: &str = "unit.run";

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The operation.
    pub operation: String,
    /// During which boot: 32 hex digits.
    pub boot_id: String,
    /// Which run.
    pub run: RunOf,
    /// The release it was started from.
    pub release: Option<String>,
}

/// Which run of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOf {
    /// This one.
    This(String),
    /// Any but this one, which was there before.
    AnyBut(String),
}

impl Mark {
    /// What the mark in a container's directory says.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read_link(directory.join(NAME)) {
            Ok(target) => Ok(target.to_str().and_then(Self::from_text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the mark of a unit that does not make it itself.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join("unit.run.tmp");
        remove_file(&temporary)?;
        std::os::unix::fs::symlink(self.to_text(), &temporary)?;
        fs::rename(&temporary, directory.join(NAME))?;
        File::open(directory)?.sync_all()
    }

    /// Nothing says any more what has run.
    pub fn remove(directory: &Path) -> io::Result<()> {
        point("before a unit's mark is removed");
        remove_file(&directory.join(NAME))?;
        point("after a unit's mark was removed");
        Ok(())
    }

    /// Whether it speaks of this run.
    pub fn is_of(&self, invocation: &str) -> bool {
        match &self.run {
            RunOf::This(this) => this == invocation,
            RunOf::AnyBut(before) => !invocation.is_empty() && before != invocation,
        }
    }

    fn to_text(&self) -> String {
        let run = match &self.run {
            RunOf::This(this) => this.clone(),
            RunOf::AnyBut(before) => format!("!{before}"),
        };
        let release = self.release.as_deref().unwrap_or_default();
        format!("{} {} {run} {release}", self.operation, self.boot_id)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (operation, boot_id, run) = (words.next()?, words.next()?, words.next()?);
        let run = match run.strip_prefix('!') {
            Some(before) => RunOf::AnyBut(before.into()),
            None => RunOf::This(run.into()),
        };
        let release = words.next().filter(|release| !release.is_empty()).map(str::to_string);
        Some(Self { operation: operation.into(), boot_id: boot_id.into(), run, release })
    }
}

/// Removes a file that may be gone already.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_which_run_it_means() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(directory.path()).unwrap(), None);
        for (run, of_a, of_b) in
            [(RunOf::This("a".into()), true, false), (RunOf::AnyBut("a".into()), false, true)]
        {
            let mark = Mark { operation: "o.1".into(), boot_id: "b".into(), run, release: Some("r".into()) };
            mark.write(directory.path()).unwrap();
            let read = Mark::read(directory.path()).unwrap().unwrap();
            assert_eq!(read, mark);
            assert_eq!((read.is_of("a"), read.is_of("b"), read.is_of("")), (of_a, of_b, false));
        }
        Mark::remove(directory.path()).unwrap();
        assert_eq!(Mark::read(directory.path()).unwrap(), None);
    }
}
