//! Idempotency keys: a repeated request is recognized, and answered with what the first one did.
//!
//! A key names one request of one user. The request is kept with the key, as a fingerprint of all that decides what it
//! does. The same key with another request is refused: the caller would take the first one's task for its own.

use sha2::{Digest, Sha256};

use super::{TaskId, Timestamp};

/// How long a key is kept after its task was deleted; the key of a plan, after the plan was stored.
pub const KEPT_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// A call that takes a key. Each has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `POST /v1/tasks`
    Execute,
    /// `POST /v1/plans`
    StorePlan,
}

impl Call {
    /// Its name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::StorePlan => "storePlan",
        }
    }
}

/// Names a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The user: two users with the same key do not meet.
    pub uid: u32,
    /// The call.
    pub call: Call,
    /// What the user has chosen.
    pub key: String,
}

/// Tells requests apart: a SHA-256 of everything that decides what a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of these parts. Where one ends and the next begins counts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// A request that comes with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// Its key.
    pub key: RequestKey,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// The first request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstRequest {
    /// When it was carried out.
    pub at: Timestamp,
    /// Its plan.
    pub plan: String,
    /// The plan's revision.
    pub revision: u32,
    /// The task that it started.
    pub task: Option<TaskId>,
    /// When that task was deleted.
    pub deleted_at: Option<Timestamp>,
    /// `None`: an earlier version kept none.
    pub fingerprint: Option<Fingerprint>,
}

impl FirstRequest {
    /// Whether a later request with its key is this one. `revision` is what the later one names, if it names one.
    pub fn is_repeated_by(
        &self,
        plan: &str,
        revision: Option<u32>,
        fingerprint: Option<&Fingerprint>,
    ) -> bool {
        if self.plan != plan {
            return false;
        }
        match (&self.fingerprint, fingerprint) {
            (Some(first), Some(later)) => first == later,
            // The text is gone, with the plan or with the version that kept no fingerprint: the number has to do.
            _ => revision.is_none_or(|revision| revision == self.revision),
        }
    }

    /// Whether its key may be forgotten.
    pub fn is_outdated(&self, now: Timestamp) -> bool {
        let since = if self.task.is_some() { self.deleted_at } else { Some(self.at) };
        since.is_some_and(|since| now.0.saturating_sub(since.0) > KEPT_MICROS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> FirstRequest {
        FirstRequest {
            at: Timestamp(5),
            plan: "shop".into(),
            revision: 2,
            task: Some(TaskId(7)),
            deleted_at: None,
            fingerprint: Some(Fingerprint::of(&[b"a"])),
        }
    }

    #[test]
    fn a_request_is_the_same_when_all_that_decides_is() {
        let (same, other) = (Fingerprint::of(&[b"a"]), Fingerprint::of(&[b"b"]));
        assert!(first().is_repeated_by("shop", None, Some(&same)));
        // The same text under another number does the same.
        assert!(first().is_repeated_by("shop", Some(9), Some(&same)));
        assert!(!first().is_repeated_by("shop", Some(2), Some(&other)));
        assert!(!first().is_repeated_by("other", Some(2), Some(&same)));
        assert!(first().is_repeated_by("shop", None, None));
        assert!(first().is_repeated_by("shop", Some(2), None));
        assert!(!first().is_repeated_by("shop", Some(3), None));
    }

    #[test]
    fn parts_of_a_fingerprint_do_not_run_into_each_other() {
        let all: [&[&[u8]]; 5] = [&[], &[b""], &[b"ab"], &[b"a", b"b"], &[b"", b"ab"]];
        for (index, one) in all.iter().enumerate() {
            for other in &all[..index] {
                assert_ne!(Fingerprint::of(one), Fingerprint::of(other));
            }
        }
    }

    #[test]
    fn a_key_is_kept_as_long_as_its_task_and_a_day_after() {
        let day_after = |at: i64| Timestamp(at + KEPT_MICROS);
        assert!(!first().is_outdated(Timestamp(i64::MAX)));
        let deleted = FirstRequest { deleted_at: Some(Timestamp(100)), ..first() };
        assert!(!deleted.is_outdated(day_after(100)));
        assert!(deleted.is_outdated(day_after(101)));
        let of_plan = FirstRequest { task: None, ..first() };
        assert!(!of_plan.is_outdated(day_after(5)));
        assert!(of_plan.is_outdated(day_after(6)));
    }
}
