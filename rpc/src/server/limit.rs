//! Token buckets: one for the server, one per service, one per method. They see names only.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::{Code, Outcome, Status};

/// A token bucket: a sustained rate, and how many calls may come at once after a pause.
///
/// A call that finds no token is rejected at once with [`Code::ResourceExhausted`] and the time after which to come back,
/// or waits for its token up to [`wait_up_to`](Self::wait_up_to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    per_second: u32,
    burst: u32,
    wait: Duration,
}

impl RateLimit {
    /// `calls` each second, and a burst of as many. 0 counts as 1.
    pub fn per_second(calls: u32) -> Self {
        Self { per_second: calls, burst: calls, wait: Duration::ZERO }
    }

    /// At most `calls` at once after a pause. 0 counts as 1.
    #[must_use]
    pub fn burst(mut self, calls: u32) -> Self {
        self.burst = calls;
        self
    }

    /// A call without a token waits for it this long before it is rejected. Default: not at all.
    #[must_use]
    pub fn wait_up_to(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    fn quota(&self) -> Quota {
        let at_least_one = |calls| NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN);
        Quota::per_second(at_least_one(self.per_second)).allow_burst(at_least_one(self.burst))
    }
}

/// The limits of a server, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) server: Option<RateLimit>,
    pub(crate) services: HashMap<String, RateLimit>,
    pub(crate) methods: HashMap<(String, String), RateLimit>,
}

/// The time of a server: read from the system once per batch of requests.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    start: Instant,
    now: Arc<AtomicU64>,
}

impl Ticker {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), now: Arc::default() }
    }

    /// Reads the system's clock.
    pub(crate) fn tick(&self) -> Instant {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        self.now.fetch_max(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
        now
    }
}

impl Clock for Ticker {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.now.load(Ordering::Relaxed).into()
    }
}

/// One bucket, shared by all connections.
#[derive(Debug)]
pub(crate) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticker, NoOpMiddleware<Nanos>>,
    ticker: Ticker,
    wait: Duration,
    /// Name of the limited thing, for the message.
    name: String,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit, ticker: &Ticker, name: String) -> Self {
        let limiter = RateLimiter::direct_with_clock(limit.quota(), ticker.clone());
        Self { limiter, ticker: ticker.clone(), wait: limit.wait, name }
    }

    fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map(|_| ()).map_err(|until| until.wait_time_from(self.ticker.now()))
    }
}

/// Verdict of the limits on one call.
#[derive(Debug)]
pub(crate) enum Admission {
    Granted,
    /// To be asked again, for this bucket and those after it, when this time has passed.
    Wait {
        bucket: usize,
        after: Duration,
    },
    Rejected(Status),
}

/// The buckets that one method's calls draw from, narrowest first: a call that a narrow bucket rejects has taken nothing
/// from a wider one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets(pub(crate) Vec<Arc<Bucket>>);

impl Buckets {
    /// Like [`admit`](Self::admit), for a call that has waited: no batch of requests may have read the clock meanwhile.
    pub(crate) fn admit_after(&self, first: usize, waited: Duration) -> Admission {
        if let Some(bucket) = self.0.get(first) {
            bucket.ticker.tick();
        }
        self.admit(first, waited)
    }

    /// Draws a token from each bucket from the `first` on. `waited` is how long the call has waited already.
    #[inline]
    pub(crate) fn admit(&self, first: usize, waited: Duration) -> Admission {
        for (at, bucket) in self.0.iter().enumerate().skip(first) {
            if let Err(after) = bucket.take() {
                if waited + after <= bucket.wait {
                    return Admission::Wait { bucket: at, after };
                }
                let message = format!("the rate limit of {} is reached", bucket.name);
                let status = Status::new(Code::ResourceExhausted, message).with_retry_after(after);
                return Admission::Rejected(status.with_outcome(Outcome::Refused));
            }
        }
        Admission::Granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(limits: &[RateLimit]) -> (Buckets, Ticker) {
        let ticker = Ticker::new();
        let buckets = limits.iter().map(|limit| Arc::new(Bucket::new(*limit, &ticker, "goods".to_owned())));
        (Buckets(buckets.collect()), ticker)
    }

    fn granted(buckets: &Buckets, calls: usize) -> usize {
        let admit = |_: &usize| matches!(buckets.admit(0, Duration::ZERO), Admission::Granted);
        (0..calls).filter(admit).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate() {
        let (buckets, ticker) = buckets(&[RateLimit::per_second(10).burst(5)]);
        assert_eq!(granted(&buckets, 20), 5);
        let Admission::Rejected(status) = buckets.admit(0, Duration::ZERO) else { panic!("granted") };
        assert_eq!((status.code(), status.retry_after()), (Code::ResourceExhausted, Some(Duration::from_millis(100))));
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(granted(&buckets, 20), 0, "time stands until it is read");
        ticker.tick();
        assert_eq!(granted(&buckets, 20), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_may_wait_for_its_token() {
        let (buckets, _) = buckets(&[RateLimit::per_second(10).burst(1).wait_up_to(Duration::from_millis(150))]);
        assert_eq!(granted(&buckets, 1), 1);
        assert!(matches!(buckets.admit(0, Duration::ZERO), Admission::Wait { bucket: 0, .. }));
        assert!(matches!(buckets.admit(0, Duration::from_millis(100)), Admission::Rejected(_)));
    }

    #[test]
    fn the_narrow_bucket_comes_first() {
        let (buckets, _) = buckets(&[RateLimit::per_second(1), RateLimit::per_second(2)]);
        assert_eq!(granted(&buckets, 3), 1);
        assert!(buckets.0[1].take().is_ok(), "the wide bucket gave one token only");
        assert!(buckets.0[1].take().is_err());
    }
}
