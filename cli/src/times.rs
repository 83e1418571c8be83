//! Times of the command line, such as `250ms`, `10m` or `1h 30m`.

use std::time::Duration;

/// Reads a time; a number without a unit is refused.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 250ms, 30s, 10m, 2h or 1d"))
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
