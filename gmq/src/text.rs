//! The text protocol, and its older variant.
//!
//! A command is a line of words with single spaces between them, so two spaces have an empty word between them. An answer is
//! `u16 type + u32 length + data`, big-endian like all numbers:
//!
//! | type | data |
//! |---|---|
//! | 101 | a message, or a list of them, in JSON |
//! | 102 | an error: `CODE - text` |
//! | 103 | a result |
//! | 104 | a message of a channel |
//! | 105 | `ping`: a pop waits |
//!
//! `line` reads one line, `decode` lines and bodies, both pure; `perform` carries requests out.

mod batch;
pub(crate) mod decode;
pub(crate) mod line;
mod perform;

use bytes::{Bytes, BytesMut};
use ms_mq::Engine;

use crate::{
    channels::Subscriber,
    protocol::{Event, Protocol, Refusal, Reply, Turn},
};
use decode::{Decoder, Request};
use line::Command;

const MESSAGE: u16 = 101;
const ERROR: u16 = 102;
const RESULT: u16 = 103;
const CHANNEL: u16 = 104;
const HEARTBEAT: u16 = 105;

/// An answer of this type.
fn answer(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

/// The server's side of one connection.
pub(crate) struct Text<E> {
    engine: E,
    subscriber: Subscriber,
    decoder: Decoder,
}

impl<E> Text<E> {
    pub(crate) fn new(engine: E, subscriber: Subscriber) -> Self {
        Self { engine, subscriber, decoder: Decoder::default() }
    }
}

impl<E: Engine> Protocol for Text<E> {
    type Request = Request;

    fn next(&mut self, input: &mut BytesMut) -> Option<Event<Request>> {
        self.decoder.next(input)
    }

    fn is_midway(&self) -> bool {
        self.decoder.is_midway()
    }

    fn turn(request: &Request) -> Turn {
        match request {
            Request::Push(_) | Request::PushAll(_) | Request::Line(Command::Ack { .. }) => Turn::Together,
            Request::Line(Command::Pop(_)) => Turn::Waits,
            Request::Line(_) | Request::Publish(..) => Turn::Alone,
        }
    }

    fn perform(&self, request: Request) -> impl Future<Output = Reply> + Send + 'static {
        let (engine, subscriber) = (self.engine.clone(), self.subscriber.clone());
        async move {
            match perform::perform(&engine, &subscriber, request).await {
                Ok(reply) => reply,
                Err(refusal) => Self::refuse(&refusal).into(),
            }
        }
    }

    fn refuse(refusal: &Refusal) -> Vec<u8> {
        answer(ERROR, format!("{} - {}", refusal.code, refusal.text).as_bytes())
    }

    fn heartbeat() -> Vec<u8> {
        answer(HEARTBEAT, b"ping")
    }
}

/// A message of a channel as its subscribers get it.
fn channel_message(message: &[u8]) -> Bytes {
    answer(CHANNEL, message).into()
}
