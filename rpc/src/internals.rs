//! The parts that a call is made of, for the benchmarks in `benches/` to measure one by one, and for the fuzzers in `fuzz/`
//! to feed with what a peer may send.
//!
//! Unstable: it exists with the feature `internals` alone, follows the code wherever that goes, and is no part of what
//! versions promise. Nothing else may use it.

mod wire;

use std::{
    hint::black_box,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    Balancer, Codec, Compression,
    buffer::FrameBuf,
    client::{Balance, Choices, InFlight, Settled},
    frame::{DEFAULT_MAX_FRAME, HEADER, Header, Kind, RequestHead},
    transport::Frame,
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
    RequestHead { timeout_ms: 1_000, service, method, argc: 1, pairs: &[0] }.write(out).is_ok()
}

/// The names in the head at the start of `body`, and where the value starts.
pub fn parse_head(body: &[u8]) -> Option<(&str, &str, usize)> {
    let (head, value) = RequestHead::parse(body).ok()?;
    Some((head.service, head.method, value))
}

/// What values are encoded into.
#[derive(Debug, Default)]
pub struct Buffer(FrameBuf);

impl Buffer {
    /// Appends `value`; false if it cannot be encoded.
    pub fn encode<T: Serialize>(&mut self, codec: Codec, value: &T) -> bool {
        codec.encode(value, &mut self.0).is_ok()
    }

    /// A copy of all that was appended.
    pub fn to_bytes(&self) -> Bytes {
        self.0.gather(FrameBuf::default().mark()).into()
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Reads a value that fills `body`.
pub fn decode<T: DeserializeOwned>(codec: Codec, body: &Bytes) -> Option<T> {
    codec.decode(body).ok()
}

/// The compressed form, if it is smaller.
pub fn shrink(compression: Compression, body: &[u8]) -> Option<Vec<u8>> {
    compression.shrink(body)
}

/// What [`shrink`] made smaller.
pub fn expand(compression: Compression, compressed: &[u8]) -> Option<Vec<u8>> {
    compression.expand(compressed, DEFAULT_MAX_FRAME).ok()
}

/// A balancer over instances of equal weight.
#[derive(Debug)]
pub struct Pick {
    balance: Box<dyn Balance>,
    choices: Choices,
}

impl Pick {
    /// Over that many.
    pub fn new(balancer: Balancer, instances: u32) -> Self {
        Self { balance: balancer.build(), choices: Choices::new((0..instances).map(|place| (place, 1.0))) }
    }

    /// The place of the instance for the next call.
    pub fn next(&self) -> Option<u32> {
        self.choices.pick(&*self.balance, |_| false)
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
        woken.is_some() && matches!(settled, Poll::Ready(Settled::Answer(_)))
    }
}

fn request(id: u64) -> Header {
    Header { kind: Kind::Request, compression: 0, codec: Codec::default().number(), id }
}
