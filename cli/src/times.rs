//! Times of the command line, such as `250ms`, `10m` or `1h 30m`.

use std::time::{Duration, UNIX_EPOCH};

/// Reads a time; a number without a unit is refused.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 250ms, 30s, 10m, 2h or 1d"))
}

/// Reads a date in UTC, as RFC 3339 writes it; returns milliseconds since 1970.
pub(crate) fn date(text: &str) -> Result<u64, String> {
    let date =
        humantime::parse_rfc3339_weak(text).map_err(|error| format!("{error}; write it as 2027-01-31T08:00:00Z"))?;
    Ok(date.duration_since(UNIX_EPOCH).map(millis).unwrap_or_default())
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc() {
        assert_eq!(date("1970-01-02T00:00:00Z"), Ok(86_400_000));
        assert_eq!(date("2027-01-31 08:00:00.5"), Ok(1_801_382_400_500));
        assert_eq!(date("2027-01-31T08:00:00Z"), Ok(1_801_382_400_000));
        for text in ["", "tomorrow", "2027-13-01T00:00:00Z", "10m", "2027-01-31"] {
            let error = date(text).unwrap_err();
            assert!(error.ends_with("write it as 2027-01-31T08:00:00Z"), "{text}: {error}");
        }
    }

    #[test]
    fn times_have_units() {
        let read = |text| parse(text).map(millis);
        let times =
            [("250ms", 250), ("30s", 30_000), ("10m", 600_000), ("1h 30m", 5_400_000), ("1d", 86_400_000), ("0s", 0)];
        for (text, ms) in times {
            assert_eq!(read(text), Ok(ms), "{text}");
        }
        for text in ["", "10", "-1s", "1 fortnight", "99999999999999999999s", "s"] {
            let error = read(text).unwrap_err();
            assert!(error.ends_with("write it as 250ms, 30s, 10m, 2h or 1d"), "{text}: {error}");
        }
    }
}
