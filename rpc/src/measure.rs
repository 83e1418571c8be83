//! Counts and times of all calls, for the recorder of the `metrics` facade.
//!
//! A call adds to counters of its thread, or a batch of calls at once; nothing is looked up, locked or allocated. Once a second
//! a task adds the threads up and publishes: so a recorder costs calls nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use metrics::counter;
use tokio::{runtime::Handle, time::MissedTickBehavior};

use crate::{code::Code, shard::PerThread};

/// Upper bounds of the buckets of call times, in microseconds: 50 us to 10 s. OpenTelemetry's begin at 5 ms, which is too
/// coarse for calls that take 70 us.
const BOUNDS: [u64; 24] = [
    50, 75, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000, 50_000, 100_000,
    200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

const CODES: usize = Code::Unauthenticated as usize + 1;

/// Time between two publications.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts and times of one method's calls.
#[derive(Debug, Default)]
pub(crate) struct MethodStats(PerThread<Counts>);

#[derive(Debug, Default)]
struct Counts {
    codes: [AtomicU64; CODES],
    /// Calls by time, in the bucket that they belong to alone; the last one is for longer calls.
    times: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl MethodStats {
    /// Adds `calls` that ended with `code`, and took so long each.
    #[inline]
    pub(crate) fn add(&self, code: Code, took: Duration, calls: u64) {
        let counts = self.0.mine();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        counts.codes[code as usize].fetch_add(calls, Ordering::Relaxed);
        counts.times[bucket].fetch_add(calls, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(calls);
        counts.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn publish(&self, side: &'static str, service: &str, method: &str) {
        let sum = |of: &dyn Fn(&Counts) -> u64| self.0.all().map(of).sum::<u64>();
        let names = [("side", side.to_owned()), ("service", service.to_owned()), ("method", method.to_owned())];
        let with = |key: &'static str, value: String| {
            names.iter().cloned().chain([(key, value)]).collect::<Vec<(&'static str, String)>>()
        };
        for code in 0..CODES {
            let calls = sum(&|counts| counts.codes[code].load(Ordering::Relaxed));
            if calls > 0 {
                let labels = with("code", Code::from_number(code as u8).to_string());
                counter!("ms_rpc_calls_total", &labels).absolute(calls);
            }
        }
        let mut cumulative = 0;
        for (at, bound) in BOUNDS.iter().map(Some).chain([None]).enumerate() {
            cumulative += sum(&|counts| counts.times[at].load(Ordering::Relaxed));
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |micros| (*micros as f64 / 1e6).to_string());
            counter!("ms_rpc_call_seconds_bucket", &with("le", bound)).absolute(cumulative);
        }
        counter!("ms_rpc_call_seconds_count", &names.to_vec()).absolute(cumulative);
        let micros = sum(&|counts| counts.nanos.load(Ordering::Relaxed)) / 1_000;
        counter!("ms_rpc_call_microseconds_sum", &names.to_vec()).absolute(micros);
    }
}

/// Statistics of all methods of a server, or of a client.
#[derive(Debug)]
pub(crate) struct Stats {
    side: &'static str,
    methods: RwLock<HashMap<(String, String), Arc<MethodStats>>>,
    published: AtomicBool,
}

impl Stats {
    /// `side`: `server` or `client`.
    pub(crate) fn new(side: &'static str) -> Arc<Self> {
        Arc::new(Self { side, methods: RwLock::default(), published: AtomicBool::new(false) })
    }

    /// The statistics of one method.
    pub(crate) fn of(&self, service: &str, method: &str) -> Arc<MethodStats> {
        let key = (service.to_owned(), method.to_owned());
        let known = self.methods.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            self.methods.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
        })
    }

    fn publish(&self) {
        let methods: Vec<_> = {
            let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
            methods.iter().map(|(names, stats)| (names.clone(), stats.clone())).collect()
        };
        for ((service, method), stats) in methods {
            stats.publish(self.side, &service, &method);
        }
    }

    /// Publishes once a second, as long as anybody holds the statistics. From the second time on it does nothing.
    pub(crate) fn publish_on(self: &Arc<Self>, runtime: &Handle) {
        if !self.published.swap(true, Ordering::Relaxed) {
            runtime.spawn(publish_all(Arc::downgrade(self)));
        }
    }
}

/// Statistics of the methods that one typed client has called, found without a lock.
#[derive(Debug)]
pub(crate) struct ClientStats {
    stats: Arc<Stats>,
    service: Arc<str>,
    methods: ArcSwap<Vec<(&'static str, Arc<MethodStats>)>>,
}

impl ClientStats {
    pub(crate) fn new(stats: Arc<Stats>, service: Arc<str>) -> Self {
        Self { stats, service, methods: ArcSwap::default() }
    }

    /// Adds one call.
    #[inline]
    pub(crate) fn add(&self, method: &'static str, code: Code, took: Duration) {
        let known = self.methods.load();
        match known.iter().find(|(name, _)| std::ptr::eq(*name, method)) {
            Some((_, stats)) => stats.add(code, took, 1),
            None => self.first(method).add(code, took, 1),
        }
    }

    #[cold]
    fn first(&self, method: &'static str) -> Arc<MethodStats> {
        let stats = self.stats.of(&self.service, method);
        self.methods.rcu(|known| known.iter().cloned().chain([(method, stats.clone())]).collect::<Vec<_>>());
        if let Ok(runtime) = Handle::try_current() {
            self.stats.publish_on(&runtime);
        }
        stats
    }
}

/// Publishes at the end the counts since the last publication.
impl Drop for Stats {
    fn drop(&mut self) {
        self.publish();
    }
}

async fn publish_all(stats: Weak<Stats>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match stats.upgrade() {
            Some(stats) => stats.publish(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_code_and_time() {
        let stats = MethodStats::default();
        let us = Duration::from_micros;
        std::thread::scope(|scope| {
            scope.spawn(|| stats.add(Code::Ok, us(50), 3));
            scope.spawn(|| stats.add(Code::Ok, us(51), 2));
        });
        stats.add(Code::NotFound, Duration::from_secs(60), 1);
        let sum = |of: &dyn Fn(&Counts) -> u64| stats.0.all().map(of).sum::<u64>();
        let times: Vec<_> = (0..=BOUNDS.len()).map(|at| sum(&|c| c.times[at].load(Ordering::Relaxed))).collect();
        assert_eq!((times[0], times[1], times[BOUNDS.len()], times.iter().sum::<u64>()), (3, 2, 1, 6));
        assert_eq!(sum(&|c| c.codes[0].load(Ordering::Relaxed)), 5);
        assert_eq!(sum(&|c| c.codes[5].load(Ordering::Relaxed)), 1);
        assert_eq!(sum(&|c| c.nanos.load(Ordering::Relaxed)), 60_000_252_000);
    }
}
