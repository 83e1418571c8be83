//! Messages of one `mpub`. Pure.

use bytes::{Buf, BytesMut};
use ms_mq::Push;
use serde::Deserialize;

use super::line::{delay_ms, pushed};
use crate::{
    limits::{BATCH, BODY, DROPPED, JSON},
    protocol::Refusal,
};

/// The messages of one `mpub`.
#[derive(Debug)]
pub(super) struct Batch {
    topic: String,
    left: u32,
    form: Option<Form>,
    pushes: Vec<Push>,
    bytes: usize,
    /// Bytes to drop.
    unwanted: u64,
    /// The error was told; all that is left is dropped.
    is_refused: bool,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// `u32 length + JSON`.
    Json,
    /// `u32 delay + u32 length + body`.
    Older,
}

pub(super) enum Step {
    Again,
    Waits,
    Refused(Refusal),
    End(Refusal),
    /// All messages are there; `None` after a refusal.
    Done(Option<Vec<Push>>),
}

/// JSON of one message. What it says about the topic does not count.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    body: String,
    /// In seconds.
    #[serde(default)]
    delay: i64,
    #[serde(default)]
    route_key: String,
}

impl Batch {
    pub(super) fn new(topic: String, left: u32) -> Self {
        Self { topic, left, form: None, pushes: Vec::new(), bytes: 0, unwanted: 0, is_refused: false }
    }

    pub(super) fn step(&mut self, input: &mut BytesMut) -> Step {
        if self.unwanted > 0 {
            let Some(left) = skip(input, self.unwanted) else {
                self.unwanted = 0;
                return Step::Again;
            };
            self.unwanted = left;
            return Step::Waits;
        }
        if self.left == 0 {
            return Step::Done((!self.is_refused).then(|| std::mem::take(&mut self.pushes)));
        }
        let Some(form) = self.form(input) else { return Step::Waits };
        let (head, most) = match form {
            Form::Json => (4, JSON),
            Form::Older => (8, BODY),
        };
        if input.len() < head {
            return Step::Waits;
        }
        let number = |at: usize| input[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let length = number(head - 4) as usize;
        if length as u64 > DROPPED {
            return Step::End(too_large("message", length, most));
        }
        if self.is_refused || length > most {
            input.advance(head);
            self.left -= 1;
            self.unwanted = length as u64;
            return if self.is_refused { Step::Again } else { self.refuse(too_large("message", length, most)) };
        }
        if input.len() < head + length {
            return Step::Waits;
        }
        let delay = number(0);
        input.advance(head);
        let body = input.split_to(length);
        self.left -= 1;
        let push = match form {
            Form::Json => self.read(&body),
            Form::Older => {
                delay_ms(delay.into()).map(|delay_ms| Push { delay_ms, ..Push::new(&*self.topic, body.to_vec()) })
            }
        };
        match push {
            Err(refusal) => self.refuse(refusal),
            Ok(push) => {
                self.bytes += push.body.len();
                if self.bytes > BATCH {
                    return self.refuse(too_large("batch", self.bytes, BATCH));
                }
                self.pushes.push(push);
                Step::Again
            }
        }
    }

    /// The first message tells the form of all. In the older one the fifth byte begins a length, and is 0 for all that are
    /// allowed; in the other one it begins a JSON object, maybe after white space.
    fn form(&mut self, input: &BytesMut) -> Option<Form> {
        if self.form.is_none() {
            self.form = input.get(4).map(|byte| if *byte == 0 { Form::Older } else { Form::Json });
        }
        self.form
    }

    fn read(&self, json: &[u8]) -> Result<Push, Refusal> {
        let item: Item = serde_json::from_slice(json)
            .map_err(|error| Refusal::new("E_INVALID_JSON", format!("a message is no such JSON: {error}")))?;
        let delay = u64::try_from(item.delay)
            .map_err(|_| Refusal::new("E_INVALID_DELAY", format!("delay:{} is below 0", item.delay)))?;
        let push = pushed(&self.topic, &item.route_key);
        Ok(Push { delay_ms: delay_ms(delay)?, body: item.body.into_bytes().into(), ..push })
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        self.is_refused = true;
        self.pushes = Vec::new();
        Step::Refused(refusal)
    }
}

pub(super) fn too_large(what: &str, length: usize, most: usize) -> Refusal {
    Refusal::new("E_INVALID_READ", format!("the {what} has {length} bytes or more, at most {most} are taken"))
}

/// Drops so many bytes; returns how many of them are still to come, or `None`.
pub(super) fn skip(input: &mut BytesMut, left: u64) -> Option<u64> {
    let here = left.min(input.len() as u64);
    input.advance(here as usize);
    (left > here).then_some(left - here)
}
