//! Rate of a queue's deliveries. Pure: time comes in as an argument.

use crate::{Rate, message::Millis};

/// Token bucket. It holds `messages` tokens of `per_ms` units each, and gains `messages` units in a millisecond.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Units that were taken and have not come back.
    taken: u64,
    /// The time of the last change.
    at: Millis,
}

impl Pace {
    fn capacity(rate: Rate) -> u64 {
        u64::from(rate.messages) * u64::from(rate.per_ms)
    }

    fn taken_at(&self, rate: Rate, now: Millis) -> u64 {
        let gained = now.saturating_sub(self.at).saturating_mul(rate.messages.into());
        // The rate may have been another one.
        self.taken.saturating_sub(gained).min(Self::capacity(rate))
    }

    /// Messages that may be delivered now.
    pub(crate) fn available(&self, rate: Rate, now: Millis) -> u64 {
        (Self::capacity(rate) - self.taken_at(rate, now)) / u64::from(rate.per_ms.max(1))
    }

    /// Counts deliveries.
    pub(crate) fn take(&mut self, rate: Rate, messages: u64, now: Millis) {
        self.taken = self.taken_at(rate, now) + messages * u64::from(rate.per_ms);
        self.at = now;
    }

    /// A delivery reached nobody.
    pub(crate) fn give_back(&mut self, rate: Rate, now: Millis) {
        self.taken = self.taken_at(rate, now).saturating_sub(rate.per_ms.into());
        self.at = now;
    }

    /// The time at which a message may be delivered, if none may now.
    pub(crate) fn next(&self, rate: Rate, now: Millis) -> Option<Millis> {
        let least = Self::capacity(rate) - u64::from(rate.per_ms);
        let missing = self.taken_at(rate, now).checked_sub(least).filter(|missing| *missing > 0)?;
        Some(now + missing.div_ceil(rate.messages.max(1).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_evenly() {
        let (rate, mut pace, mut now) = (Rate { messages: 3, per_ms: 1000 }, Pace::default(), 1_000_000);
        assert_eq!((pace.available(rate, now), pace.next(rate, now)), (3, None));
        pace.take(rate, 3, now);
        assert_eq!((pace.available(rate, now), pace.next(rate, now)), (0, Some(now + 334)));
        now += 334;
        assert_eq!(pace.available(rate, now), 1);
        pace.take(rate, 1, now);
        pace.give_back(rate, now);
        assert_eq!(pace.available(rate, now), 1);
        pace.take(rate, 1, now);
        let mut delivered = 0;
        for _ in 0..10_000 {
            now += 1;
            let available = pace.available(rate, now);
            pace.take(rate, available, now);
            delivered += available;
        }
        assert_eq!(delivered, 30);
        assert_eq!(pace.available(rate, now + 100_000), 3);
    }

    #[test]
    fn another_rate_counts_at_once() {
        let (fast, slow, mut pace) = (Rate::per_second(1000), Rate { messages: 1, per_ms: 60_000 }, Pace::default());
        pace.take(fast, 1000, 5);
        assert_eq!(pace.next(slow, 5), Some(60_005));
        assert_eq!(pace.next(fast, 6), None);
    }
}
