use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use crate::message::Millis;

/// A node's time: it never goes back.
pub(crate) trait Clock: fmt::Debug + Send + Sync {
    fn now(&self) -> Millis;
}

/// The wall's time when the node was opened, or the latest in its log if that is later; then steadily on, whatever is done
/// to the wall's clock.
#[derive(Debug)]
pub(crate) struct SteadyClock<T> {
    times: T,
    began: Duration,
    at: Millis,
}

/// Where a clock takes the time from.
pub(crate) trait Times: fmt::Debug + Send + Sync {
    /// Since 1970, as people set it.
    fn wall(&self) -> Duration;

    /// Since some moment. Nobody sets it.
    fn steady(&self) -> Duration;
}

impl<T: Times> SteadyClock<T> {
    pub(crate) fn after(logged: Millis, times: T) -> Self {
        let wall = u64::try_from(times.wall().as_millis()).unwrap_or(0);
        Self { began: times.steady(), at: wall.max(logged), times }
    }
}

impl<T: Times> Clock for SteadyClock<T> {
    fn now(&self) -> Millis {
        self.at + self.times.steady().saturating_sub(self.began).as_millis() as u64
    }
}

/// The machine's times.
#[derive(Debug)]
pub(crate) struct System(Instant);

impl System {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Times for System {
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn steady(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that tests set.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Manual(pub(crate) std::sync::Arc<std::sync::atomic::AtomicU64>);

#[cfg(test)]
impl Manual {
    pub(crate) fn advance(&self, milliseconds: Millis) {
        self.0.fetch_add(milliseconds, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for Manual {
    fn now(&self) -> Millis {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}
