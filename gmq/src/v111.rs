//! The binary protocol of gmq's first nodes, whose frames begin with `v111`.
//!
//! ```text
//! request   "v111" | i16 command length | i16 data length | command | data
//! response  i16 type | i16 length | data        types: 0 job, 1 error, 2 message
//! ```
//!
//! | command | data | response |
//! |---|---|---|
//! | `push` | a job in JSON | 2, the message's id |
//! | `pop` | topics, separated by commas, in their order | 0, a job; after 3 s without one 2, `nothing` |
//! | `ack` | `{"JobId":..}` | 2, `success` |
//! | `ping` | | none |
//!
//! A job goes to the queue `default` of its topic. One with a TTR of 0 is gone when this protocol pops it.
//! `frame` reads frames and jobs, and is pure; `perform` carries requests out.

pub(crate) mod frame;
mod perform;

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use ms_mq::Engine;

use crate::protocol::{Event, Protocol, Refusal, Reply, Turn};
use frame::{Decoder, ERROR, Request, answer};

/// First bytes of every frame.
pub(crate) const MAGIC: &[u8; 4] = b"v111";

/// The server's side of one connection.
pub(crate) struct V111<E> {
    engine: E,
    decoder: Decoder,
    /// Topics that the connection took jobs from, where an `ack` looks first: it names none.
    topics: Arc<Mutex<Vec<String>>>,
}

impl<E> V111<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine, decoder: Decoder::default(), topics: Arc::default() }
    }
}

impl<E: Engine> Protocol for V111<E> {
    type Request = Request;

    fn next(&mut self, input: &mut BytesMut) -> Option<Event<Request>> {
        self.decoder.next(input)
    }

    fn is_midway(&self) -> bool {
        self.decoder.is_midway()
    }

    fn turn(request: &Request) -> Turn {
        match request {
            Request::Push(_) => Turn::Together,
            Request::Pop(_) => Turn::Waits,
            Request::Ack(_) | Request::Ping => Turn::Alone,
        }
    }

    fn perform(&self, request: Request) -> impl Future<Output = Reply> + Send + 'static {
        let (engine, topics) = (self.engine.clone(), self.topics.clone());
        async move {
            match perform::perform(&engine, &topics, request).await {
                Ok(reply) => reply,
                Err(text) => answer(ERROR, &text).into(),
            }
        }
    }

    fn refuse(refusal: &Refusal) -> Vec<u8> {
        answer(ERROR, &refusal.text)
    }

    fn heartbeat() -> Vec<u8> {
        Vec::new()
    }
}
