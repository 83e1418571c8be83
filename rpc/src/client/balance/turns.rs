//! One after the other.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Policy,
    choices::{Ask, Balance, Candidates},
};

#[derive(Debug)]
pub(super) struct RoundRobin(pub(super) Arc<Policy>);

impl Balance for RoundRobin {
    #[inline]
    fn pick(&self, candidates: &Candidates, _: &Ask<'_>) -> u32 {
        // There are fewer than 2^32; a division of 32 bits is the faster one.
        candidates.place((self.0.next.advance() % candidates.len() as u32) as usize)
    }
}

#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    policy: Arc<Policy>,
    /// Each place as often as its weight says, far from itself.
    schedule: Box<[u32]>,
}

/// No schedule is longer, unless there are more instances: beyond that, weights are rounded.
const LONGEST: f64 = 65_536.0;

impl WeightedRoundRobin {
    pub(super) fn new(policy: Arc<Policy>, candidates: &Candidates) -> Self {
        let weights: Vec<_> = candidates.all().iter().map(|candidate| candidate.weight).collect();
        let turns = turns(&weights);
        let mut schedule: Vec<(f64, u32)> = Vec::with_capacity(turns.iter().sum::<u64>() as usize);
        for (candidate, turns) in candidates.all().iter().zip(turns) {
            schedule.extend((0..turns).map(|turn| ((turn as f64 + 0.5) / turns as f64, candidate.place)));
        }
        schedule.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Self { policy, schedule: schedule.into_iter().map(|(_, place)| place).collect() }
    }
}

/// The smallest whole numbers in the proportion of the weights; near to it where they would be too large.
fn turns(weights: &[f64]) -> Vec<u64> {
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
    fn pick(&self, _: &Candidates, _: &Ask<'_>) -> u32 {
        let turn = self.policy.next_by_weight.fetch_add(1, Ordering::Relaxed);
        self.schedule[(turn % self.schedule.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_the_smallest_in_proportion() {
        assert_eq!(turns(&[3.0, 1.0]), [3, 1]);
        assert_eq!(turns(&[1.0; 5]), [1; 5]);
        assert_eq!(turns(&[300.0, 100.0, 200.0]), [3, 1, 2]);
        assert_eq!(turns(&[0.5, 1.5, 0.25]), [2, 6, 1]);
        assert_eq!(turns(&[1.0, 1.0 / 3.0]), [49_152, 16_384]);
        assert_eq!(turns(&[1e9, 1.0]), [65_536, 1], "nobody is left out");
        assert_eq!(turns(&[1e300, 1e300]), [32_768, 32_768]);
    }
}
