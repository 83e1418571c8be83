//! Bounds of what clients may do.

use std::{ops::RangeInclusive, time::Duration};

use crate::ConfigError;

/// Bounds of a gate. [`Gate::limits`](crate::Gate::limits) changes them; the start checks them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GateLimits {
    /// Data of one frame, in bytes, 64 to 2 MiB. Default 64 KiB. A longer one ends its connection.
    pub max_frame: usize,
    /// Silence of a client, 1 s to 1 day. Default 120 s; then its connection is closed. A WebSocket is pinged after half of it.
    pub idle: Duration,
    /// Time for the rest of a frame that has begun, and for a TLS or WebSocket handshake, 100 ms to 1 min. Default 10 s.
    pub frame_within: Duration,
    /// Messages a second of one connection; more are refused, and the connection lives. Default 1,000; 0: any number.
    pub messages_per_second: u32,
    /// Messages that may come at once after a pause. Default 1,000.
    pub burst: u32,
    /// Messages of one connection that back ends work on, 1 to 65,536. Default 256; the next is read when one of them is answered.
    pub in_flight: usize,
    /// Output that waits for one client, in bytes, 1 KiB to 64 MiB. Default 256 KiB. A client for which more waits is dropped.
    pub queued_bytes: usize,
    /// Time in which some output must have gone to a client, 100 ms to 10 min. Default 10 s; then the client is dropped.
    pub stall: Duration,
    /// Connections at a time. Default 100,000.
    pub max_connections: usize,
    /// Connections of one address at a time. Default 1,000.
    pub max_per_address: usize,
    /// Time of a back end for a message, 1 ms to 10 min. Default 5 s.
    pub backend_timeout: Duration,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            max_frame: 64 << 10,
            idle: Duration::from_secs(120),
            frame_within: Duration::from_secs(10),
            messages_per_second: 1_000,
            burst: 1_000,
            in_flight: 256,
            queued_bytes: 256 << 10,
            stall: Duration::from_secs(10),
            max_connections: 100_000,
            max_per_address: 1_000,
            backend_timeout: Duration::from_secs(5),
        }
    }
}

impl GateLimits {
    /// Checks every setting that has a range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let minute = Duration::from_secs(60);
        within("max_frame", self.max_frame, 64..=2 << 20)?;
        within("in_flight", self.in_flight, 1..=65_536)?;
        within("queued_bytes", self.queued_bytes, 1 << 10..=64 << 20)?;
        within("max_connections", self.max_connections, 1..=usize::MAX)?;
        within("max_per_address", self.max_per_address, 1..=usize::MAX)?;
        within("idle", self.idle, Duration::from_secs(1)..=1440 * minute)?;
        within("frame_within", self.frame_within, Duration::from_millis(100)..=minute)?;
        within("stall", self.stall, Duration::from_millis(100)..=10 * minute)?;
        within("backend_timeout", self.backend_timeout, Duration::from_millis(1)..=10 * minute)
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(field: &str, value: T, range: RangeInclusive<T>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(format!("{field} is {value:?}: give {:?} to {:?}", range.start(), range.end())))
}
