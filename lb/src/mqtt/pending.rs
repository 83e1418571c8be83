//! Requests that wait for answers: a bounded table, whose entries expire in the order in which they came. Pure.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

/// Waiting requests by the number of their session. All wait equally long.
#[derive(Debug)]
pub(super) struct Pending<T> {
    waiting: HashMap<u64, T>,
    /// Sessions in the order in which they expire; some have been taken.
    order: VecDeque<(Instant, u64)>,
    next: u64,
    most: usize,
}

impl<T> Pending<T> {
    /// At most this many wait at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new(), next: 0, most }
    }

    /// Enters a request, which expires no sooner than those before it; returns its session. `None`: too many wait.
    pub(super) fn insert(&mut self, due: Instant, request: T) -> Option<u64> {
        if self.waiting.len() >= self.most {
            return None;
        }
        self.next += 1;
        self.waiting.insert(self.next, request);
        self.order.push_back((due, self.next));
        Some(self.next)
    }

    /// Takes the request of a session out.
    pub(super) fn take(&mut self, session: u64) -> Option<T> {
        let taken = self.waiting.remove(&session);
        self.forget_taken();
        taken
    }

    /// Drops taken sessions from the front of the order, and all of them once they are the larger part.
    fn forget_taken(&mut self) {
        while self.order.front().is_some_and(|(_, session)| !self.waiting.contains_key(session)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.most {
            self.order.retain(|(_, session)| self.waiting.contains_key(session));
        }
    }

    /// Time at which the first one expires.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.front().map(|(due, _)| *due)
    }

    /// Takes out what has expired.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some((_, session)) = self.order.pop_front_if(|(due, _)| *due <= now) {
            expired.extend(self.waiting.remove(&session));
        }
        self.forget_taken();
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_taken_once_or_expire_in_order() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut pending = Pending::new(3);
        let sessions: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .enumerate()
            .map(|(index, request)| pending.insert(now + second * (index as u32 + 1), request).unwrap())
            .collect();
        assert_eq!(pending.insert(now + second * 4, "d"), None, "the table is full");
        assert_eq!(pending.take(sessions[0]), Some("a"));
        assert_eq!(pending.take(sessions[0]), None);
        assert_eq!(pending.next_due(), Some(now + second * 2));
        assert_eq!(pending.expired(now + second), Vec::<&str>::new());
        assert!(pending.insert(now + second * 4, "d").is_some());
        assert_eq!(pending.expired(now + second * 3), ["b", "c"]);
        assert_eq!(pending.take(sessions[1]), None);
        assert_eq!(pending.next_due(), Some(now + second * 4));
    }

    #[test]
    fn one_that_waits_long_keeps_no_others_in_memory() {
        let now = Instant::now();
        let mut pending = Pending::new(4);
        let _first = pending.insert(now, 0).unwrap();
        for number in 1..1_000 {
            let session = pending.insert(now, number).unwrap();
            assert_eq!(pending.take(session), Some(number));
        }
        assert!(pending.order.len() <= 9, "{}", pending.order.len());
    }
}
