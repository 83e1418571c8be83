//! Balancers that compare loads.

use super::candidates::{Balance, Candidate, Candidates, PickContext};

/// Most candidates that are all compared; among more, a sample is.
const EXACT: usize = 128;
const SAMPLE: usize = 8;

#[derive(Debug)]
pub(super) struct LeastConnections;

impl Balance for LeastConnections {
    fn pick(&self, candidates: &Candidates, _: &PickContext<'_>) -> usize {
        let count = candidates.len();
        let first = fastrand::usize(..count);
        if count > EXACT {
            let sample = std::iter::repeat_with(|| fastrand::usize(..count)).take(SAMPLE - 1);
            return least(candidates, first, sample);
        }
        // Each comparison starts at a random candidate, so equals get equal shares.
        least(candidates, first, (first + 1..count).chain(0..first))
    }
}

fn least(candidates: &[Candidate], first: usize, others: impl Iterator<Item = usize>) -> usize {
    let load = |index: usize| candidates[index].by_weight(candidates[index].in_flight() as f32 + 1.0);
    let (best, _) = others.fold((first, load(first)), |(best, lowest), other| {
        let load = load(other);
        if load < lowest { (other, load) } else { (best, lowest) }
    });
    best
}

/// Power of two choices by the load estimate.
#[derive(Debug)]
pub(super) struct P2c;

impl Balance for P2c {
    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> usize {
        let (random, count) = (fastrand::u64(..), candidates.len() as u64);
        // Two different ones: each half of the random number is taken for a fraction of the count.
        let first = ((random >> 32) * count) >> 32;
        let second = ((random & u64::from(u32::MAX)) * (count - 1)) >> 32;
        let second = if second < first { second } else { second + 1 };
        let (first, second) = (first as usize, second as usize);
        let now = call.clock.read();
        let cost = |index: usize| candidates[index].by_weight(candidates[index].loads.cost(now));
        if cost(second) < cost(first) { second } else { first }
    }
}
