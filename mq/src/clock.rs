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
