//! Load estimate (peak EWMA): calls in flight, and how long answers take. Time is an argument.
//!
//! A connection stores its number of calls under its lock; its task alone stores the time of answers, once for all that
//! arrive together, from clock readings that it makes anyway. So every write is a plain store. A `Picker` has no such task:
//! it counts calls with atomic additions. Picks read both, and a clock as coarse as these readings.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Time in which a peak falls by half.
const HALF_LIFE_MS: f32 = 2_000.0;
/// Age below which a peak is not calculated anew.
const STEP_MS: u32 = 16;
/// Least cost of a first refusal, and highest peak, in nanoseconds.
const REFUSAL: f32 = 1e6;
const MOST: f32 = 60e9;
/// Cost of a call in flight on a connection without an answer so far: one call is enough to try it.
const UNKNOWN: f32 = 1e9;

/// Time of the last event on any connection of a service, in milliseconds since the clock was made.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    now: AtomicU32,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), now: AtomicU32::new(0) }
    }
}

impl Clock {
    #[inline]
    pub(crate) fn read(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// Returns the milliseconds. They begin anew after 49 days: only differences count.
    #[inline]
    pub(crate) fn set(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.start);
        let ms = (since.as_secs() as u32).wrapping_mul(1000).wrapping_add(since.subsec_millis());
        // An equal time is not stored: the other cores keep their copies of the cache line.
        if self.read() != ms {
            self.now.store(ms, Ordering::Relaxed);
        }
        ms
    }
}

/// Load estimate of one connection. On cache lines of its own: it is written at every call.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct LoadEstimate {
    in_flight: AtomicU32,
    /// Peak of the answers' times, as the bits of an `f32` in nanoseconds; in the lower half its time, in milliseconds.
    peak: AtomicU64,
    clock: Arc<Clock>,
}

impl LoadEstimate {
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Stores the number of calls.
    #[inline]
    pub(crate) fn set_in_flight(&self, calls: usize) {
        self.in_flight.store(calls as u32, Ordering::Relaxed);
    }

    /// One more call, where nothing orders the writers.
    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// One call less, where nothing orders the writers.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Advances the clock.
    #[inline]
    pub(crate) fn tick(&self, now: Instant) {
        self.clock.set(now);
    }

    /// Records answers that came together, by the longest time that one took. A longer time than expected counts at once,
    /// shorter ones little by little.
    #[inline]
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        let now = self.clock.set(now);
        let took = (took.as_nanos() as f32).max(1.0);
        let peak = self.peak.load(Ordering::Relaxed);
        if took >= faded(peak, now) {
            self.store(took, now);
        } else if age(peak, now) >= STEP_MS {
            self.store(faded(peak, now) + took * (1.0 - remainder(age(peak, now))), now);
        }
    }

    /// Records refusals and internal errors: each doubles the time expected.
    pub(crate) fn refused(&self, now: Instant) {
        let now = self.clock.set(now);
        let expected = faded(self.peak.load(Ordering::Relaxed), now);
        self.store((expected.max(REFUSAL) * 2.0).min(MOST), now);
    }

    fn store(&self, peak: f32, now: u32) {
        self.peak.store(u64::from(peak.to_bits()) << 32 | u64::from(now), Ordering::Relaxed);
    }
}

fn age(peak: u64, now: u32) -> u32 {
    let age = now.wrapping_sub(peak as u32);
    // A reader's clock may be behind.
    if age > u32::MAX / 2 { 0 } else { age }
}

/// Remainder of the peak at `now`.
#[inline]
fn faded(peak: u64, now: u32) -> f32 {
    let (nanos, age) = (f32::from_bits((peak >> 32) as u32), age(peak, now));
    if age < STEP_MS { nanos } else { nanos * remainder(age) }
}

/// Fraction that is left after `age` milliseconds.
fn remainder(age: u32) -> f32 {
    (-(age as f32) / HALF_LIFE_MS).exp2()
}

/// Load estimates of all connections of an instance.
#[derive(Clone, Debug, Default)]
pub(crate) enum LoadEstimates {
    /// Not connected, or not needed by the balancer.
    #[default]
    None,
    One(Arc<LoadEstimate>),
    Many(Box<[Arc<LoadEstimate>]>),
}

impl LoadEstimates {
    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        let of = |load: &LoadEstimate| load.in_flight.load(Ordering::Relaxed);
        match self {
            Self::None => 0,
            Self::One(load) => of(load),
            Self::Many(loads) => loads.iter().map(|load| of(load)).sum(),
        }
    }

    /// Expected time of an answer, in nanoseconds; 0 before the first.
    #[inline]
    pub(super) fn peak(&self, now: u32) -> f32 {
        let of = |load: &LoadEstimate| faded(load.peak.load(Ordering::Relaxed), now);
        match self {
            Self::None => 0.0,
            Self::One(load) => of(load),
            Self::Many(loads) => loads.iter().map(|load| of(load)).fold(0.0, f32::max),
        }
    }

    /// Expected time of one more call: the peak, for each call that is ahead of it and for itself.
    #[inline]
    pub(super) fn cost(&self, now: u32) -> f32 {
        let peak = self.peak(now);
        let in_flight = self.in_flight() as f32;
        if peak < 1.0 { in_flight * UNKNOWN } else { peak * (in_flight + 1.0) }
    }
}

impl FromIterator<Arc<LoadEstimate>> for LoadEstimates {
    fn from_iter<I: IntoIterator<Item = Arc<LoadEstimate>>>(loads: I) -> Self {
        let mut loads = loads.into_iter();
        match (loads.next(), loads.next()) {
            (None, _) => Self::None,
            (Some(one), None) => Self::One(one),
            (Some(first), Some(second)) => Self::Many([first, second].into_iter().chain(loads).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn cost(load: &Arc<LoadEstimate>) -> f32 {
        LoadEstimates::One(load.clone()).cost(load.clock.read()) / 1e6
    }

    #[test]
    fn a_long_answer_counts_at_once_and_fades_by_half_in_two_seconds() {
        let (load, start) = (Arc::new(LoadEstimate::default()), Instant::now());
        assert_eq!(cost(&load), 0.0, "nothing is known: it is tried");
        load.set_in_flight(1);
        assert_eq!(cost(&load), 1_000.0, "but not by all at once");
        load.set_in_flight(0);
        load.answered(4 * MS, start + MS);
        load.answered(100 * MS, start + 2 * MS);
        load.answered(4 * MS, start + 3 * MS);
        assert_eq!(cost(&load), 100.0);
        load.set_in_flight(2);
        assert_eq!(cost(&load), 300.0);
        load.set_in_flight(0);
        load.tick(start + 2002 * MS);
        assert!((49.9..50.1).contains(&cost(&load)), "{}", cost(&load));
        load.answered(4 * MS, start + 2002 * MS);
        assert!((51.9..52.1).contains(&cost(&load)), "half of each: {}", cost(&load));
        (2..40).for_each(|second| load.answered(4 * MS, start + second * 1000 * MS));
        assert!((4.0..4.1).contains(&cost(&load)), "{}", cost(&load));
    }

    #[test]
    fn frequent_short_answers_bring_it_down_as_fast_as_rare_ones() {
        let (load, start) = (Arc::new(LoadEstimate::default()), Instant::now());
        load.answered(100 * MS, start);
        (0..20_000).for_each(|tenth| load.answered(MS, start + tenth * MS / 10));
        assert!((50.0..51.5).contains(&cost(&load)), "{}", cost(&load));
    }

    #[test]
    fn each_refusal_costs_twice_as_much_up_to_a_minute() {
        let (load, start) = (Arc::new(LoadEstimate::default()), Instant::now());
        let costs = [(); 3].map(|()| {
            load.refused(start);
            cost(&load)
        });
        assert_eq!(costs, [2.0, 4.0, 8.0]);
        (0..100).for_each(|_| load.refused(start));
        assert_eq!(cost(&load).round(), 60_000.0);
        load.tick(start + 60 * 1000 * MS);
        assert!(cost(&load) < 0.1, "it is forgotten after a minute: {}", cost(&load));
    }

    #[test]
    fn an_instance_is_the_sum_of_its_connections() {
        let loads: [Arc<LoadEstimate>; 3] = std::array::from_fn(|_| Arc::default());
        for (at, load) in (1..).zip(&loads) {
            load.set_in_flight(at);
            load.answered(at as u32 * MS, Instant::now());
        }
        let [one, ..] = &loads;
        assert_eq!(LoadEstimates::from_iter([one.clone()]).in_flight(), 1);
        let all = LoadEstimates::from_iter(loads);
        assert_eq!((all.in_flight(), all.cost(0)), (6, 21e6));
        assert_eq!(LoadEstimates::from_iter([]).cost(0), 0.0);
    }
}
