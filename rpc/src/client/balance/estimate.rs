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
    /// No estimate: the instance is not connected, or the balancer needs none.
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
mod tests;
