//! Round-robin balancers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::candidates::{Balance, Candidate, Candidates, PickContext};
use crate::shard::Cursor;

/// Cursors of a service's balancers. They outlive the lists.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Cursor of each thread.
    next: Cursor,
    /// Cursor that all threads share.
    shared: AtomicU32,
}

impl Turns {
    /// Index of the next candidate in turn.
    #[inline]
    pub(super) fn next(&self, candidates: &Candidates) -> usize {
        // There are fewer than 2^32; a division of 32 bits is faster.
        (self.next.advance() % candidates.len() as u32) as usize
    }
}

#[derive(Debug)]
pub(super) struct RoundRobin(pub(super) Arc<Turns>);

impl Balance for RoundRobin {
    #[inline]
    fn pick(&self, candidates: &Candidates, _: &PickContext<'_>) -> usize {
        self.0.next(candidates)
    }
}

#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    turns: Arc<Turns>,
    /// Indices, each as often as its weight demands, evenly spread.
    schedule: Box<[u32]>,
}

/// Longest schedule, unless there are more instances: beyond that, weights are rounded.
const LONGEST: f64 = 65_536.0;

impl WeightedRoundRobin {
    pub(super) fn new(turns: Arc<Turns>, candidates: &Candidates) -> Self {
        let weights: Vec<_> = candidates.iter().map(Candidate::weight).collect();
        let shares = shares(&weights);
        let mut schedule: Vec<(f64, u32)> = Vec::with_capacity(shares.iter().sum::<u64>() as usize);
        for (index, share) in (0..).zip(shares) {
            schedule.extend((0..share).map(|turn| ((turn as f64 + 0.5) / share as f64, index)));
        }
        schedule.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Self { turns, schedule: schedule.into_iter().map(|(_, index)| index).collect() }
    }
}

/// Smallest whole numbers in the proportion of the weights; approximate where they would be too large.
fn shares(weights: &[f64]) -> Vec<u64> {
    let whole = |scale: f64| {
        let scaled = weights.iter().map(|weight| weight * scale);
        scaled
            .map(|turns| ((turns - turns.round()).abs() < 1e-6 && turns < 1e15).then_some(turns.round() as u64))
            .collect()
    };
    let exact: Option<Vec<u64>> = [1.0, 10.0, 100.0, 1000.0].into_iter().find_map(whole);
    if let Some(exact) = exact {
        let divisor = exact.iter().copied().fold(0, gcd).max(1);
        if exact.iter().map(|turns| (turns / divisor) as f64).sum::<f64>() <= LONGEST.max(weights.len() as f64) {
            return exact.iter().map(|turns| (turns / divisor).max(1)).collect();
        }
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| ((weight / sum * LONGEST).round() as u64).max(1)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Balance for WeightedRoundRobin {
    fn pick(&self, _: &Candidates, _: &PickContext<'_>) -> usize {
        let turn = self.turns.shared.fetch_add(1, Ordering::Relaxed);
        self.schedule[(turn % self.schedule.len() as u32) as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_smallest_in_proportion() {
        assert_eq!(shares(&[3.0, 1.0]), [3, 1]);
        assert_eq!(shares(&[1.0; 5]), [1; 5]);
        assert_eq!(shares(&[300.0, 100.0, 200.0]), [3, 1, 2]);
        assert_eq!(shares(&[0.5, 1.5, 0.25]), [2, 6, 1]);
        assert_eq!(shares(&[1.0, 1.0 / 3.0]), [49_152, 16_384]);
        assert_eq!(shares(&[1e9, 1.0]), [65_536, 1], "nobody is left out");
        assert_eq!(shares(&[1e300, 1e300]), [32_768, 32_768]);
    }
}
