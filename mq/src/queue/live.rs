//! A message in a queue, and where it stands. Pure.

use crate::{batch::Place, message::Millis};

/// A message in a queue. There may be millions: it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) place: Place,
    /// The due time; of a dead letter, the time of death.
    pub(crate) due: Millis,
    /// In milliseconds; 0: the topic's.
    pub(crate) ttr: u32,
    /// Failed deliveries.
    pub(crate) retries: u16,
    pub(crate) priority: u8,
    pub(super) phase: Phase,
}

/// Priority, falling, and then due time, rising, in one number: half of what two take among millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u64);

impl Rank {
    /// Enough for two million years.
    const TIME: u32 = 56;

    pub(super) fn new(priority: u8, due: Millis) -> Self {
        Self(u64::from(u8::MAX - priority) << Self::TIME | due.min((1 << Self::TIME) - 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    Delayed,
    Leased,
    /// Another message of its group comes first.
    Held,
}

/// One delivery that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) number: u64,
    pub(crate) expires: Millis,
    /// If it ends by itself, the message is dead at once.
    pub(crate) is_begun: bool,
}

/// A message's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    Delayed,
    Held,
    Leased(Lease),
    Dead(String),
}

/// Messages of each standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) held: u64,
    pub(crate) leased: u64,
    pub(crate) dead: u64,
}

impl Live {
    pub(crate) fn new(place: Place, priority: u8, ttr: u32) -> Self {
        Self { place, due: 0, ttr, retries: 0, priority, phase: Phase::Ready }
    }
}
