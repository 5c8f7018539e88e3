//! What waits for the store's thread.
//!
//! A commit costs the same whatever it carries, so it pays to wait a moment for what is about to come: nobody waits
//! for what is only noted, and who is about to decide has said so with an [`Expectation`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Request;

/// No transaction carries more requests.
const MAX_GROUP: usize = 1024;
/// So long is what nobody waits for kept for the next transaction.
const LINGER: Duration = Duration::from_millis(2);
/// So long does what somebody waits for wait for what is expected: less than a transaction takes.
const SHARE: Duration = Duration::from_micros(500);

/// Requests in the order in which they came.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    /// Since when somebody waits for one of them.
    urgent: Option<Instant>,
    /// How many that somebody will wait for are about to come.
    expected: usize,
    closed: bool,
}

impl Queue {
    /// Puts a request behind the others. What fulfils an expectation carries it, so that the writer sees both at once.
    /// Whether the queue was still open.
    pub(super) fn push(&self, request: Request, fulfils: Option<Expectation>) -> bool {
        let mut waiting = self.waiting();
        if let Some(expectation) = fulfils {
            expectation.settle(&mut waiting);
        }
        if waiting.closed {
            return false;
        }
        if request.urgent {
            waiting.urgent.get_or_insert_with(Instant::now);
        }
        let is_news = waiting.requests.is_empty() || request.urgent;
        waiting.requests.push(request);
        // The writer looks at the rest when its time is over.
        if is_news || waiting.requests.len() == MAX_GROUP {
            self.changed.notify_one();
        }
        true
    }

    /// What goes into the next transaction; `None` when nothing is left and nothing will come.
    pub(super) fn next_group(&self) -> Option<Vec<Request>> {
        let nothing_to_do = |waiting: &mut Waiting| waiting.requests.is_empty() && !waiting.closed;
        let waiting = self.changed.wait_while(self.waiting(), nothing_to_do);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + LINGER;
        while !waiting.closed && waiting.requests.len() < MAX_GROUP {
            let until = match waiting.urgent {
                Some(_) if waiting.expected == 0 => break,
                Some(since) => until.min(since + SHARE),
                None => until,
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.requests.is_empty() {
            return None;
        }
        let count = waiting.requests.len().min(MAX_GROUP);
        let group = waiting.requests.drain(..count).collect();
        waiting.urgent = waiting.urgent.filter(|_| waiting.requests.iter().any(|request| request.urgent));
        Some(group)
    }

    /// Takes nothing more; what waits can still be written.
    pub fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_one();
    }

    /// Takes nothing more, and drops what waits: whoever waits for it is told that its fate is unknown.
    pub fn abandon(&self) {
        let dropped = {
            let mut waiting = self.waiting();
            waiting.closed = true;
            std::mem::take(&mut waiting.requests)
        };
        drop(dropped);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody is about to queue what will be waited for; a transaction waits a moment for it.
#[must_use]
pub struct Expectation {
    queue: Arc<Queue>,
    is_settled: bool,
}

impl Expectation {
    /// Something more is expected.
    pub fn of(queue: &Arc<Queue>) -> Self {
        queue.waiting().expected += 1;
        Self { queue: queue.clone(), is_settled: false }
    }

    fn settle(mut self, waiting: &mut Waiting) {
        self.is_settled = true;
        waiting.expected -= 1;
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        if !self.is_settled {
            self.queue.waiting().expected -= 1;
            self.queue.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn request(urgent: bool) -> Request {
        Request { changes: Vec::new(), urgent, done: oneshot::channel().0 }
    }

    fn push(queue: &Queue, urgent: bool) {
        assert!(queue.push(request(urgent), None));
    }

    #[test]
    fn what_somebody_waits_for_takes_along_what_was_noted_before() {
        let queue = Queue::default();
        push(&queue, false);
        push(&queue, true);
        push(&queue, false);
        assert_eq!(queue.next_group().unwrap().len(), 3);
        assert!(queue.waiting().urgent.is_none());
    }

    #[test]
    fn what_nobody_waits_for_is_written_all_the_same() {
        let queue = Queue::default();
        push(&queue, false);
        assert_eq!(queue.next_group().unwrap().len(), 1);
    }

    /// The second one comes from another thread while the first is waited for; it would be too late without the
    /// expectation, and an expectation that comes to nothing holds up nobody for long.
    #[test]
    fn what_is_expected_comes_into_the_same_group() {
        let queue = Arc::new(Queue::default());
        let expectation = Expectation::of(&queue);
        assert_eq!(queue.waiting().expected, 1);
        push(&queue, true);
        assert!(queue.push(request(true), Some(expectation)));
        assert_eq!(queue.waiting().expected, 0);
        assert_eq!(queue.next_group().unwrap().len(), 2);

        let in_vain = Expectation::of(&queue);
        push(&queue, true);
        assert_eq!(queue.next_group().unwrap().len(), 1);
        drop(in_vain);
        assert_eq!(queue.waiting().expected, 0);
    }

    #[test]
    fn a_group_has_its_limit_and_the_rest_stays_urgent() {
        let queue = Queue::default();
        for _ in 0..=MAX_GROUP {
            push(&queue, true);
        }
        assert_eq!(queue.next_group().unwrap().len(), MAX_GROUP);
        assert!(queue.waiting().urgent.is_some());
        assert_eq!(queue.next_group().unwrap().len(), 1);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let queue = Queue::default();
        push(&queue, false);
        queue.close();
        assert!(!queue.push(request(true), None));
        assert_eq!(queue.next_group().unwrap().len(), 1);
        assert!(queue.next_group().is_none());

        let queue = Queue::default();
        push(&queue, true);
        queue.abandon();
        assert!(queue.next_group().is_none());
    }
}
