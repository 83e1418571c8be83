use std::{
    fmt,
    time::{Instant, SystemTime},
};

use crate::message::Millis;

/// A node's time: it never goes back.
pub(crate) trait Clock: fmt::Debug + Send + Sync {
    fn now(&self) -> Millis;
}

/// The system's time when the node was opened, or the latest in its log if that is later; then steadily on, whatever is
/// done to the system's clock.
#[derive(Debug)]
pub(crate) struct SystemClock {
    began: Instant,
    at: Millis,
}

impl SystemClock {
    pub(crate) fn after(logged: Millis) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { began: Instant::now(), at: u64::try_from(wall).unwrap_or(0).max(logged) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        self.at + self.began.elapsed().as_millis() as u64
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
