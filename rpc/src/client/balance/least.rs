//! Whoever has the least to do, or answers soonest.

use super::choices::{Ask, Balance, Candidate, Candidates};

/// Among more than this not all are looked at.
const EXACT: usize = 128;
const SAMPLE: usize = 8;

#[derive(Debug)]
pub(super) struct LeastConnections;

impl Balance for LeastConnections {
    fn pick(&self, candidates: &Candidates, _: &Ask<'_>) -> u32 {
        let all = candidates.all();
        let first = fastrand::usize(..all.len());
        if all.len() > EXACT {
            let sample = std::iter::repeat_with(|| &all[fastrand::usize(..all.len())]).take(SAMPLE - 1);
            return least(&all[first], sample);
        }
        // Equals get their turns, since each look begins elsewhere.
        least(&all[first], all[first + 1..].iter().chain(&all[..first]))
    }
}

fn least<'a>(first: &'a Candidate, others: impl Iterator<Item = &'a Candidate>) -> u32 {
    let load = |candidate: &Candidate| candidate.by_weight(candidate.loads.in_flight() as f32 + 1.0);
    let (best, _) = others.fold((first, load(first)), |(best, lowest), other| {
        let load = load(other);
        if load < lowest { (other, load) } else { (best, lowest) }
    });
    best.place
}

#[derive(Debug)]
pub(super) struct P2c;

impl Balance for P2c {
    fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> u32 {
        let all = candidates.all();
        let (random, count) = (fastrand::u64(..), all.len() as u64);
        // Two different ones: each half of the random number is taken for a fraction of the count.
        let first = ((random >> 32) * count) >> 32;
        let second = ((random & u64::from(u32::MAX)) * (count - 1)) >> 32;
        let second = if second < first { second } else { second + 1 };
        let (first, second) = (&all[first as usize], &all[second as usize]);
        let now = ask.clock.read();
        let cost = |candidate: &Candidate| candidate.by_weight(candidate.loads.cost(now));
        if cost(second) < cost(first) { second.place } else { first.place }
    }
}
