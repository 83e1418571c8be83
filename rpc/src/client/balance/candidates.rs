//! Candidates for a call, and the trait of the algorithms that pick one of them.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use ms_register::Instance;

use super::{
    estimate::{Clock, LoadEstimates},
    key::Key,
    ring::Ring,
};

/// Balancing algorithm over a fixed set of candidates.
///
/// A new one is made whenever the candidates change, so it may compute a schedule or a table in advance. State that outlives
/// a change, such as a cursor, belongs to the factory: see [`Balancing::custom`](crate::Balancing::custom).
pub trait Balance: fmt::Debug + Send + Sync + 'static {
    /// Index of the candidate for the next call. There are at least two candidates: a single one is used without asking.
    ///
    /// The balancer runs on the caller's task, on several threads at once: it must not block, and should not allocate. If it panics, or
    /// returns an index out of range, the call fails with `Internal`, unsent, and the error names the balancer.
    fn pick(&self, candidates: &Candidates, call: &PickContext<'_>) -> usize;
}

/// Properties of a call that a pick may depend on.
#[derive(Debug)]
pub struct PickContext<'a> {
    /// Hashes of the key, or of the caller's address where a balancer hashes that.
    pub(crate) key: Option<Key>,
    pub(crate) bytes: Option<&'a [u8]>,
    pub(crate) clock: &'a Clock,
}

impl PickContext<'_> {
    /// The call's [key](crate::CallOptions::key).
    pub fn key(&self) -> Option<&[u8]> {
        self.bytes
    }

    /// Hash of the call's [key](crate::CallOptions::key), well mixed in all 64 bits; `None` for a call without a key. The
    /// same in every process and on every machine.
    pub fn key_hash(&self) -> Option<u64> {
        self.key.map(Key::hash)
    }
}

/// Instance that may be picked: connected, admitted by the selector, not ejected, of a weight above 0.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Slot in the list of all instances, which is sorted by id.
    pub(crate) slot: u32,
    /// Reciprocal of the weight.
    lightness: f32,
    weight: f64,
    pub(super) loads: LoadEstimates,
    instance: Arc<Instance>,
}

impl Candidate {
    /// Range of weights: numbers from outside that are neither infinite sums nor infinite quotients.
    const WEIGHTS: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

    /// The instance's weight is above 0.
    pub(crate) fn new(slot: u32, instance: Arc<Instance>, loads: LoadEstimates) -> Self {
        let weight = instance.weight().clamp(*Self::WEIGHTS.start(), *Self::WEIGHTS.end());
        Self { slot, weight, loads, lightness: (1.0 / weight) as f32, instance }
    }

    /// The instance as the registry lists it: id, address, metadata.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Weight, from 1e-9 to 1e9: what the registry says beyond that is clamped.
    #[inline]
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Calls of this program in flight to the instance.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.loads.in_flight()
    }

    /// Load estimate: moving peak of the time between request and answer, with a half-life of 2 s; refusals double it. Zero
    /// before the first answer.
    pub fn load_estimate(&self, call: &PickContext<'_>) -> Duration {
        Duration::from_nanos(self.loads.peak(call.clock.read()) as u64)
    }

    /// A load in proportion to the weight.
    #[inline]
    pub(super) fn by_weight(&self, load: f32) -> f32 {
        load * self.lightness
    }
}

/// Candidates for a call, sorted by instance id. Dereferences to a slice.
#[derive(Debug, Default)]
pub struct Candidates(Box<[Candidate]>);

impl Candidates {
    /// `candidates` are sorted by slot.
    pub(crate) fn new(candidates: impl Iterator<Item = Candidate>) -> Self {
        Self(candidates.collect())
    }

    /// Index of the candidate with this slot, if it may be picked.
    #[inline]
    pub(super) fn find(&self, slot: u32) -> Option<usize> {
        // Usually no instance is missing, and slots are indices.
        match self.0.get(slot as usize) {
            Some(candidate) if candidate.slot == slot => Some(slot as usize),
            _ => self.0.binary_search_by_key(&slot, |candidate| candidate.slot).ok(),
        }
    }
}

impl Deref for Candidates {
    type Target = [Candidate];

    #[inline]
    fn deref(&self) -> &[Candidate] {
        &self.0
    }
}

/// Slots that are candidates once they are connected. Hashes go by these, so that a lost connection moves no other
/// instance's keys.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(super) slots: Box<[u32]>,
    pub(super) ring: Option<Arc<Ring>>,
}

impl Listed {
    /// `instances`: slot, id and weight, in order. `previous` makes a ring cheaper and does not change it.
    pub(crate) fn new<'a>(
        needs_ring: bool,
        previous: Option<&Self>,
        instances: impl Iterator<Item = (u32, &'a str, f64)> + Clone,
    ) -> Self {
        let previous = previous.and_then(|previous| previous.ring.as_ref());
        let ring = needs_ring.then(|| Ring::new(previous, instances.clone()));
        Self { slots: instances.map(|(slot, ..)| slot).collect(), ring }
    }

    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots
    }
}
