//! Cleaning of a log on a full disk, where records of leases, failed deliveries and settings use up the space that acks need.
//! Pure.
//!
//! Segments are freed strictly oldest first. So recent records are reclaimed when all older segments have been cleaned:
//! one round through the log. A round costs as much writing as there is live data, so the next one begins only when enough was
//! written, or is needed no more.

/// Rounds through the log.
#[derive(Debug, Default)]
pub(in crate::node) struct Reclaim {
    /// The last segment of the round, if one is under way.
    last: Option<u32>,
    /// Reclaimable bytes, of all time, when the last round began.
    began_at: Option<u64>,
}

impl Reclaim {
    /// Returns true if the oldest segment is to be cleaned. `current` is the segment that is written; `reclaimable` counts the
    /// bytes of all time that are, or will be, needed no more; a round is worth `enough` of them.
    pub(super) fn is_worth(&mut self, oldest: u32, current: u32, reclaimable: u64, enough: u64) -> bool {
        if self.last.is_some_and(|last| oldest > last) {
            self.last = None;
        }
        // After a start nobody knows what there is to reclaim.
        if self.last.is_none() && self.began_at.is_none_or(|began_at| reclaimable.saturating_sub(began_at) >= enough) {
            self.last = Some(current);
            self.began_at = Some(reclaimable);
        }
        self.last.is_some()
    }

    /// There is space again.
    pub(super) fn end(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_behind_the_segment_that_was_current_and_the_next_needs_something_to_reclaim() {
        let mut reclaim = Reclaim::default();
        for (oldest, current, reclaimable, worth) in [
            (1, 4, 0, true),
            (3, 6, 50, true),
            (4, 7, 50, true),
            (5, 8, 50, false),
            (5, 8, 99, false),
            (5, 8, 100, true),
            (8, 9, 120, true),
            (9, 9, 120, false),
        ] {
            assert_eq!(reclaim.is_worth(oldest, current, reclaimable, 100), worth, "{oldest} {reclaimable}");
        }
    }
}
