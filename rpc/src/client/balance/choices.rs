//! The instances that a call may go to, and the pick among them.

use std::{fmt, sync::Arc};

use super::{
    Balancer, Clock, Key, Loads, Policy,
    chance::{Random, WeightedRandom},
    hash::{Bounded, Consistent, Modulo},
    least::{LeastConnections, P2c},
    ring::Ring,
    turns::{RoundRobin, WeightedRoundRobin},
};

/// Picks one of the candidates that it was made for.
pub(crate) trait Balance: fmt::Debug + Send + Sync {
    /// The place of one of them. There are at least two.
    fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> u32;
}

/// What a pick depends on, besides the instances.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) key: Option<Key>,
    pub(crate) clock: &'a Clock,
}

/// One instance that may be picked.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its place in the list of all instances, which is sorted by id.
    pub(crate) place: u32,
    pub(crate) weight: f64,
    pub(crate) loads: Loads,
    /// 1 by the weight.
    lightness: f32,
}

impl Candidate {
    /// Only numbers that can be added up and divided by are weights, and these come from outside.
    const WEIGHTS: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

    /// `weight` is above 0.
    pub(crate) fn new(place: u32, weight: f64, loads: Loads) -> Self {
        let weight = weight.clamp(*Self::WEIGHTS.start(), *Self::WEIGHTS.end());
        Self { place, weight, loads, lightness: (1.0 / weight) as f32 }
    }

    /// What weighs more counts as less busy.
    #[inline]
    pub(super) fn by_weight(&self, load: f32) -> f32 {
        load * self.lightness
    }
}

/// Those that may be picked, sorted by place.
#[derive(Debug, Default)]
pub(crate) struct Candidates(Box<[Candidate]>);

impl Candidates {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn all(&self) -> &[Candidate] {
        &self.0
    }

    #[inline]
    pub(super) fn place(&self, index: usize) -> u32 {
        self.0[index].place
    }

    /// The index of this place, if it may be picked.
    #[inline]
    pub(super) fn find(&self, place: u32) -> Option<usize> {
        // Most often all are there.
        match self.0.get(place as usize) {
            Some(candidate) if candidate.place == place => Some(place as usize),
            _ => self.0.binary_search_by_key(&place, |candidate| candidate.place).ok(),
        }
    }
}

/// Those that are listed and may be picked once they are connected: what hashes go by, so that a lost connection moves
/// no key but its own.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(super) places: Box<[u32]>,
    pub(super) ring: Option<Arc<Ring>>,
}

impl Listed {
    /// `instances`: place, id and weight, in order. What was listed before makes this cheaper.
    pub(crate) fn new<'a>(
        balancer: Balancer,
        before: Option<&Self>,
        instances: impl Iterator<Item = (u32, &'a str, f64)> + Clone,
    ) -> Self {
        let ring_before = before.and_then(|before| before.ring.as_ref());
        let ring = balancer.needs_ring().then(|| Ring::new(ring_before, instances.clone()));
        Self { places: instances.map(|(place, ..)| place).collect(), ring }
    }

    pub(crate) fn places(&self) -> &[u32] {
        &self.places
    }
}

/// Candidates, and who picks among them.
#[derive(Debug)]
pub(crate) struct Choices {
    candidates: Candidates,
    balance: Box<dyn Balance>,
}

impl Choices {
    /// `candidates`, sorted by place, are among those `listed`.
    pub(crate) fn new(policy: &Arc<Policy>, listed: &Arc<Listed>, candidates: impl Iterator<Item = Candidate>) -> Self {
        let candidates = Candidates(candidates.collect());
        let (policy, listed) = (policy.clone(), listed.clone());
        let balance: Box<dyn Balance> = match policy.balancing.balancer() {
            Balancer::P2c => Box::new(P2c),
            Balancer::LeastConnections => Box::new(LeastConnections),
            Balancer::RoundRobin => Box::new(RoundRobin(policy)),
            Balancer::WeightedRoundRobin => Box::new(WeightedRoundRobin::new(policy, &candidates)),
            Balancer::Random => Box::new(Random),
            Balancer::WeightedRandom => Box::new(WeightedRandom::new(&candidates)),
            Balancer::IpHash | Balancer::KeyHash => Box::new(Modulo { policy, listed }),
            Balancer::ConsistentHash => Box::new(Consistent { policy, listed }),
            Balancer::BoundedHash(percent) => Box::new(Bounded::new(policy, listed, &candidates, percent)),
        };
        Self { candidates, balance }
    }

    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where there is nothing to choose.
    #[inline]
    pub(crate) fn only(&self) -> Option<u32> {
        match self.candidates.all() {
            [only] => Some(only.place),
            _ => None,
        }
    }

    /// The place of the instance for the next call.
    #[inline]
    pub(crate) fn pick(&self, ask: &Ask<'_>) -> Option<u32> {
        match self.candidates.all() {
            [] => None,
            [only] => Some(only.place),
            _ => Some(self.balance.pick(&self.candidates, ask)),
        }
    }

    /// The same, but none that is `avoided`.
    pub(crate) fn pick_other(&self, ask: &Ask<'_>, avoided: impl Fn(u32) -> bool) -> Option<u32> {
        let first = self.candidates.find(self.pick(ask)?)?;
        let from_there = (first..self.len()).chain(0..first);
        from_there.map(|index| self.candidates.place(index)).find(|place| !avoided(*place))
    }
}
