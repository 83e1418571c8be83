//! Metrics of a gate.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, counter, gauge};
use tracing::warn;

/// Metrics of one gate, and its bound on log lines that clients can cause: one a second.
pub(crate) struct Meter {
    members: Gauge,
    received: Counter,
    pushed: Counter,
    last_line: Mutex<Option<Instant>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            members: gauge!("ms_gate_members"),
            received: counter!("ms_gate_received_total"),
            pushed: counter!("ms_gate_pushed_total"),
            last_line: Mutex::default(),
        }
    }

    pub(crate) fn joined(&self) {
        self.members.increment(1);
    }

    pub(crate) fn left(&self) {
        self.members.decrement(1);
    }

    pub(crate) fn received(&self) {
        self.received.increment(1);
    }

    pub(crate) fn pushed(&self) {
        self.pushed.increment(1);
    }

    /// Counts a message that is refused.
    pub(crate) fn refused(&self, code: &str) {
        counter!("ms_gate_refused_total", "code" => code.to_owned()).increment(1);
    }

    /// Counts and logs a client that is dropped.
    pub(crate) fn dropped(&self, reason: &'static str, address: &str) {
        counter!("ms_gate_dropped_total", "reason" => reason).increment(1);
        let now = Instant::now();
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now - last >= Duration::from_secs(1)) {
            *last = Some(now);
            drop(last);
            warn!("client {address} is dropped: {reason} (at most one such line a second: see ms_gate_dropped_total)");
        }
    }
}
