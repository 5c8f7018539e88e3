//! What makes the ids of a task's operations unlike those of any other task.

use std::fmt;

/// A random number that is drawn once, when a task begins, and durable in its first event.
///
/// The number of a task may be given out twice: after a backup was restored, the store knows nothing of the tasks
/// that came after it. The nonce is what a new task with an old number does not share with the lost one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
