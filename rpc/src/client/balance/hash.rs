//! Hashing balancers: calls of one key go to one instance.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{
    candidates::{Balance, Candidate, Candidates, Listed, PickContext},
    key::Key,
    turns::Turns,
};

/// Points of a ring that are examined for a candidate that may be picked. Where hardly any may, the modulus is faster.
const LOOKS: usize = 256;

/// Hash modulo the number of listed instances.
#[derive(Debug)]
pub(super) struct Modulo {
    pub(super) turns: Arc<Turns>,
    pub(super) listed: Arc<Listed>,
}

impl Balance for Modulo {
    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> usize {
        let Some(key) = call.key else { return self.turns.next(candidates) };
        let slot = self.listed.slots[(key.crc % self.listed.slots.len() as u32) as usize];
        candidates.find(slot).unwrap_or_else(|| among_the_rest(key, candidates))
    }
}

/// Spreads the keys of an instance that cannot be picked over all others.
fn among_the_rest(key: Key, candidates: &Candidates) -> usize {
    (key.crc % candidates.len() as u32) as usize
}

/// Consistent hash: the next point on the ring.
#[derive(Debug)]
pub(super) struct Consistent {
    pub(super) turns: Arc<Turns>,
    pub(super) listed: Arc<Listed>,
}

impl Balance for Consistent {
    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> usize {
        let Some(key) = call.key else { return self.turns.next(candidates) };
        let Some(ring) = &self.listed.ring else { return among_the_rest(key, candidates) };
        let mut found = ring.from(key.position).take(LOOKS).filter_map(|slot| candidates.find(slot));
        found.next().unwrap_or_else(|| among_the_rest(key, candidates))
    }
}

/// Consistent hash with bounded loads: the next point of an instance that does not exceed its share in flight.
#[derive(Debug)]
pub(super) struct Bounded {
    turns: Arc<Turns>,
    listed: Arc<Listed>,
    /// Bound for each call in flight, per weight.
    of_weight: f64,
    /// Calls in flight at the last count, plus picks since.
    in_flight: AtomicU32,
    /// Picks until the next count.
    recount: AtomicU32,
}

impl Bounded {
    pub(super) fn new(turns: Arc<Turns>, listed: Arc<Listed>, candidates: &Candidates, percent: u32) -> Self {
        let weights: f64 = candidates.iter().map(Candidate::weight).sum();
        let of_weight = f64::from(percent.max(100)) / 100.0 / weights;
        Self { turns, listed, of_weight, in_flight: AtomicU32::new(0), recount: AtomicU32::new(0) }
    }

    /// Calls in flight, this one included. Counting is slow among many instances, so a count serves a quarter as many picks
    /// as there are candidates: calls that end meanwhile matter little.
    fn in_flight(&self, candidates: &Candidates) -> u32 {
        let (counted, next) = match self.recount.load(Ordering::Relaxed) {
            0 => (candidates.iter().map(Candidate::in_flight).sum(), candidates.len() as u32 / 4),
            picks => (self.in_flight.load(Ordering::Relaxed), picks - 1),
        };
        self.recount.store(next, Ordering::Relaxed);
        self.in_flight.store(counted + 1, Ordering::Relaxed);
        counted + 1
    }
}

impl Balance for Bounded {
    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> usize {
        let Some(key) = call.key else { return self.turns.next(candidates) };
        let Some(ring) = &self.listed.ring else { return among_the_rest(key, candidates) };
        // A whole number is below a bound if it is below the bound rounded up.
        let bound = f64::from(self.in_flight(candidates)) * self.of_weight;
        let has_room = |candidate: &Candidate| f64::from(candidate.in_flight()) < bound * candidate.weight();
        let mut first = None;
        for slot in ring.from(key.position).take(LOOKS) {
            let Some(index) = candidates.find(slot) else { continue };
            if has_room(&candidates[index]) {
                return index;
            }
            first = first.or(Some(index));
        }
        first.unwrap_or_else(|| among_the_rest(key, candidates))
    }
}
