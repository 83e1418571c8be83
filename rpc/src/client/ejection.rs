//! Outlier ejection: an instance that leaves calls without an answer gets none for a while. Time is an argument.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::config::{ConfigError, within};

/// Settings of outlier ejection: an instance that leaves several calls in a row without an answer gets no calls for a while.
///
/// Only silence counts. An answer of any kind - an error, a refusal, a server's `DeadlineExceeded` - shows that the instance
/// is alive.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EjectionConfig {
    /// Calls in a row without an answer that eject an instance. Default 5; at least 1. With 1, a single lost call ejects;
    /// with hundreds, callers meet a dead instance for long.
    pub consecutive_failures: u32,
    /// Time of a first ejection; each further one lasts twice as long as the one before. Default 5 s; 1 ms to 1 h. A shorter
    /// time sends callers back before the instance can have restarted.
    pub first: Duration,
    /// Longest ejection, and the time without one after which the next is a first one again. Default 60 s; `first` to 24 h. A
    /// longer time keeps an instance out that has recovered.
    pub longest: Duration,
    /// Share of the instances that may be ejected at once; never the last. Default 0.5; 0 to 1, and 0 ejects none. With a
    /// higher share the few that remain carry the load of all.
    pub max_share: f64,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            first: Duration::from_secs(5),
            longest: Duration::from_secs(60),
            max_share: 0.5,
        }
    }
}

impl EjectionConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of its range, and the range.
    pub fn check(&self) -> Result<(), ConfigError> {
        const HOUR: Duration = Duration::from_secs(3600);
        within("ejection.consecutive_failures", self.consecutive_failures, 1..)?;
        within("ejection.first", self.first, Duration::from_millis(1)..=HOUR)?;
        within("ejection.longest", self.longest, self.first..=24 * HOUR)?;
        within("ejection.max_share", self.max_share, 0.0..=1.0)
    }

    /// Returns true if one more of `all` instances may be ejected.
    pub(crate) fn allows(&self, ejected: usize, all: usize) -> bool {
        ejected + 1 < all && (ejected + 1) as f64 <= all as f64 * self.max_share
    }
}

/// Ejection state of one instance.
#[derive(Debug, Default)]
pub(crate) struct EjectionState {
    /// Calls without an answer since the last answer.
    failures: AtomicU32,
    ejection: Mutex<Ejection>,
}

#[derive(Debug, Default)]
struct Ejection {
    until: Option<Instant>,
    /// Ejections in a row, each twice as long as the one before.
    times: u32,
}

impl EjectionState {
    /// Records an answer of any kind.
    #[inline]
    pub(crate) fn answered(&self) {
        // A read is cheap while no core writes.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Records a call without an answer; returns true if the instance is to be ejected.
    pub(crate) fn unanswered(&self, config: &EjectionConfig) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        before.saturating_add(1) >= config.consecutive_failures
    }

    /// Ejects the instance from `now` on; returns for how long.
    pub(crate) fn eject(&self, config: &EjectionConfig, now: Instant) -> Duration {
        let mut ejection = self.lock();
        if ejection.until.is_none_or(|until| until + config.longest < now) {
            ejection.times = 0;
        }
        let time = config.first.saturating_mul(1 << ejection.times.min(30)).min(config.longest);
        ejection.times = ejection.times.saturating_add(1);
        ejection.until = Some(now + time);
        self.failures.store(0, Ordering::Relaxed);
        time
    }

    /// Forgets everything: the server has restarted.
    pub(crate) fn forget(&self) {
        *self.lock() = Ejection::default();
        self.failures.store(0, Ordering::Relaxed);
    }

    /// End of the ejection, if the instance is ejected at `now`.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.lock().until.filter(|until| *until > now)
    }

    fn lock(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
