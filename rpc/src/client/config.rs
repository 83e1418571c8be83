//! Settings of a client's connections and attempts, and their ranges.

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    time::Duration,
};

pub use crate::proto::KeepaliveConfig;
use crate::{Code, Outcome, Status};

/// Setting of a client that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {reason}")]
#[non_exhaustive]
pub struct ConfigError {
    /// Name of the setting, such as `redial.longest`.
    pub field: &'static str,
    /// The value, and the range to keep to.
    pub reason: String,
}

/// A call or connection that such a setting keeps from being made fails with `InvalidArgument`, unsent.
impl From<ConfigError> for Status {
    fn from(error: ConfigError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string()).with_outcome(Outcome::NotSent)
    }
}

/// Attempts of a call, and the budget of retries that the callers of one service share.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts of one call, the first included. Default 3; 1 (no retry) to 10. More multiply the load of an outage.
    pub attempts: u32,
    /// Longest back-off before the second attempt; it doubles with each further one. Default 50 ms; 1 ms to `longest_backoff`.
    /// Shorter ones meet the same overload again.
    pub first_backoff: Duration,
    /// Longest back-off of all. Default 1 s; up to 1 min. Longer ones rarely end before the deadline.
    pub longest_backoff: Duration,
    /// Retries that each call adds to the budget. Default 0.1; 0 to 1. At 1 an outage doubles the load.
    pub budget_per_call: f64,
    /// Retries that each second adds to the budget. Default 3; 0 to 1,000,000. At 0 a service that is called seldom has none.
    pub budget_per_second: f64,
    /// Retries in a new budget. Default 10; up to `budget_most`.
    pub budget_initial: u32,
    /// Retries that are saved up at most: as many as one dying instance had calls in flight. Default 1,000; 1 to 1,000,000.
    pub budget_most: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 3,
            first_backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(1),
            budget_per_call: 0.1,
            budget_per_second: 3.0,
            budget_initial: 10,
            budget_most: 1000,
        }
    }
}

/// Grace list of a service: instances that are called on although the registry lists them no more.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HoldConfig {
    /// Shortest time for which an instance is held. Default 10 s; 0 (only by `expiries`) to 1 h. Below 5 s the owners have not
    /// written again when a registry is back.
    pub shortest: Duration,
    /// The same in times of the registry's expiry, such as a lease's; the longer one counts. Default 2; 0 to 100. Both 0:
    /// every list is believed at once.
    pub expiries: u32,
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self { shortest: Duration::from_secs(10), expiries: 2 }
    }
}

/// Pauses between dials of an instance without a connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RedialConfig {
    /// Longest pause before the first dial after a loss, and between dials while calls wait. Default 900 ms; 10 ms to
    /// `longest`. Shorter ones make all clients of a restarted server connect at once.
    pub first: Duration,
    /// Longest pause of all: pauses grow 1.6-fold. Default 10 s; up to 1 h. For so long an instance that is back may get no
    /// calls.
    pub longest: Duration,
}

impl Default for RedialConfig {
    fn default() -> Self {
        Self { first: Duration::from_millis(900), longest: Duration::from_secs(10) }
    }
}

/// Bounds of a proxy: connections and names.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// Connections to each instance. Default 1; 1 to 64. More than 1 help where one core is too little for the framing.
    pub connections_per_instance: usize,
    /// Instances of one service that are connected; of a longer list each proxy connects another subset. Default 256; at least one.
    /// Their connections take at most half of the files that the process may open (`ulimit -n`), whatever stands here: the rest is
    /// for the program's own listeners and files. Keep the sum over all services below it.
    pub instances_per_service: usize,
    /// Names that are called although no instance is listed; a further one is refused. Default 1,000; at least 1. Each costs
    /// a task and a watch in the registry.
    pub unlisted_services: usize,
    /// Time after the last call for which such a name is followed. Default 60 s; 1 s to 1 h.
    pub forget_after: Duration,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            connections_per_instance: 1,
            instances_per_service: 256,
            unlisted_services: 1000,
            forget_after: Duration::from_secs(60),
        }
    }
}

/// Returns an error unless `value` is in the range.
pub(super) fn within<T: PartialOrd + Debug>(
    field: &'static str,
    value: T,
    range: impl RangeBounds<T>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let allowed = match (range.start_bound(), range.end_bound()) {
        (Bound::Included(least), Bound::Included(most)) => format!("{least:?} to {most:?}"),
        (Bound::Included(least), _) => format!("at least {least:?}"),
        _ => "another value".to_owned(),
    };
    Err(ConfigError { field, reason: format!("{value:?}: use {allowed}") })
}

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl RetryConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("retry.attempts", self.attempts, 1..=10)?;
        within("retry.longest_backoff", self.longest_backoff, MS..=MINUTE)?;
        within("retry.first_backoff", self.first_backoff, MS..=self.longest_backoff)?;
        within("retry.budget_per_call", self.budget_per_call, 0.0..=1.0)?;
        within("retry.budget_per_second", self.budget_per_second, 0.0..=1e6)?;
        within("retry.budget_most", self.budget_most, 1..=1_000_000)?;
        within("retry.budget_initial", self.budget_initial, 0..=self.budget_most)
    }
}

impl HoldConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("hold.shortest", self.shortest, Duration::ZERO..=HOUR)?;
        within("hold.expiries", self.expiries, 0..=100)
    }
}

impl RedialConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("redial.longest", self.longest, 10 * MS..=HOUR)?;
        within("redial.first", self.first, 10 * MS..=self.longest)
    }
}

impl DiscoveryConfig {
    /// Instances of one service that are connected, with `files` that the process may open.
    pub(super) fn most_instances(&self, files: usize) -> usize {
        self.instances_per_service.min((files / 2 / self.connections_per_instance.max(1)).max(1))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("discovery.connections_per_instance", self.connections_per_instance, 1..=64)?;
        within("discovery.instances_per_service", self.instances_per_service, 1..)?;
        within("discovery.unlisted_services", self.unlisted_services, 1..)?;
        within("discovery.forget_after", self.forget_after, 1000 * MS..=HOUR)
    }
}

pub(super) fn check_keepalive(keepalive: &KeepaliveConfig) -> Result<(), ConfigError> {
    within("keepalive.busy", keepalive.busy, 10 * MS..=HOUR)?;
    within("keepalive.idle", keepalive.idle, keepalive.busy..=24 * HOUR)?;
    within("keepalive.answer", keepalive.answer, 10 * MS..=HOUR)
}

#[cfg(test)]
mod tests;
