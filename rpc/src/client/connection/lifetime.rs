//! Lifetime of a connection whose server presented a certificate: replaced before the certificate ends, given up at its end. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::Change;

/// The longest time before the end at which a connection is replaced.
const MARGIN: Duration = Duration::from_secs(60);
/// Part of what is left before the end.
const PART: u32 = 4;
/// Replacing a connection that has less time left would not be done by the end.
const SHORTEST: Duration = Duration::from_millis(100);

/// Times of a connection.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    /// Time of the next event.
    next: Option<Instant>,
    ends: Option<Instant>,
}

impl Lifetime {
    /// Lifetime of a connection that ends at `ends`; for ever without it. `chance`, at least 0 and below 1, keeps the clients of one server apart.
    pub(super) fn new(ends: Option<Instant>, now: Instant, chance: f64) -> Self {
        let mut lifetime = Self { next: ends, ends };
        lifetime.plan(now, chance);
        lifetime
    }

    /// Time of the next event.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The event that is due.
    pub(super) fn due(&mut self, now: Instant, chance: f64) -> Option<Change> {
        let ends = self.ends?;
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        if ends <= now {
            self.next = None;
            return Some(Change::Ended);
        }
        self.plan(now, chance);
        Some(Change::Ages)
    }

    /// In the last quarter, a minute before the end at most, and again in the last quarter of what is left.
    fn plan(&mut self, now: Instant, chance: f64) {
        let Some(ends) = self.ends else { return };
        let margin = (ends.saturating_duration_since(now) / PART).min(MARGIN).mul_f64(0.5 + chance / 2.0);
        self.next = Some(if margin < SHORTEST { ends } else { ends - margin });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events and their times before the end, in milliseconds.
    fn events(left: Duration, chance: f64) -> Vec<(Change, u128)> {
        let mut now = Instant::now();
        let ends = now + left;
        let mut lifetime = Lifetime::new(Some(ends), now, chance);
        std::iter::from_fn(|| {
            now = lifetime.next()?;
            Some((lifetime.due(now, chance)?, (ends - now).as_millis()))
        })
        .collect()
    }

    #[test]
    fn a_connection_is_replaced_before_its_end_and_given_up_at_it() {
        let day = events(Duration::from_secs(86_400), 0.0);
        assert_eq!(day[0], (Change::Ages, 30_000));
        assert_eq!(day[1], (Change::Ages, 3_750));
        assert_eq!(day.last(), Some(&(Change::Ended, 0)));
        assert_eq!(day.iter().filter(|(change, _)| *change == Change::Ended).count(), 1);
        assert_eq!(events(Duration::from_secs(8), 0.0)[0], (Change::Ages, 1_000));
        assert_eq!(events(Duration::ZERO, 0.9), [(Change::Ended, 0)]);
        let spread = events(Duration::from_secs(86_400), 0.5)[0];
        assert_eq!(spread, (Change::Ages, 45_000));
    }

    #[test]
    fn a_connection_without_an_end_has_no_events() {
        let mut lifetime = Lifetime::new(None, Instant::now(), 0.5);
        assert_eq!((lifetime.next(), lifetime.due(Instant::now(), 0.5)), (None, None));
    }
}
