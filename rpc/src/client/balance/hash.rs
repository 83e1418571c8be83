//! The same instance for the same key.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{
    Key, Policy,
    choices::{Ask, Balance, Candidate, Candidates, Listed},
};

/// So many points of a ring are looked at for one that may be picked. Where hardly any may, another rule is the faster one.
const LOOKS: usize = 256;

/// The instance of this number, of those listed.
#[derive(Debug)]
pub(super) struct Modulo {
    pub(super) policy: Arc<Policy>,
    pub(super) listed: Arc<Listed>,
}

impl Balance for Modulo {
    fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> u32 {
        let Some(key) = ask.key else { return in_turn(&self.policy, candidates) };
        let place = self.listed.places[(key.crc % self.listed.places.len() as u32) as usize];
        match candidates.find(place) {
            Some(_) => place,
            None => of_the_rest(key, candidates),
        }
    }
}

/// Whose keys cannot go where they belong are spread over all others.
fn of_the_rest(key: Key, candidates: &Candidates) -> u32 {
    candidates.place((key.crc % candidates.len() as u32) as usize)
}

fn in_turn(policy: &Policy, candidates: &Candidates) -> u32 {
    candidates.place((policy.next.advance() % candidates.len() as u32) as usize)
}

/// The next on the ring.
#[derive(Debug)]
pub(super) struct Consistent {
    pub(super) policy: Arc<Policy>,
    pub(super) listed: Arc<Listed>,
}

impl Balance for Consistent {
    fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> u32 {
        let Some(key) = ask.key else { return in_turn(&self.policy, candidates) };
        let Some(ring) = &self.listed.ring else { return of_the_rest(key, candidates) };
        let mut places = ring.from(key.position).take(LOOKS);
        places.find(|place| candidates.find(*place).is_some()).unwrap_or_else(|| of_the_rest(key, candidates))
    }
}

/// The next on the ring that does not have more than its share in flight.
#[derive(Debug)]
pub(super) struct Bounded {
    policy: Arc<Policy>,
    listed: Arc<Listed>,
    /// The bound for each call in flight, by an instance's weight.
    of_weight: f64,
    /// The calls in flight when they were counted last, and all that were picked for since.
    in_flight: AtomicU32,
    /// So many picks later they are counted again.
    recount: AtomicU32,
}

impl Bounded {
    pub(super) fn new(policy: Arc<Policy>, listed: Arc<Listed>, candidates: &Candidates, percent: u32) -> Self {
        let weights: f64 = candidates.all().iter().map(|candidate| candidate.weight).sum();
        let of_weight = f64::from(percent.max(100)) / 100.0 / weights;
        Self { policy, listed, of_weight, in_flight: AtomicU32::new(0), recount: AtomicU32::new(0) }
    }

    /// With one more. Among many instances it takes long to count, and a few calls that have ended meanwhile are no matter.
    fn in_flight(&self, candidates: &Candidates) -> u32 {
        let (counted, next) = match self.recount.load(Ordering::Relaxed) {
            0 => (
                candidates.all().iter().map(|candidate| candidate.loads.in_flight()).sum(),
                candidates.len() as u32 / 4,
            ),
            picks => (self.in_flight.load(Ordering::Relaxed), picks - 1),
        };
        self.recount.store(next, Ordering::Relaxed);
        self.in_flight.store(counted + 1, Ordering::Relaxed);
        counted + 1
    }
}

impl Balance for Bounded {
    fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> u32 {
        let Some(key) = ask.key else { return in_turn(&self.policy, candidates) };
        let Some(ring) = &self.listed.ring else { return of_the_rest(key, candidates) };
        // A whole number is below a bound if it is below the bound rounded up.
        let bound = f64::from(self.in_flight(candidates)) * self.of_weight;
        let has_room = |candidate: &Candidate| f64::from(candidate.loads.in_flight()) < bound * candidate.weight;
        let mut first = None;
        for place in ring.from(key.position).take(LOOKS) {
            let Some(index) = candidates.find(place) else { continue };
            if has_room(&candidates.all()[index]) {
                return place;
            }
            first = first.or(Some(place));
        }
        first.unwrap_or_else(|| of_the_rest(key, candidates))
    }
}
