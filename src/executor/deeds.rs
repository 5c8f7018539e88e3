//! One deed at a time for each container.
//!
//! A deed that was begun is never cut in the middle: a process that was asked for is going to
//! start, whoever waits for it. When a task is cut off by a crash of its actors and resumed at
//! once, its next look at a container therefore waits for the deed that is still going on there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::runtime::ContainerRef;

/// Which containers something is being done to.
#[derive(Debug, Default)]
pub struct Deeds {
    locks: Mutex<HashMap<ContainerRef, Arc<tokio::sync::Mutex<()>>>>,
}

impl Deeds {
    /// Waits until nothing is being done to a container, and keeps others from doing anything.
    pub async fn only(&self, container: &ContainerRef) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(lock) = locks.get(container) {
                lock.clone()
            } else {
                // Before it grows, it forgets what nobody uses: the cost of that is spread over the growth.
                if locks.len() == locks.capacity() {
                    locks.retain(|_, lock| Arc::strong_count(lock) > 1);
                }
                locks.entry(container.clone()).or_default().clone()
            }
        };
        lock.lock_owned().await
    }
}
