//! Retries: the verdict over a failed attempt, back-off and budget. Pure: time is an argument.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use super::config::RetryConfig;
use crate::{Code, Outcome, Status};

/// Consequence of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The failure is the call's result.
    GiveUp,
    /// Another attempt elsewhere, at once: nothing was sent, so no load was caused.
    AtOnce,
    /// Another attempt elsewhere, at once and outside the budget, the first time; then the failure is the result. The
    /// instance does not serve the method, as during an update; a second such answer says that none does.
    OnceElsewhere,
    /// Another attempt elsewhere, after a back-off, if the budget allows it.
    WithinBudget,
}

/// Judges a failed attempt by what is known of its execution.
pub(crate) fn judge(status: &Status, idempotent: bool) -> Verdict {
    match (status.outcome(), status.code()) {
        (Outcome::NotSent, Code::Unavailable) => Verdict::AtOnce,
        (Outcome::Refused, Code::Unimplemented) => Verdict::OnceElsewhere,
        // Shed. A rate limit is not: trying elsewhere would only get around it.
        (Outcome::Refused, Code::Unavailable) => Verdict::WithinBudget,
        (Outcome::Unknown, Code::Unavailable) if idempotent => Verdict::WithinBudget,
        _ => Verdict::GiveUp,
    }
}

/// Failed attempts of one call.
#[derive(Debug)]
pub(crate) struct Failures<'a> {
    config: &'a RetryConfig,
    attempts: u32,
    /// Outcome of the attempt that came farthest: an attempt that may have been executed is never forgotten.
    worst: Outcome,
    /// An attempt was refused as unimplemented.
    unimplemented: bool,
}

impl<'a> Failures<'a> {
    pub(crate) fn new(config: &'a RetryConfig) -> Self {
        Self { config, attempts: 0, worst: Outcome::NotSent, unimplemented: false }
    }

    /// Notes a failed attempt and judges it.
    pub(crate) fn judge(&mut self, status: &Status, idempotent: bool) -> Verdict {
        self.attempts += 1;
        self.worst = self.worst.max(status.outcome());
        match judge(status, idempotent) {
            _ if self.attempts >= self.config.attempts => Verdict::GiveUp,
            Verdict::OnceElsewhere if std::mem::replace(&mut self.unimplemented, true) => Verdict::GiveUp,
            verdict => verdict,
        }
    }

    /// Back-off before the next attempt; never shorter than the retry-after of a server that sheds load.
    pub(crate) fn pause(&self, status: &Status) -> Duration {
        backoff(self.config, self.attempts.saturating_sub(1)).max(status.retry_after().unwrap_or_default())
    }

    /// The call's result: the last failure, with the outcome of the attempt that came farthest, and the instance tried last.
    pub(crate) fn result(&self, last: Status, instance: &str) -> Status {
        let outcome = self.worst.max(last.outcome());
        last.with_outcome(outcome).with_instance(instance)
    }
}

/// Random wait before the next attempt, up to a time that doubles with each (full jitter).
fn backoff(config: &RetryConfig, attempt: u32) -> Duration {
    let most = config.first_backoff.saturating_mul(1 << attempt.min(10)).min(config.longest_backoff);
    most.mul_f64(fastrand::f64())
}

/// Budget of retries that the callers of one service share: 10 % of the calls and 3 a second by default, saved up to a bound.
/// So an outage is never answered with a multiple of the load for long. The saved ones are for the calls that one dying
/// instance loses at the same moment: as many as it had in flight.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In thousandths of a retry.
    saved: AtomicI64,
    /// The time up to which the share per second was added, in milliseconds.
    credited: AtomicU64,
    most: i64,
    per_call: i64,
    /// In thousandths of a retry for each 1,000 ms.
    per_second: i64,
}

impl Budget {
    const RETRY: i64 = 1000;

    pub(crate) fn new(config: &RetryConfig) -> Self {
        let of = |retries: f64| (retries * Self::RETRY as f64) as i64;
        Self {
            saved: AtomicI64::new(of(config.budget_initial.into())),
            credited: AtomicU64::new(0),
            most: of(config.budget_most.into()),
            per_call: of(config.budget_per_call),
            per_second: of(config.budget_per_second),
        }
    }

    /// Adds the share of a call.
    #[inline]
    pub(crate) fn deposit(&self) {
        if self.saved.load(Ordering::Relaxed) < self.most {
            self.add(self.per_call);
        }
    }

    /// Takes a retry at `since_start`, the time since the budget was made; false if nothing is left.
    pub(crate) fn withdraw(&self, since_start: Duration) -> bool {
        let now = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        let before = self.credited.fetch_max(now, Ordering::Relaxed);
        let elapsed = i64::try_from(now.saturating_sub(before)).unwrap_or(i64::MAX);
        self.add(elapsed.saturating_mul(self.per_second) / 1000);
        let take = |saved: i64| (saved >= Self::RETRY).then_some(saved - Self::RETRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// How many retries are saved up.
    pub(crate) fn saved(&self) -> f64 {
        self.saved.load(Ordering::Relaxed) as f64 / Self::RETRY as f64
    }

    fn add(&self, amount: i64) {
        let added = |saved: i64| Some(saved.saturating_add(amount).min(self.most));
        // `added` is never `None`, so the update cannot fail.
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }
}

#[cfg(test)]
mod tests;
