//! Bounds of a server.

use std::time::Duration;

use super::ServerError;
use crate::{
    Compression,
    proto::{DEFAULT_MAX_FRAME, LARGEST_MAX_FRAME, SMALLEST_MAX_FRAME, ServerTimes},
};

/// Bounds of a server: what one connection may take, what all together may take, and the times that clients have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Largest frame in bytes, also after decompression. Default 4 MiB; 1 KiB to 64 MiB. Every connection may hold one frame
    /// that is arriving.
    pub max_frame: usize,
    /// Answers with fewer bytes are not compressed. Default 1 KiB. Compressing less costs more time than it saves.
    pub compress_above: usize,
    /// Level of compressed answers, brought into the range of the compression that the client wants. Default: that
    /// compression's own; -7 to 22. High levels cost much time for little.
    pub compression_level: Option<i32>,
    /// Connections; further ones are closed at once, with a GOAWAY that says so. Default 10,000; at least 1. Keep it below the
    /// number of files that the process may open (`ulimit -n`): else the program's other sockets fail first.
    pub max_connections: usize,
    /// Handshakes (see [`Accept`](crate::Accept)) at a time. Default 256; at least 1. More cost CPU time that calls need.
    pub max_handshakes: usize,
    /// Calls in flight on one connection; more are refused unexecuted. Default 1,024; at least 1. One client can take all of
    /// `max_in_flight_total` otherwise.
    pub max_in_flight: usize,
    /// Calls in flight on all connections; more are refused unexecuted, with a retry-after. The framework's own services are
    /// not counted. Default 65,536; at least 1. Each holds its future and its request in memory.
    pub max_in_flight_total: usize,
    /// Bytes of requests in flight on one connection; more are refused unexecuted, unless nothing else is in flight. Default
    /// 32 MiB; at least 64 KiB.
    pub max_request_bytes: usize,
    /// The same on all connections. Default 256 MiB; at least `max_request_bytes`.
    pub max_request_bytes_total: usize,
    /// Threads for methods that block. Default 64; 1 to 512. They are tokio's blocking threads, of which the program may need
    /// others.
    pub blocking_threads: usize,
    /// Time for a client's handshake and HELLO. Default 10 s; 100 ms to 1 min. A client that says nothing holds a connection
    /// for so long.
    pub hello_timeout: Duration,
    /// Time without progress after which a client that does not read its answers is closed. Default 10 s; 100 ms to 10 min.
    pub stall_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_frame: DEFAULT_MAX_FRAME,
            compress_above: Compression::DEFAULT_THRESHOLD,
            compression_level: None,
            max_connections: 10_000,
            max_handshakes: 256,
            max_in_flight: 1024,
            max_in_flight_total: 65_536,
            max_request_bytes: 32 << 20,
            max_request_bytes_total: 256 << 20,
            blocking_threads: 64,
            hello_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// Time that a client has to close after the last frame.
const LINGER: Duration = Duration::from_secs(1);

impl ServerLimits {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`ServerError::Limit`]: the first bound out of its range, and the range.
    pub fn check(&self) -> Result<(), ServerError> {
        const MS: Duration = Duration::from_millis(1);
        let numbers = [
            ("max_frame", self.max_frame, SMALLEST_MAX_FRAME, LARGEST_MAX_FRAME),
            ("max_connections", self.max_connections, 1, usize::MAX),
            ("max_handshakes", self.max_handshakes, 1, tokio::sync::Semaphore::MAX_PERMITS),
            ("max_in_flight", self.max_in_flight, 1, usize::MAX),
            ("max_in_flight_total", self.max_in_flight_total, 1, usize::MAX),
            ("max_request_bytes", self.max_request_bytes, 64 << 10, usize::MAX),
            ("max_request_bytes_total", self.max_request_bytes_total, self.max_request_bytes, usize::MAX),
            ("blocking_threads", self.blocking_threads, 1, 512),
        ];
        for (field, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(ServerError::Limit { field, reason: range(value, least, most, most == usize::MAX) });
            }
        }
        if let Some(level) = self.compression_level.filter(|level| !(-7..=22).contains(level)) {
            return Err(ServerError::Limit { field: "compression_level", reason: format!("{level}: use -7 to 22") });
        }
        let times =
            [("hello_timeout", self.hello_timeout, 60_000 * MS), ("stall_timeout", self.stall_timeout, 600_000 * MS)];
        for (field, value, most) in times {
            if !(100 * MS..=most).contains(&value) {
                return Err(ServerError::Limit { field, reason: format!("{value:?}: use 100 ms to {most:?}") });
            }
        }
        Ok(())
    }

    pub(crate) fn times(&self) -> ServerTimes {
        ServerTimes { hello: self.hello_timeout, stall: self.stall_timeout, linger: LINGER }
    }
}

fn range(value: usize, least: usize, most: usize, unbounded: bool) -> String {
    if unbounded { format!("{value}: use at least {least}") } else { format!("{value}: use {least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_what_is_out_of_range_is_named() {
        ServerLimits::default().check().unwrap();
        let broken = |change: fn(&mut ServerLimits)| {
            let mut limits = ServerLimits::default();
            change(&mut limits);
            limits.check().unwrap_err().to_string()
        };
        for (error, field) in [
            (broken(|limits| limits.max_frame = 100), "max_frame"),
            (broken(|limits| limits.max_in_flight = 0), "max_in_flight"),
            (broken(|limits| limits.max_request_bytes_total = 1 << 20), "max_request_bytes_total"),
            (broken(|limits| limits.blocking_threads = 10_000), "blocking_threads"),
            (broken(|limits| limits.compression_level = Some(40)), "compression_level"),
            (broken(|limits| limits.hello_timeout = Duration::ZERO), "hello_timeout"),
        ] {
            assert!(error.contains(&format!("`{field}`")) && error.contains("use "), "{error}");
        }
    }
}
