//! Lines and bodies of the text protocol. Pure.

use bytes::{Buf, BytesMut};
use ms_mq::Push;

use super::{
    batch::{Batch, Step, skip, too_large},
    line::{self, Command, Problem},
};
use crate::{
    limits::{BODY, DROPPED, LINE},
    protocol::{Event, Refusal},
};

/// A command with its body.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    /// A command that has no body.
    Line(Command),
    Push(Push),
    PushAll(Vec<Push>),
    Publish(String, Vec<u8>),
}

/// Reads requests. Errors are told as soon as they are seen; a body that is not wanted is dropped as it comes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of the input that are known to hold no end of a line.
    scanned: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Line,
    /// A length and a body.
    Body(Owner),
    /// Length and body of a refused request.
    Unwanted,
    /// Bytes of a refused body that are still to come.
    Drop(u64),
    Batch(Batch),
    End,
}

/// Request that a body is of.
#[derive(Debug)]
enum Owner {
    Push(Push),
    Channel(String),
}

type Found = Option<Event<Request>>;

impl Decoder {
    pub(crate) fn is_midway(&self) -> bool {
        !matches!(self.state, State::Line | State::End)
    }

    /// Takes the next request out of the input.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Found {
        loop {
            match std::mem::take(&mut self.state) {
                State::Line => {
                    if let Some(found) = self.line(input)? {
                        return Some(found);
                    }
                }
                State::Body(owner) => match length(input) {
                    Some(length) if length > BODY => {
                        input.advance(4);
                        return Some(self.drop_or_end(length, too_large("body", length, BODY)));
                    }
                    Some(length) if input.len() >= 4 + length => {
                        input.advance(4);
                        let body = input.split_to(length).to_vec();
                        return Some(Event::Request(match owner {
                            Owner::Push(push) => Request::Push(Push { body: body.into(), ..push }),
                            Owner::Channel(channel) => Request::Publish(channel, body),
                        }));
                    }
                    _ => {
                        self.state = State::Body(owner);
                        return None;
                    }
                },
                State::Unwanted => {
                    let Some(length) = length(input) else {
                        self.state = State::Unwanted;
                        return None;
                    };
                    input.advance(4);
                    if length as u64 > DROPPED {
                        return Some(self.drop_or_end(length, too_large("body", length, BODY)));
                    }
                    self.state = State::Drop(length as u64);
                }
                State::Drop(left) => {
                    if let Some(left) = skip(input, left) {
                        self.state = State::Drop(left);
                        return None;
                    }
                }
                State::Batch(mut batch) => match batch.step(input) {
                    Step::Again => self.state = State::Batch(batch),
                    Step::Waits => {
                        self.state = State::Batch(batch);
                        return None;
                    }
                    Step::Refused(refusal) => {
                        self.state = State::Batch(batch);
                        return Some(Event::Refused(refusal));
                    }
                    Step::End(refusal) => {
                        self.state = State::End;
                        return Some(Event::Fatal(refusal));
                    }
                    Step::Done(None) => {}
                    Step::Done(Some(pushes)) => return Some(Event::Request(Request::PushAll(pushes))),
                },
                State::End => {
                    self.state = State::End;
                    return None;
                }
            }
        }
    }

    /// Reads a line; the inner `None` is a line that is all of what it asks for.
    fn line(&mut self, input: &mut BytesMut) -> Option<Found> {
        // One byte more for a carriage return, and one for the end.
        let seen = &input[..input.len().min(LINE + 2)];
        let Some(end) = seen[self.scanned..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = seen.len();
            if seen.len() < LINE + 2 {
                return None;
            }
            self.state = State::End;
            return Some(Some(Event::Fatal(too_large("line", seen.len(), LINE))));
        };
        let end = self.scanned + end;
        self.scanned = 0;
        let parsed = line::parse(&input[..end]);
        input.advance(end + 1);
        match parsed {
            Ok(Command::Push(push)) => self.state = State::Body(Owner::Push(push)),
            Ok(Command::Publish(channel)) => self.state = State::Body(Owner::Channel(channel)),
            Ok(Command::PushAll(topic, count)) => self.state = State::Batch(Batch::new(topic, count)),
            Ok(command) => return Some(Some(Event::Request(Request::Line(command)))),
            Err(Problem::Line(refusal)) => return Some(Some(Event::Refused(refusal))),
            Err(Problem::Body(refusal)) => {
                self.state = State::Unwanted;
                return Some(Some(Event::Refused(refusal)));
            }
            Err(Problem::End(refusal)) => {
                self.state = State::End;
                return Some(Some(Event::Fatal(refusal)));
            }
        }
        Some(None)
    }

    fn drop_or_end(&mut self, length: usize, refusal: Refusal) -> Event<Request> {
        if length as u64 > DROPPED {
            self.state = State::End;
            return Event::Fatal(refusal);
        }
        self.state = State::Drop(length as u64);
        Event::Refused(refusal)
    }
}

/// The length at the beginning of the input.
fn length(input: &BytesMut) -> Option<usize> {
    input.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize)
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
