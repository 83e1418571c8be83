//! Random balancers.

use super::candidates::{Balance, Candidate, Candidates, PickContext};

#[derive(Debug)]
pub(super) struct Random;

impl Balance for Random {
    fn pick(&self, candidates: &Candidates, _: &PickContext<'_>) -> usize {
        fastrand::usize(..candidates.len())
    }
}

#[derive(Debug)]
pub(super) struct WeightedRandom {
    /// Prefix sums of the weights.
    cumulative: Box<[f64]>,
}

impl WeightedRandom {
    pub(super) fn new(candidates: &Candidates) -> Self {
        let sums = candidates.iter().map(Candidate::weight).scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { cumulative: sums.collect() }
    }
}

impl Balance for WeightedRandom {
    fn pick(&self, candidates: &Candidates, _: &PickContext<'_>) -> usize {
        let drawn = fastrand::f64() * self.cumulative.last().copied().unwrap_or_default();
        let index = self.cumulative.partition_point(|upto| *upto <= drawn);
        index.min(candidates.len() - 1)
    }
}
