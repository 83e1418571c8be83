//! Learns which methods compute or block too long to be polled on a connection's task. Pure: readings come in as arguments.
//!
//! Reading the clock around every poll would cost more than many methods do. So only the first polls of a method are timed,
//! and then, while nothing takes long, none: a batch of polls that took long as a whole makes its connection time each of
//! the next ones. Without it, one method that takes 1 ms delays every other call of its connection (see `pool`).

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use super::stopwatch::Spent;

/// A poll that takes longer delays other calls too much.
pub(crate) const LONG: Duration = Duration::from_micros(200);

/// A poll in which the thread slept for so long blocks beyond doubt: one is enough.
const BLOCKED: Duration = Duration::from_millis(5);

/// Threads that a method's polls belong on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// On the connection's task.
    InPlace,
    /// On as many threads as there are cores.
    Compute,
    /// On many threads, most of which sleep.
    Blocking,
}

/// Knowledge about one method. Shared by all connections; races only delay the learning.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU8);

/// Number of polls in a row that show that a method is fast.
const PROBES: u8 = 4;
/// The same for a method that was slow, timed on a pool.
const SLOW_PROBES: u8 = 64;
/// State after one long poll: the thread may have waited for a processor, so the next poll decides.
const SUSPECT: u8 = 50;
const COMPUTES: u8 = 100;
const BLOCKS: u8 = 170;
const ALWAYS_BLOCKS: u8 = 254;
const ALWAYS_COMPUTES: u8 = 255;

impl Pace {
    /// `always`: where its author says that it runs.
    pub(crate) fn new(always: Threads) -> Self {
        Self(AtomicU8::new(match always {
            Threads::InPlace => PROBES,
            Threads::Compute => ALWAYS_COMPUTES,
            Threads::Blocking => ALWAYS_BLOCKS,
        }))
    }

    /// Threads that the next poll belongs on.
    #[inline]
    pub(crate) fn threads(&self) -> Threads {
        match self.0.load(Ordering::Relaxed) {
            0..COMPUTES => Threads::InPlace,
            COMPUTES..BLOCKS | ALWAYS_COMPUTES => Threads::Compute,
            BLOCKS..=ALWAYS_BLOCKS => Threads::Blocking,
        }
    }

    /// Returns true if a poll in place is to be timed, with the thread's usage.
    #[inline]
    pub(crate) fn is_probed(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Notes what a poll took.
    pub(crate) fn observe(&self, spent: &Spent) {
        let state = self.0.load(Ordering::Relaxed);
        let blocks = spent.slept && spent.cpu < spent.wall / 2;
        let next = match state {
            ALWAYS_BLOCKS | ALWAYS_COMPUTES => return,
            _ if blocks && spent.wall >= BLOCKED => BLOCKS + SLOW_PROBES,
            SUSPECT.. if blocks && spent.wall > LONG => BLOCKS + SLOW_PROBES,
            SUSPECT..BLOCKS if spent.cpu > LONG => COMPUTES + SLOW_PROBES,
            0..SUSPECT if spent.wall > LONG => SUSPECT,
            COMPUTES | BLOCKS | SUSPECT => PROBES,
            0 => 0,
            counted => counted - 1,
        };
        self.0.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
