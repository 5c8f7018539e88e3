//! How many connections there may be at the same time: as many as descriptors allow, with some left for
//! what is being deployed, and never all of them for one user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use super::peer::Role;

/// There are never more.
const MAX: usize = 4096;
/// Descriptors that the daemon needs for itself.
const OWN: usize = 32;

/// All places.
pub struct Places {
    all: usize,
    taken: Mutex<HashMap<u32, usize>>,
}

/// A connection's place; dropping it gives it back.
pub struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    /// As many as this process may have: half of the descriptors, for a deployment needs some, too.
    pub fn of_this_process() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        Self::new((descriptors.saturating_sub(OWN) / 2).clamp(1, MAX))
    }

    fn new(all: usize) -> Self {
        Self { all, taken: Mutex::default() }
    }

    /// How many there are.
    pub const fn all(&self) -> usize {
        self.all
    }

    /// A place for a user with this role; `None` when they have as many as they may have.
    pub fn take(self: &Arc<Self>, uid: u32, role: Option<Role>) -> Option<Place> {
        let share = match role {
            Some(Role::Admin) => self.all,
            Some(Role::Operator | Role::Viewer) => self.all / 8,
            None => self.all / 64,
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.entry(uid).or_default();
        if *own >= share.max(1) {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get_mut(&self.uid).map_or(0, |own| {
            *own -= 1;
            *own
        });
        if left == 0 {
            taken.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    #[test]
    fn no_user_but_the_administrators_takes_more_than_a_share() {
        let places = Arc::new(Places::new(640));
        let held: Vec<_> = (0..80).map(|_| places.take(7, Some(Role::Viewer)).unwrap()).collect();
        assert!(places.take(7, Some(Role::Operator)).is_none());
        let strangers: Vec<_> = (0..10).map(|_| places.take(8, None).unwrap()).collect();
        assert!(places.take(8, None).is_none());
        let other = places.take(9, Some(Role::Viewer)).unwrap();
        let root: Vec<_> = (0..200).map(|_| places.take(0, Some(Role::Admin)).unwrap()).collect();
        drop((held, strangers));
        assert!(places.take(7, Some(Role::Viewer)).is_some() && places.take(8, None).is_some());
        drop((other, root));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
