//! Whether a failed attempt is followed by another. Pure: time comes in as an argument.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use crate::{Code, Outcome, Status};

/// Attempts of one call, the first included.
pub(crate) const ATTEMPTS: u32 = 3;

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The failure is the call's result.
    GiveUp,
    /// Elsewhere, at once: nothing was sent, so no load was caused.
    AtOnce,
    /// Elsewhere, after a back-off, if the budget allows it.
    WithinBudget,
}

/// Judges a failed attempt by what is known of its execution.
pub(crate) fn judge(status: &Status, idempotent: bool) -> Verdict {
    match (status.outcome(), status.code()) {
        (Outcome::NotSent, Code::Unavailable) => Verdict::AtOnce,
        // Shed, or not served there. A rate limit is not: trying elsewhere would only get around it.
        (Outcome::Refused, Code::Unavailable | Code::Unimplemented) => Verdict::WithinBudget,
        (Outcome::Unknown, Code::Unavailable) if idempotent => Verdict::WithinBudget,
        _ => Verdict::GiveUp,
    }
}

/// The wait before the next attempt: anything up to 50 ms, then 100 ms, and so on to 1 s.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let most = Duration::from_millis(50).saturating_mul(1 << attempt.min(10)).min(Duration::from_secs(1));
    most.mul_f64(fastrand::f64())
}

/// How many retries a service's callers may cause: 10 % of the calls and 3 a second, which are saved up to a cap. So an
/// outage is never answered with a multiple of the load for long. What is saved is for the calls that one dying instance
/// loses at the same moment: as many as it had in flight.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In thousandths of a retry.
    saved: AtomicI64,
    /// The time up to which the share per second was added, in milliseconds.
    credited: AtomicU64,
}

impl Budget {
    const RETRY: i64 = 1000;
    /// At the start.
    const FEW: i64 = 10 * Self::RETRY;
    const MOST: i64 = 1000 * Self::RETRY;
    const PER_CALL: i64 = Self::RETRY / 10;
    const PER_MILLISECOND: i64 = 3 * Self::RETRY / 1000;

    /// 10 retries.
    pub(crate) fn new() -> Self {
        Self { saved: AtomicI64::new(Self::FEW), credited: AtomicU64::new(0) }
    }

    /// A call was made.
    #[inline]
    pub(crate) fn deposit(&self) {
        if self.saved.load(Ordering::Relaxed) < Self::MOST {
            self.add(Self::PER_CALL);
        }
    }

    /// Whether a retry may be made now, `since_start` after the budget was made.
    pub(crate) fn withdraw(&self, since_start: Duration) -> bool {
        let now = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        let before = self.credited.fetch_max(now, Ordering::Relaxed);
        let elapsed = i64::try_from(now.saturating_sub(before)).unwrap_or(i64::MAX);
        self.add(elapsed.saturating_mul(Self::PER_MILLISECOND));
        let take = |saved: i64| (saved >= Self::RETRY).then_some(saved - Self::RETRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many retries are saved up.
    pub(crate) fn saved(&self) -> f64 {
        self.saved.load(Ordering::Relaxed) as f64 / Self::RETRY as f64
    }

    fn add(&self, amount: i64) {
        let added = |saved: i64| Some(saved.saturating_add(amount).min(Self::MOST));
        // It never refuses.
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: Code, outcome: Outcome, idempotent: bool) -> Verdict {
        judge(&Status::new(code, "").with_outcome(outcome), idempotent)
    }

    #[test]
    fn only_what_was_not_executed_or_may_be_twice_is_tried_again() {
        use Verdict::*;
        for idempotent in [false, true] {
            assert_eq!(verdict(Code::Unavailable, Outcome::NotSent, idempotent), AtOnce);
            assert_eq!(verdict(Code::InvalidArgument, Outcome::NotSent, idempotent), GiveUp);
            assert_eq!(verdict(Code::Unavailable, Outcome::Refused, idempotent), WithinBudget);
            assert_eq!(verdict(Code::Unimplemented, Outcome::Refused, idempotent), WithinBudget);
            assert_eq!(verdict(Code::ResourceExhausted, Outcome::Refused, idempotent), GiveUp);
            assert_eq!(verdict(Code::Unavailable, Outcome::Answered, idempotent), GiveUp);
            assert_eq!(verdict(Code::DeadlineExceeded, Outcome::Unknown, idempotent), GiveUp);
        }
        assert_eq!(verdict(Code::Unavailable, Outcome::Unknown, false), GiveUp);
        assert_eq!(verdict(Code::Unavailable, Outcome::Unknown, true), WithinBudget);
    }

    #[test]
    fn the_budget_is_a_tenth_of_the_calls_and_3_a_second() {
        let budget = Budget::new();
        let retries = |now: u64| (0..2000).filter(|_| budget.withdraw(Duration::from_millis(now))).count();
        assert_eq!(retries(0), 10, "it starts with a few");
        (0..50).for_each(|_| budget.deposit());
        assert_eq!(retries(0), 5);
        assert_eq!(retries(1000), 3);
        assert_eq!(retries(61_000), 180);
        (0..20_000).for_each(|_| budget.deposit());
        assert_eq!(retries(61_000), 1000, "no more are saved up");
        assert_eq!(retries(59_000), 0, "a clock that steps back credits nothing");
    }

    #[test]
    fn the_back_off_has_a_cap() {
        for attempt in 0..100 {
            assert!(backoff(attempt) <= Duration::from_secs(1));
        }
        assert!(backoff(0) <= Duration::from_millis(50));
    }
}
