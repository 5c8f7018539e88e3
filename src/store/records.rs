//! What is kept beside the journal: written with it, read without it.

use redb::{ReadableTable, WriteTransaction};

use super::StoreError;
use super::read::{Snapshot, read, row_of};
use super::row::encode;
use super::row::record::{ChangeV1, ReleaseV1};
use super::tables::{CHANGES, DURATIONS, NEEDS, RELEASES};
use crate::catalog::ServiceId;
use crate::plan::Way;
use crate::task::TaskId;
use crate::task::record::{ContainerChange, Origin, Record};

/// So many durations are kept for each service and way.
const DURATIONS_KEPT: usize = 50;
/// So many changes are kept for each service, and at times some more.
const CHANGES_KEPT: usize = 500;
/// How often surplus changes are looked for.
const TRIM_EVERY: u64 = 16;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes what event `seq` of a task leaves beside the journal.
pub fn write(transaction: &WriteTransaction, task: TaskId, seq: u64, record: &Record) -> Result<(), Failure> {
    match record {
        Record::Release { service, release, origin } => {
            let row = encode(&ReleaseV1::from(origin));
            transaction.open_table(RELEASES)?.insert((service.get(), &**release), &*row)?;
        }
        Record::Need { artifact } => {
            transaction.open_table(NEEDS)?.insert((&**artifact, task.0), ())?;
        }
        Record::Took { service, way, micros } => {
            let mut durations = transaction.open_table(DURATIONS)?;
            let (service, way) = (service.get(), way.name());
            durations.insert((service, way, seq), micros)?;
            let range = (service, way, 0)..=(service, way, u64::MAX);
            let all: Vec<u64> = durations
                .range(range)?
                .map(|entry| entry.map(|(key, _)| key.value().2))
                .collect::<Result<_, _>>()?;
            for &old in &all[..all.len().saturating_sub(DURATIONS_KEPT)] {
                durations.remove((service, way, old))?;
            }
        }
        Record::Change(change) => {
            let mut changes = transaction.open_table(CHANGES)?;
            let service = change.service.get();
            changes.insert((service, seq), &*encode(&ChangeV1::from(change)))?;
            if seq.is_multiple_of(TRIM_EVERY) {
                let range = (service, 0)..=(service, u64::MAX);
                let surplus = changes.range(range.clone())?.count().saturating_sub(CHANGES_KEPT);
                let old: Vec<u64> = changes
                    .range(range)?
                    .take(surplus)
                    .map(|entry| entry.map(|(key, _)| key.value().1))
                    .collect::<Result<_, _>>()?;
                for seq in old {
                    changes.remove((service, seq))?;
                }
            }
        }
    }
    Ok(())
}

/// Forgets that a task that is gone needs these artifacts.
pub fn forget_needs(
    transaction: &WriteTransaction,
    task: TaskId,
    needs: impl IntoIterator<Item = String>,
) -> Result<(), Failure> {
    let mut table = transaction.open_table(NEEDS)?;
    for artifact in needs {
        table.remove((&*artifact, task.0))?;
    }
    Ok(())
}

impl Snapshot {
    /// How a release of a service was made.
    pub fn origin(&self, service: ServiceId, release: &str) -> Result<Option<Origin>, StoreError> {
        let releases = self.transaction.open_table(RELEASES).map_err(read)?;
        let Some(row) = releases.get((service.get(), release)).map_err(read)? else { return Ok(None) };
        Ok(Some(row_of::<ReleaseV1>("releases", &release, row.value())?.into()))
    }

    /// Whether a plan out of a task that is kept could need an artifact whose hash begins so.
    pub fn is_needed(&self, artifact: &str) -> Result<bool, StoreError> {
        let needs = self.transaction.open_table(NEEDS).map_err(read)?;
        let first = needs.range((artifact, 0)..).map_err(read)?.next();
        let first = first.transpose().map_err(read)?;
        Ok(first.is_some_and(|(key, _)| key.value().0.starts_with(artifact)))
    }

    /// How long the last deployments of a service by a way took that ended well, in microseconds;
    /// only those that had ended before event `before` of the journal.
    pub fn durations(&self, service: ServiceId, way: &Way, before: u64) -> Result<Vec<u64>, StoreError> {
        let durations = self.transaction.open_table(DURATIONS).map_err(read)?;
        let (service, way) = (service.get(), way.name());
        let range = durations.range((service, way, 0)..(service, way, before)).map_err(read)?;
        range.map(|entry| Ok(entry.map_err(read)?.1.value())).collect()
    }

    /// The changes of a service's containers, newest first, each with its place in the journal.
    pub fn changes(&self, service: ServiceId) -> Result<Vec<(u64, ContainerChange)>, StoreError> {
        let changes = self.transaction.open_table(CHANGES).map_err(read)?;
        let service = service.get();
        let range = changes.range((service, 0)..=(service, u64::MAX)).map_err(read)?;
        range
            .rev()
            .map(|entry| {
                let (key, row) = entry.map_err(read)?;
                change(key.value(), row.value())
            })
            .collect()
    }

    /// The services of which changes are known.
    pub fn changed_services(&self) -> Result<Vec<ServiceId>, StoreError> {
        let changes = self.transaction.open_table(CHANGES).map_err(read)?;
        let (mut found, mut after) = (Vec::new(), 0);
        while let Some(entry) = changes.range((after, 0)..).map_err(read)?.next() {
            let service = entry.map_err(read)?.0.value().0;
            found.extend(ServiceId::new(service));
            after = service.saturating_add(1);
        }
        Ok(found)
    }

    /// Reads every record once.
    pub(super) fn verify_records(&self) -> Result<(), StoreError> {
        let releases = self.transaction.open_table(RELEASES).map_err(read)?;
        for entry in releases.range::<(u64, &str)>(..).map_err(read)? {
            let (key, row) = entry.map_err(read)?;
            row_of::<ReleaseV1>("releases", &key.value().1, row.value())?;
        }
        for service in self.changed_services()? {
            self.changes(service)?;
        }
        let needs = self.transaction.open_table(NEEDS).map_err(read)?;
        needs.range::<(&str, u64)>(..).map_err(read)?.try_for_each(|entry| entry.map(drop).map_err(read))?;
        let durations = self.transaction.open_table(DURATIONS).map_err(read)?;
        durations
            .range::<(u64, &str, u64)>(..)
            .map_err(read)?
            .try_for_each(|entry| entry.map(drop).map_err(read))
    }
}

fn change(key: (u64, u64), bytes: &[u8]) -> Result<(u64, ContainerChange), StoreError> {
    let name = format!("({}, {})", key.0, key.1);
    let row = row_of::<ChangeV1>("changes", &name, bytes)?;
    let change = row.try_into().map_err(|error: super::row::RowError| StoreError::Row {
        table: "changes",
        key: name,
        why: error.to_string(),
    })?;
    Ok((key.1, change))
}
