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
        let mut places = self.listed.ring.iter().flat_map(|ring| ring.from(key.position)).take(LOOKS);
        places.find(|place| candidates.find(*place).is_some()).unwrap_or_else(|| of_the_rest(key, candidates))
    }
}

/// The next on the ring that does not have more than its share in flight.
#[derive(Debug)]
pub(super) struct Bounded {
    policy: Arc<Policy>,
    listed: Arc<Listed>,
    /// The bound, in parts of the calls in flight for each part of the weight.
    of_weight: f64,
    /// The calls in flight when they were last counted.
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

    /// Among many instances it takes long to count, and a few calls more or less are no matter.
    fn in_flight(&self, candidates: &Candidates) -> u32 {
        match self.recount.load(Ordering::Relaxed) {
            0 => {
                self.recount.store(candidates.len() as u32 / 16, Ordering::Relaxed);
                let in_flight = candidates.all().iter().map(|candidate| candidate.loads.in_flight()).sum();
                self.in_flight.store(in_flight, Ordering::Relaxed);
                in_flight
            }
            picks => {
                self.recount.store(picks - 1, Ordering::Relaxed);
                self.in_flight.load(Ordering::Relaxed)
            }
        }
    }
}

impl Balance for Bounded {
    fn pick(&self, candidates: &Candidates, ask: &Ask<'_>) -> u32 {
        let Some(key) = ask.key else { return in_turn(&self.policy, candidates) };
        let calls = f64::from(self.in_flight(candidates)) + 1.0;
        let has_room = |candidate: &Candidate| {
            let most = (calls * self.of_weight * candidate.weight).ceil();
            f64::from(candidate.loads.in_flight()) < most
        };
        let mut first = None;
        for place in self.listed.ring.iter().flat_map(|ring| ring.from(key.position)).take(LOOKS) {
            let Some(index) = candidates.find(place) else { continue };
            if has_room(&candidates.all()[index]) {
                return place;
            }
            first = first.or(Some(place));
        }
        first.unwrap_or_else(|| of_the_rest(key, candidates))
    }
}
