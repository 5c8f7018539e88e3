//! Stored plans, checked against the catalog of now.

use super::Refused;
use crate::catalog::Catalog;
use crate::executor::Executor;
use crate::plan::Plan;
use crate::plan::check::{self, Policy};
use crate::store::{PlanInfo, Snapshot, StoreError};

/// The store's errors, for whoever asked.
pub fn unavailable(error: &StoreError) -> Refused {
    Refused::Unavailable(error.to_string())
}

/// Reads a stored plan and checks it against the catalog of now.
pub fn stored_plan(
    snapshot: &Snapshot,
    name: &str,
    revision: Option<u32>,
    catalog: &Catalog,
    executor: &Executor,
) -> Result<(PlanInfo, Plan), Refused> {
    let newest = snapshot.plan(name, None).map_err(|error| unavailable(&error))?;
    let newest = newest.ok_or_else(|| Refused::NoSuchPlan(name.to_string()))?;
    let info = match revision {
        None => newest,
        Some(revision) => {
            let found = snapshot.plan(name, Some(revision)).map_err(|error| unavailable(&error))?;
            let newest = newest.revision;
            found.ok_or_else(|| Refused::NoSuchRevision { name: name.into(), revision, newest })?
        }
    };
    let plan = check::read(&info.text, catalog, &policy(executor)).map_err(Refused::PlanInvalid)?;
    Ok((info, plan))
}

/// The policy, with the repositories that there are now.
pub fn policy(executor: &Executor) -> Policy {
    let repositories = executor.git.repositories().names().ok();
    Policy { repositories, ..executor.policy.clone() }
}
