//! Parsers of a peer's bytes, for the fuzzers.

use std::{
    fmt,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use crate::{
    Transport, net,
    proto::{ClientHello, GoAway, HEADER, Inbound, RequestHead, ResponseHead, ServerHello, read_pairs},
};

/// Fields of a parsed frame or head.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Every field.
    pub text: String,
    /// The same as this version writes it; `None` for what it never would.
    pub written: Option<Vec<u8>>,
    /// How many bytes were read.
    pub length: usize,
}

impl Parsed {
    fn frame(value: &impl fmt::Debug, frame: &[u8], length: usize) -> Self {
        Self { text: format!("{value:?}"), written: Some(frame[HEADER..].to_vec()), length }
    }
}

/// The head of a request at the start of `body`, with its pairs.
pub fn request_head(body: &[u8]) -> Option<Parsed> {
    let (head, length) = RequestHead::parse(body).ok()?;
    let mut written = Vec::new();
    let fits = head.write(&mut written).is_ok();
    let pairs: Vec<_> = read_pairs(head.pairs).collect();
    Some(Parsed { text: format!("{head:?} {pairs:?}"), written: fits.then_some(written), length })
}

/// The head of a response at the start of `body`.
pub fn response_head(body: &[u8]) -> Option<Parsed> {
    let (head, length) = ResponseHead::parse(body).ok()?;
    let mut written = Vec::new();
    head.write(&mut written);
    Some(Parsed { text: format!("{head:?}"), written: Some(written), length })
}

/// The body of a client's HELLO.
pub fn client_hello(body: &[u8]) -> Option<Parsed> {
    let hello = ClientHello::parse(body).ok()?;
    Some(Parsed::frame(&hello, &hello.to_frame(), body.len()))
}

/// The body of a server's HELLO.
pub fn server_hello(body: &[u8]) -> Option<Parsed> {
    let hello = ServerHello::parse(body).ok()?;
    Some(Parsed::frame(&hello, &hello.to_frame(), body.len()))
}

/// The body of GOAWAY.
pub fn goaway(body: &[u8]) -> Parsed {
    let goaway = GoAway::parse(body);
    Parsed::frame(&goaway, &goaway.to_frame(), body.len())
}

/// A header's bytes and the body.
pub type WireFrame = ([u8; HEADER], Bytes);

/// Cuts what a transport receives into frames.
pub struct Frames {
    io: Box<dyn Transport>,
    inbound: Inbound,
}

impl Frames {
    /// Accepts frames of up to `max_frame` bytes.
    pub fn new(io: impl Transport, max_frame: usize) -> Self {
        Self { io: Box::new(io), inbound: Inbound::new(max_frame) }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the bytes that come next.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<WireFrame>, String>> {
        loop {
            if let Some(frame) = self.inbound.next_frame().map_err(|malformed| malformed.to_string())? {
                let header = frame.header.to_bytes((HEADER + frame.body.len()) as u32);
                return Poll::Ready(Ok(Some((header, frame.body.into()))));
            }
            self.inbound.park();
            if ready!(net::poll_fill(&mut self.inbound, &mut self.io, cx)).map_err(|error| error.to_string())? == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("inbound", &self.inbound).finish_non_exhaustive()
    }
}
