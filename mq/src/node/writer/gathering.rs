//! Decides whether to wait a little before a sync, so that it serves more callers. Pure.
//!
//! Callers that push again as soon as they are answered would else meet in two halves, each of which waits for the sync of
//! the other: half of the disk's rate. Like `commit_delay` of PostgreSQL, but found out instead of configured.

use std::time::Duration;

/// Measurements of the last groups.
#[derive(Debug, Default)]
pub(in crate::node) struct Gathering {
    /// How long a sync takes, smoothed.
    sync: Duration,
    /// How many callers there are, as far as is known.
    callers: usize,
    /// Number of groups that go without waiting.
    pause: u32,
    /// The same number after the next wait in vain.
    next_pause: u32,
}

/// Waiting that was in vain is tried again after so many groups at the latest.
const LONGEST_PAUSE: u32 = 1024;
const FIRST_PAUSE: u32 = 8;

impl Gathering {
    pub(super) fn synced(&mut self, took: Duration) {
        self.sync = if self.sync.is_zero() { took } else { (self.sync * 7 + took) / 8 };
    }

    /// Notes a group: the callers that were answered, and those that came meanwhile.
    pub(super) fn answered(&mut self, answered: usize, came: usize) {
        self.callers = answered + came;
        self.pause = self.pause.saturating_sub(1);
    }

    /// How many callers to wait for when so many are there, and how long at most.
    pub(super) fn worth_waiting_for(&self, there: usize) -> Option<(usize, Duration)> {
        (self.pause == 0 && there > 0 && there < self.callers).then(|| (self.callers, self.sync / 2))
    }

    /// Notes whether all of the callers came in time.
    pub(super) fn waited(&mut self, all_came: bool) {
        if all_came {
            self.next_pause = FIRST_PAUSE;
        } else {
            self.pause = self.next_pause.max(FIRST_PAUSE);
            self.next_pause = (2 * self.pause).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_who_come_back_are_waited_for() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.worth_waiting_for(1), None);
        gathering.synced(Duration::from_micros(400));
        gathering.answered(40, 24);
        assert_eq!(gathering.worth_waiting_for(10), Some((64, Duration::from_micros(200))));
        gathering.waited(true);
        gathering.answered(64, 0);
        assert_eq!((gathering.worth_waiting_for(64), gathering.worth_waiting_for(0)), (None, None));
    }

    #[test]
    fn waiting_in_vain_becomes_rare() {
        let mut gathering = Gathering::default();
        gathering.synced(Duration::from_micros(400));
        let mut waits = 0;
        for _ in 0..10_000 {
            gathering.answered(5, 5);
            if gathering.worth_waiting_for(5).is_some() {
                waits += 1;
                gathering.waited(false);
            }
        }
        assert!((10..20).contains(&waits), "{waits}");
    }
}
