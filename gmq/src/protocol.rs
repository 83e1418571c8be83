//! A protocol as a session sees it: requests from bytes, and replies to them.

use std::{fmt, future::Future};

use bytes::BytesMut;
use ms_mq::{Engine, Receipt};

/// Next thing that a decoder finds in its input.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<R> {
    Request(R),
    /// The connection goes on.
    Refused(Refusal),
    /// The connection ends: what follows could not be told apart.
    Fatal(Refusal),
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Code of the text protocol, such as `E_INVALID_POP`.
    pub(crate) code: &'static str,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

/// When a request may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// At the same time as others of its kind. The replies leave in the order of the requests.
    Together,
    /// When all before it have been replied to, and before all others.
    Alone,
    /// As `Together`, but it may wait for messages: then nothing is begun before it ends, and it ends when the client goes away.
    Waits,
}

/// Bytes for the client.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) leased: Option<Leased>,
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, leased: None }
    }
}

/// Leases of the messages of a reply. Dropped before the reply is written, it gives them back.
pub(crate) struct Leased(Option<Box<dyn FnOnce() + Send>>);

impl Leased {
    pub(crate) fn new<E: Engine>(engine: &E, receipts: Vec<Receipt>) -> Option<Self> {
        (!receipts.is_empty()).then(|| Self(Some(Box::new(engine.give_back(receipts)))))
    }

    /// The client has the messages.
    pub(crate) fn delivered(mut self) {
        self.0 = None;
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").finish_non_exhaustive()
    }
}

/// One side of a connection.
pub(crate) trait Protocol: Send {
    type Request: Send;

    /// Takes the next request out of the input; `None`: there is not all of it yet.
    fn next(&mut self, input: &mut BytesMut) -> Option<Event<Self::Request>>;

    /// Returns true in the middle of a request, when part of it has been taken out of the input.
    fn is_midway(&self) -> bool;

    fn turn(request: &Self::Request) -> Turn;

    fn perform(&self, request: Self::Request) -> impl Future<Output = Reply> + Send + 'static;

    fn refuse(refusal: &Refusal) -> Vec<u8>;

    /// Bytes that are sent while a request waits; empty for none.
    fn heartbeat() -> Vec<u8>;
}
