//! Any of them.

use super::choices::{Ask, Balance, Candidates};

#[derive(Debug)]
pub(super) struct Random;

impl Balance for Random {
    fn pick(&self, candidates: &Candidates, _: &Ask<'_>) -> u32 {
        candidates.place(fastrand::usize(..candidates.len()))
    }
}

#[derive(Debug)]
pub(super) struct WeightedRandom {
    /// The sum of the weights up to each.
    cumulative: Box<[f64]>,
}

impl WeightedRandom {
    pub(super) fn new(candidates: &Candidates) -> Self {
        let sums = candidates.all().iter().scan(0.0, |sum, candidate| {
            *sum += candidate.weight;
            Some(*sum)
        });
        Self { cumulative: sums.collect() }
    }
}

impl Balance for WeightedRandom {
    fn pick(&self, candidates: &Candidates, _: &Ask<'_>) -> u32 {
        let drawn = fastrand::f64() * self.cumulative.last().copied().unwrap_or_default();
        let index = self.cumulative.partition_point(|upto| *upto <= drawn);
        candidates.place(index.min(candidates.len() - 1))
    }
}
