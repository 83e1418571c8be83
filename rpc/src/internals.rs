//! The parts that a call is made of, for the benchmarks in `benches/` to measure one by one, and for the fuzzers in `fuzz/`
//! to feed with what a peer may send.
//!
//! Unstable: it exists with the feature `internals` alone, follows the code wherever that goes, and is no part of what
//! versions promise. Nothing else may use it.

mod wire;

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use ms_register::Instance;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    Balancer, Codec, Compression,
    buffer::FrameBuf,
    client::{Candidate, Choices, Clock, Key, Listed, LoadEstimate, LoadEstimates, PickContext, Policy},
    proto::{DEFAULT_MAX_FRAME, Frame, HEADER, Header, InFlight, Kind, RequestHead, Settled},
};

pub use wire::{Frames, Parsed, WireFrame, client_hello, goaway, request_head, response_head, server_hello};

/// The header of a request with this id, for a frame of `length` bytes in all.
pub fn header(id: u64, length: u32) -> [u8; HEADER] {
    request(id).to_bytes(length)
}

/// The id and the frame's length in a header; `None` for anything that is no whole, legal one.
pub fn parse_header(bytes: &[u8]) -> Option<(u64, usize)> {
    let (header, length) = Header::parse(bytes, DEFAULT_MAX_FRAME).ok()??;
    Some((header.id, length))
}

/// Appends the head of a request without metadata; false if the names do not fit.
pub fn write_head(service: &str, method: &str, out: &mut Vec<u8>) -> bool {
    RequestHead { timeout_ms: 1_000, service, method, argc: 1, pairs: &[0], signature: 0, shape: 0 }.write(out).is_ok()
}

/// The names in the head at the start of `body`, and where the value starts.
pub fn parse_head(body: &[u8]) -> Option<(&str, &str, usize)> {
    let (head, value) = RequestHead::parse(body).ok()?;
    Some((head.service, head.method, value))
}

/// Buffer that values are encoded into.
#[derive(Debug, Default)]
pub struct Buffer(FrameBuf);

impl Buffer {
    /// Appends `value`; false if it cannot be encoded.
    pub fn encode<T: Serialize>(&mut self, codec: &Codec, value: &T) -> bool {
        codec.encode(value, &mut self.0).is_ok()
    }

    /// A copy of all that was appended.
    pub fn to_bytes(&self) -> Bytes {
        self.0.to_bytes()
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Reads a value that fills `body`.
pub fn decode<T: DeserializeOwned>(codec: &Codec, body: &Bytes) -> Option<T> {
    codec.decode(body, body.len()).ok()
}

/// The compressed form, if it is smaller.
pub fn shrink(compression: &Compression, body: &[u8]) -> Option<Vec<u8>> {
    compression.shrink(body, None).ok().flatten()
}

/// Expands a body that [`shrink`] compressed.
pub fn expand(compression: &Compression, compressed: &[u8]) -> Option<Vec<u8>> {
    compression.expand(compressed, DEFAULT_MAX_FRAME).ok()
}

/// A balancer, and instances with weights from 1 to 3, each with one connection and some calls in flight on it.
#[derive(Debug)]
pub struct Plan {
    policy: Arc<Policy>,
    clock: Arc<Clock>,
    instances: Vec<(Arc<Instance>, Arc<LoadEstimate>)>,
    keys: Arc<[Key]>,
}

impl Plan {
    /// Over that many.
    pub fn new(balancer: Balancer, instances: u32) -> Self {
        let (clock, start) = (Arc::<Clock>::default(), Instant::now());
        let instance = |slot: u32| {
            let load = LoadEstimate::new(clock.clone());
            load.set_in_flight(slot as usize % 5);
            load.answered(Duration::from_micros(u64::from(slot % 7 + 50)), start);
            let instance = Instance::new(format!("10.0.{}.{}", slot / 256, slot % 256), 80);
            (Arc::new(instance.with_weight(f64::from(slot % 3 + 1))), Arc::new(load))
        };
        let instances = (0..instances).map(instance).collect();
        let keys = (0..1024u32).map(|key| Key::new(&key.to_be_bytes())).collect();
        Self { policy: Arc::new(Policy::new(balancer.into())), clock, instances, keys }
    }

    /// Makes the first list of instances.
    pub fn listed(&self) -> Listing {
        Self::list(&self.policy, None, self.instances.iter())
    }

    /// Makes the list without the instance in the middle.
    pub fn changed(&self, before: &Listing) -> Listing {
        let middle = self.instances.len() / 2;
        let (left, right) = self.instances.split_at(middle);
        Self::list(&self.policy, Some(&before.0), left.iter().chain(right.iter().skip(1)))
    }

    fn list<'a>(
        policy: &Policy,
        before: Option<&Listed>,
        instances: impl Iterator<Item = &'a (Arc<Instance>, Arc<LoadEstimate>)> + Clone,
    ) -> Listing {
        let listed = (0..).zip(instances).map(|(slot, (instance, _))| (slot, instance.id(), instance.weight()));
        Listing(Arc::new(Listed::new(policy.balancing.needs_ring(), before, listed)))
    }

    /// Makes the balancer, as for each new list, and when an instance is connected, lost or ejected.
    pub fn pick(&self, listed: &Listing) -> Pick {
        let candidates = (0..).zip(&self.instances);
        let candidates = candidates
            .map(|(slot, (instance, load))| Candidate::new(slot, instance.clone(), LoadEstimates::One(load.clone())));
        let choices = Choices::new(&self.policy, &listed.0, candidates);
        Pick { choices, clock: self.clock.clone(), keys: self.keys.clone(), next: AtomicUsize::new(0) }
    }
}

/// The instances that hashes go by.
#[derive(Debug)]
pub struct Listing(Arc<Listed>);

/// A balancer over instances.
#[derive(Debug)]
pub struct Pick {
    choices: Choices,
    clock: Arc<Clock>,
    keys: Arc<[Key]>,
    next: AtomicUsize,
}

impl Pick {
    /// Slot of the instance for the next call.
    pub fn next(&self) -> Option<u32> {
        let next = self.next.load(Ordering::Relaxed);
        self.next.store(next.wrapping_add(1), Ordering::Relaxed);
        self.choices
            .pick(&PickContext { key: Some(self.keys[next % self.keys.len()]), bytes: None, clock: &self.clock })
            .ok()
            .flatten()
    }
}

/// The table of a connection's calls.
#[derive(Debug)]
pub struct Table {
    calls: InFlight<Frame>,
    timeout: Duration,
    began: Instant,
}

impl Table {
    /// One in which that many calls wait, and go on waiting.
    pub fn with_waiting(calls: usize, timeout: Duration) -> Self {
        let mut table = Self { calls: InFlight::default(), timeout, began: Instant::now() };
        for _ in 0..calls {
            table.calls.insert(timeout, Waker::noop().clone());
        }
        table.calls.begin(table.began);
        table
    }

    /// A call from its entry to its answer; false if the answer does not come out.
    pub fn call(&mut self, answer: &Bytes) -> bool {
        let id = black_box(self.calls.insert(self.timeout, Waker::noop().clone()));
        self.calls.begin(self.began);
        let frame = Frame { header: Header { kind: Kind::Response, ..request(id) }, body: answer.clone().into() };
        let woken = self.calls.complete(id, black_box(frame));
        let settled = self.calls.poll(id, Waker::noop());
        woken.is_some() && matches!(settled, Poll::Ready((Settled::Answer(_), _)))
    }
}

fn request(id: u64) -> Header {
    Header { kind: Kind::Request, compression: 0, codec: Codec::default().number(), id }
}
