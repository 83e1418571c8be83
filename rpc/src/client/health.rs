//! How an instance has answered lately, and whether it is left out for a while. Time comes in as an argument.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// So many calls in a row without an answer eject an instance.
const FAILURES: u32 = 5;
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of one instance's answers.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Calls without an answer since the last that had one.
    failures: AtomicU32,
    ejection: Mutex<Ejection>,
}

#[derive(Debug, Default)]
struct Ejection {
    until: Option<Instant>,
    /// How many in a row, each twice as long as the one before.
    times: u32,
}

impl Health {
    /// An answer came, of whatever kind.
    #[inline]
    pub(crate) fn answered(&self) {
        // Reading is cheap while nobody writes.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// No answer came. True: that was one too many.
    pub(crate) fn unanswered(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES
    }

    /// Leaves the instance out from `now` on; returns for how long. After a time as long as the longest without an
    /// ejection they begin with the shortest again.
    pub(crate) fn eject(&self, now: Instant) -> Duration {
        let mut ejection = self.lock();
        if ejection.until.is_none_or(|until| until + LONGEST < now) {
            ejection.times = 0;
        }
        let time = FIRST.saturating_mul(1 << ejection.times.min(10)).min(LONGEST);
        ejection.times = ejection.times.saturating_add(1);
        ejection.until = Some(now + time);
        self.failures.store(0, Ordering::Relaxed);
        time
    }

    /// The server behind it has started anew: what was known of it is void.
    pub(crate) fn forget(&self) {
        *self.lock() = Ejection::default();
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Until when it is left out, if it is at `now`.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.lock().until.filter(|until| *until > now)
    }

    fn lock(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more of so many instances may be left out: never more than half of them, and so never the last.
pub(crate) fn may_eject(ejected: usize, of: usize) -> bool {
    (ejected + 1) * 2 <= of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_row_are_too_many() {
        let health = Health::default();
        assert!((0..4).all(|_| !health.unanswered()));
        health.answered();
        assert!((0..4).all(|_| !health.unanswered()));
        assert!(health.unanswered());
    }

    #[test]
    fn each_ejection_is_twice_as_long_up_to_a_minute() {
        let (health, mut now) = (Health::default(), Instant::now());
        assert_eq!(health.ejected_until(now), None);
        for seconds in [5, 10, 20, 40, 60, 60] {
            let time = health.eject(now);
            assert_eq!(time.as_secs(), seconds);
            assert_eq!(health.ejected_until(now), Some(now + time));
            now += time;
            assert_eq!(health.ejected_until(now), None);
        }
        now += LONGEST + FIRST;
        assert_eq!(health.eject(now), FIRST, "that was long ago");
        health.forget();
        assert_eq!(health.ejected_until(now), None);
        assert_eq!(health.eject(now), FIRST);
    }

    #[test]
    fn never_more_than_half_and_never_the_last() {
        let most = |of| (0..).take_while(|ejected| may_eject(*ejected, of)).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(most), [0, 0, 1, 1, 2, 2]);
    }
}
