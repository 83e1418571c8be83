//! Which methods compute too long to be polled on a connection's task. Pure: durations come in as arguments.
//!
//! Reading the clock around every poll would cost more than many methods do. So only the first polls of a method are timed,
//! and then, while nothing takes long, none: a batch of polls that took long as a whole makes its connection time each of
//! the next ones.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// A poll that takes longer delays other calls too much.
pub(crate) const LONG: Duration = Duration::from_micros(200);

/// What is known of one method. Shared by all connections; races only delay what is learned.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU8);

/// How many polls in a row show that a method is fast.
const PROBES: u8 = 4;
/// The same for a method that was slow, timed on the pool.
const SLOW_PROBES: u8 = 64;
/// It took long once. The thread may have waited for a processor: the next poll tells, timed without such waiting.
const SUSPECT: u8 = 50;
const SLOW: u8 = 100;
const ALWAYS_SLOW: u8 = 255;

impl Pace {
    /// A method whose author says that it computes is slow for ever.
    pub(crate) fn new(compute: bool) -> Self {
        Self(AtomicU8::new(if compute { ALWAYS_SLOW } else { PROBES }))
    }

    /// Whether it runs on the pool.
    #[inline]
    pub(crate) fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= SLOW
    }

    /// Whether a poll in place is to be timed.
    #[inline]
    pub(crate) fn is_probed(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether a poll is to be timed by what the thread itself spends.
    #[inline]
    pub(crate) fn is_suspect(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= SUSPECT
    }

    /// A poll took so long.
    pub(crate) fn observe(&self, took: Duration) {
        let state = self.0.load(Ordering::Relaxed);
        let next = match state {
            ALWAYS_SLOW => return,
            SUSPECT.. if took > LONG => SLOW + SLOW_PROBES,
            _ if took > LONG => SUSPECT,
            SLOW | SUSPECT => PROBES,
            0 => 0,
            counted => counted - 1,
        };
        self.0.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(5);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_fast_method_is_soon_left_alone() {
        let pace = Pace::new(false);
        for _ in 0..PROBES {
            assert!(pace.is_probed() && !pace.is_slow());
            pace.observe(SHORT);
        }
        assert!(!pace.is_probed() && !pace.is_slow());
    }

    #[test]
    fn two_long_polls_are_enough_and_many_short_ones_are_needed_to_forgive() {
        let pace = Pace::new(false);
        pace.observe(MS);
        assert!(pace.is_suspect() && pace.is_probed() && !pace.is_slow());
        pace.observe(SHORT);
        assert!(!pace.is_suspect() && pace.is_probed(), "the thread had to wait");
        pace.observe(MS);
        pace.observe(MS);
        for _ in 0..=SLOW_PROBES {
            assert!(pace.is_slow());
            pace.observe(SHORT);
        }
        assert!(!pace.is_slow() && pace.is_probed());
    }

    #[test]
    fn the_author_knows_best() {
        let pace = Pace::new(true);
        (0..1000).for_each(|_| pace.observe(SHORT));
        assert!(pace.is_slow());
    }
}
