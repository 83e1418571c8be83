//! Pauses before the next try, and warnings meanwhile.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::RegisterError;

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
    async fn after(&mut self, begun: Instant) {
        if begun.elapsed() > Self::MOST {
            self.reset();
        }
        sleep(self.next_delay()).await;
    }
}

/// Period of full reads where a watch stands: they correct whatever it may have missed.
#[cfg(any(feature = "etcd", feature = "gregister", feature = "zookeeper"))]
pub(crate) fn reread() -> Duration {
    jittered(Duration::from_secs(80))
}

/// A period, give or take a quarter: what many clients do from time to time is spread out.
pub(crate) fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.75 + fastrand::f64() / 2.0)
}

/// Runs round after round for ever, each after a pause that grows while rounds are short.
pub(crate) async fn rounds<F>(what: &str, mut round: impl FnMut() -> F, failed: impl Fn(RegisterError))
where
    F: Future<Output = Result<(), RegisterError>>,
{
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        if let Err(error) = round().await {
            debug!("{what}: {error}");
            failed(error);
        }
        backoff.after(begun).await;
    }
}

/// Reasons of one series of failures: each is warned of once, however often it comes.
#[derive(Debug, Default)]
pub(crate) struct Reasons(HashSet<String>);

impl Reasons {
    /// Beyond it a series has no new reasons: one that holds a number may have another text each time.
    const MOST: usize = 16;

    /// Returns true if this reason is new.
    fn is_new(&mut self, error: &RegisterError) -> bool {
        self.0.len() < Self::MOST && self.0.insert(error.to_string())
    }

    pub(crate) fn tell(&mut self, subject: &str, error: &RegisterError) {
        if self.is_new(error) {
            warn!("{subject}: {error}");
        } else {
            debug!("{subject}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::About;

    #[test]
    fn each_reason_is_new_once() {
        let (mut reasons, about) = (Reasons::default(), About::new("test://"));
        let new: Vec<_> = ["a", "a", "b", "a"].map(|reason| reasons.is_new(&about.unreachable(reason))).into();
        assert_eq!(new, [true, false, true, false]);
        let new = (0..1_000).filter(|number| reasons.is_new(&about.unreachable(number))).count();
        assert_eq!(new, Reasons::MOST - 2);
    }

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
