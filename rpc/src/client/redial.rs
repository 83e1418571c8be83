//! Pauses between dials of a slot without a connection. Pure: time and chance are arguments.
//!
//! Many clients lose one server at the same moment. The first dial after a loss comes at a random time within
//! [`first`](RedialConfig::first), and so spreads them out: at that time and not at the next call, which would bunch them again.
//! From then on it depends on whether calls wait: if none of the service's
//! instances is connected, each dials once in that time, and thus stays spread out; else the pauses grow 1.6-fold to 10 s,
//! each drawn from its whole length (full jitter). A server that accepts and closes at once counts as a failed dial, and one
//! that belongs to another scope is left alone for the longest pause, or until the registry's list changes.

use std::time::Duration;

use tokio::time::Instant;

use super::config::RedialConfig;

#[derive(Debug, Default)]
pub(crate) struct Redial {
    failures: u32,
    /// No dial before this while others serve.
    at_ease: Option<Instant>,
    /// No dial before this while calls wait.
    urgently: Option<Instant>,
}

impl Redial {
    /// A connection that lived for less was as good as a failed dial.
    const SHORT_LIFE: Duration = Duration::from_secs(1);

    /// Returns true if the slot may be dialled. `urgent`: calls wait, and no instance of the service is connected.
    pub(crate) fn is_due(&self, urgent: bool, now: Instant) -> bool {
        let time = if urgent { self.urgently } else { self.at_ease };
        time.is_none_or(|time| time <= now)
    }

    /// A dial failed that began at `began`. `chance` is at least 0 and below 1.
    pub(crate) fn failed(&mut self, config: &RedialConfig, began: Instant, now: Instant, chance: f64) {
        self.urgently = Some(match self.urgently {
            Some(_) => began + config.first,
            None => now + config.first.mul_f64(chance),
        });
        self.at_ease = Some(now + self.pause(config).mul_f64(chance));
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes the end of a connection that had lived for `lived`; returns the time of the next dial that no call asks for.
    pub(crate) fn lost(&mut self, config: &RedialConfig, lived: Duration, now: Instant, chance: f64) -> Instant {
        let lived_long = lived >= Self::SHORT_LIFE;
        if lived_long {
            self.failures = 0;
        }
        let (first, at_ease) = (now + config.first.mul_f64(chance), now + self.pause(config).mul_f64(chance));
        self.urgently = Some(first);
        self.at_ease = Some(at_ease);
        self.failures = self.failures.saturating_add(1);
        if lived_long { first } else { at_ease }
    }

    /// Notes a server that does not belong to the registry's scope: even calls that wait do not dial it before the longest
    /// pause is over.
    pub(crate) fn misplaced(&mut self, config: &RedialConfig, now: Instant) {
        self.urgently = Some(now + config.longest);
        self.at_ease = self.urgently;
    }

    /// Permits a dial at once.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn pause(&self, config: &RedialConfig) -> Duration {
        config.first.mul_f64(1.6f64.powi(self.failures.min(20).cast_signed())).min(config.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_grow_to_their_cap_and_start_again_after_a_life() {
        let (mut redial, now) = (Redial::default(), Instant::now());
        assert!(redial.is_due(false, now), "the first dial of all is made at once");
        for most in [900, 1440, 2304, 3686, 5898, 9437, 10_000, 10_000] {
            redial.failed(&RedialConfig::default(), now, now, 0.999_999);
            assert!(!redial.is_due(false, now + (most - 2) * MS), "{most} ms");
            assert!(redial.is_due(false, now + (most + 1) * MS), "{most} ms");
        }
        redial.lost(&RedialConfig::default(), Duration::from_millis(10), now, 0.999);
        assert!(!redial.is_due(false, now + 9 * Duration::from_secs(1)), "it closes at once what it accepts");
        redial.lost(&RedialConfig::default(), Duration::from_secs(60), now, 0.5);
        assert!(redial.is_due(false, now + 450 * MS));
    }

    #[test]
    fn while_calls_wait_a_dial_comes_once_in_the_time_of_the_first() {
        let (mut redial, mut now) = (Redial::default(), Instant::now());
        redial.lost(&RedialConfig::default(), Duration::from_secs(60), now, 0.7);
        assert!(!redial.is_due(true, now + 629 * MS));
        now += 630 * MS;
        for _ in 0..20 {
            assert!(redial.is_due(true, now));
            redial.failed(&RedialConfig::default(), now, now + 5 * MS, 0.0);
            assert!(!redial.is_due(true, now + 899 * MS));
            now += RedialConfig::default().first;
        }
    }

    /// 2,000 clients lose their only server at the same moment, and it is away for 8 s.
    #[test]
    fn two_thousand_clients_that_lose_one_server_stay_spread_out() {
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut clients: Vec<_> = std::iter::repeat_with(|| (Redial::default(), false)).take(2000).collect();
        for (redial, _) in &mut clients {
            redial.lost(&RedialConfig::default(), Duration::from_secs(60), start, random.f64());
        }
        let mut connects = Vec::new();
        for tick in 0..15_000u32 {
            let now = start + tick * MS;
            for (redial, back) in clients.iter_mut().filter(|(redial, back)| !back && redial.is_due(true, now)) {
                connects.push(tick);
                *back = tick >= 8000;
                if !*back {
                    redial.failed(&RedialConfig::default(), now, now + MS, random.f64());
                }
            }
        }
        assert!(clients.iter().all(|(_, back)| *back), "all are back within 15 s");
        assert!(*connects.last().unwrap() <= 8900, "calls go on within 0.9 s");
        let most = (0..14_900u32).map(|from| {
            connects.partition_point(|tick| *tick < from + 100) - connects.partition_point(|tick| *tick < from)
        });
        let most = most.max().unwrap();
        assert!(most <= 300, "{most} connects within 100 ms");
    }
}
