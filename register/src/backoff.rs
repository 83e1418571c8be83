//! How long to wait before the next try. Pure but for the jitter.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Pauses between tries: 100 ms doubling to 5 s, each drawn from the upper half of its step, so that many clients spread out.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);

    /// Begins again with the shortest pause.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause.
    pub fn next_delay(&mut self) -> Duration {
        let step = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::MOST);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Pauses after a round that began then. One that lasted longer than the longest pause was no failure to connect: the
    /// pauses begin again.
    pub(crate) async fn after(&mut self, begun: Instant) {
        if begun.elapsed() > Self::MOST {
            self.reset();
        }
        sleep(self.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_its_cap_and_starts_again() {
        let mut backoff = Backoff::default();
        for step in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let delay = backoff.next_delay().as_millis();
            assert!((step / 2..=step).contains(&delay), "{delay} ms in the step of {step} ms");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Backoff::FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_round_begins_again() {
        let mut backoff = Backoff { failures: 10 };
        let begun = Instant::now();
        sleep(Duration::from_secs(6)).await;
        let ended = Instant::now();
        backoff.after(begun).await;
        assert!(ended.elapsed() <= Backoff::FIRST);
        let ended = Instant::now();
        backoff.failures = 10;
        backoff.after(ended).await;
        assert!(ended.elapsed() >= Backoff::MOST / 2);
    }
}
