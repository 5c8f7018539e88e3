//! Requests that come with an idempotency key: what decides whether two are the same, and what a repeated one gets.

use super::stored_plan::unavailable;
use super::{Execute, FirstUse, Refused};
use crate::store::{Snapshot, StoreError};
use crate::task::request::{Call, Fingerprint, FirstRequest, Keyed, RequestKey};

/// A request with a key.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key.
    pub key: RequestKey,
    /// The plan.
    pub plan: String,
    /// The revision that the request names, if it names one.
    pub revision: Option<u32>,
    /// What the request does; `None`: there is no such plan.
    pub fingerprint: Option<Fingerprint>,
}

impl Once {
    /// A request to execute a plan, and the revision that it means; `None` without a key. The revision is settled here:
    /// what is compared is what is executed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn of_execution(
        snapshot: &Snapshot,
        execute: &Execute,
    ) -> Result<Option<(Self, Option<u32>)>, StoreError> {
        // A member that is added to a request has to say here whether it decides what the request does.
        let Execute { plan, revision, rebuild, idempotency_key, by } = execute;
        let Some(key) = idempotency_key.clone() else { return Ok(None) };
        let found = snapshot.plan(plan, *revision)?;
        let fingerprint = found.as_ref().map(|found| of_execution(plan, &found.text, *rebuild));
        let key = RequestKey { uid: by.uid, call: Call::Execute, key };
        let once = Self { key, plan: plan.clone(), revision: *revision, fingerprint };
        Ok(Some((once, found.map(|found| found.revision).or(*revision))))
    }

    /// A request to store a plan.
    pub fn of_plan(uid: u32, key: String, plan: &str, text: &[u8]) -> Self {
        let fingerprint = Some(Fingerprint::of(&[plan.as_bytes(), text]));
        let key = RequestKey { uid, call: Call::StorePlan, key };
        Self { key, plan: plan.into(), revision: None, fingerprint }
    }

    /// As the store keeps it; `None`: there is nothing that it does.
    pub fn keyed(self) -> Option<Keyed> {
        Some(Keyed { key: self.key, fingerprint: self.fingerprint? })
    }

    /// What the first request with this key did, if this one repeats it; `None`: this one is the first.
    ///
    /// # Errors
    /// The first one was another request, or what it made was deleted.
    pub fn first(&self, snapshot: &Snapshot) -> Result<Option<FirstRequest>, Refused> {
        let read = |error| unavailable(&error);
        let Some(mut first) = snapshot.first_request(&self.key).map_err(read)? else { return Ok(None) };
        if first.fingerprint.is_none() && self.key.call == Call::Execute {
            let text = snapshot.plan(&first.plan, Some(first.revision)).map_err(read)?;
            first.fingerprint = text.map(|found| of_execution(&first.plan, &found.text, false));
        }
        let use_of = |first| Box::new(FirstUse { key: self.key.key.clone(), first });
        if !first.is_repeated_by(&self.plan, self.revision, self.fingerprint.as_ref()) {
            return Err(Refused::KeyReused(use_of(first)));
        }
        if first.deleted_at.is_some() {
            return Err(Refused::TaskDeleted(use_of(first)));
        }
        let is_there = || snapshot.plan(&first.plan, Some(first.revision)).map(|found| found.is_some());
        if self.key.call == Call::StorePlan && !is_there().map_err(read)? {
            return Err(Refused::PlanDeleted(use_of(first)));
        }
        Ok(Some(first))
    }
}

fn of_execution(plan: &str, text: &[u8], rebuild: bool) -> Fingerprint {
    let parts = [plan.as_bytes(), text, b"rebuild"];
    Fingerprint::of(if rebuild { &parts } else { &parts[..2] })
}
