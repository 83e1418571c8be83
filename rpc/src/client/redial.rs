//! Pauses between dials of a slot without a connection. Pure: time and chance are arguments.
//!
//! Many clients lose one server at the same moment. The first dial after a loss comes at a random time within
//! [`first`](RedialConfig::first), and so spreads them out: at that time and not at the next call, which would bunch them again.
//! From then on it depends on whether calls wait: if none of the service's
//! instances is connected, each dials once in that time, and thus stays spread out; else the pauses grow 1.6-fold to 10 s,
//! each drawn from its whole length (full jitter). A server that accepts and closes at once counts as a failed dial, and one
//! that belongs to another scope is left alone for the longest pause, or until the registry's list changes.

use std::time::Duration;

use tokio::time::Instant;

use super::config::RedialConfig;

#[derive(Debug, Default)]
pub(crate) struct Redial {
    failures: u32,
    /// No dial before this while others serve.
    at_ease: Option<Instant>,
    /// No dial before this while calls wait.
    urgently: Option<Instant>,
}

impl Redial {
    /// A connection that lived for less was as good as a failed dial.
    const SHORT_LIFE: Duration = Duration::from_secs(1);

    /// Returns true if the slot may be dialled. `urgent`: calls wait, and no instance of the service is connected.
    pub(crate) fn is_due(&self, urgent: bool, now: Instant) -> bool {
        let time = if urgent { self.urgently } else { self.at_ease };
        time.is_none_or(|time| time <= now)
    }

    /// A dial failed that began at `began`. `chance` is at least 0 and below 1.
    pub(crate) fn failed(&mut self, config: &RedialConfig, began: Instant, now: Instant, chance: f64) {
        self.urgently = Some(match self.urgently {
            Some(_) => began + config.first,
            None => now + config.first.mul_f64(chance),
        });
        self.at_ease = Some(now + self.pause(config).mul_f64(chance));
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes the end of a connection that had lived for `lived`; returns the time of the next dial that no call asks for.
    pub(crate) fn lost(&mut self, config: &RedialConfig, lived: Duration, now: Instant, chance: f64) -> Instant {
        let lived_long = lived >= Self::SHORT_LIFE;
        if lived_long {
            self.failures = 0;
        }
        let (first, at_ease) = (now + config.first.mul_f64(chance), now + self.pause(config).mul_f64(chance));
        self.urgently = Some(first);
        self.at_ease = Some(at_ease);
        self.failures = self.failures.saturating_add(1);
        if lived_long { first } else { at_ease }
    }

    /// Notes a server that does not belong to the registry's scope: even calls that wait do not dial it before the longest
    /// pause is over.
    pub(crate) fn misplaced(&mut self, config: &RedialConfig, now: Instant) {
        self.urgently = Some(now + config.longest);
        self.at_ease = self.urgently;
    }

    /// Permits a dial at once.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn pause(&self, config: &RedialConfig) -> Duration {
        config.first.mul_f64(1.6f64.powi(self.failures.min(20).cast_signed())).min(config.longest)
    }
}

#[cfg(test)]
mod tests;
