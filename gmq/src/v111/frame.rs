//! Frames and jobs of the binary protocol. Pure.

use bytes::{Buf, BytesMut};
use ms_mq::Push;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::MAGIC;
use crate::{
    limits::DELAY,
    protocol::{Event, Refusal},
};

const JOB: i16 = 0;
pub(crate) const ERROR: i16 = 1;
const MESSAGE: i16 = 2;

/// Bytes of a command or of data: what an `i16` counts.
const MOST: usize = i16::MAX as usize;
/// Bytes of a frame before its command.
const HEAD: usize = 8;
/// Header of a pushed job with a TTR of 0.
pub(super) const GONE_AT_POP: &str = "gmq.gone-at-pop";
/// Status of a job that was handed out.
pub(super) const RESERVED: u8 = 3;

#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Push(Push),
    /// Topics, in their order.
    Pop(Vec<String>),
    Ack(u64),
    Ping,
}

/// Reads requests.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Bytes of a refused frame that are still to come.
    unwanted: usize,
    is_ended: bool,
}

impl Decoder {
    pub(crate) fn is_midway(&self) -> bool {
        self.unwanted > 0
    }

    /// Takes the next request out of the input.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Option<Event<Request>> {
        if self.is_ended {
            return None;
        }
        let here = self.unwanted.min(input.len());
        input.advance(here);
        self.unwanted -= here;
        let head: [u8; HEAD] = *input.first_chunk()?;
        if !head.starts_with(MAGIC) {
            self.is_ended = true;
            return Some(Event::Fatal(Refusal::new("", "a frame does not begin with v111")));
        }
        let [.., c0, c1, d0, d1] = head;
        // Lengths beyond an i16 come as negative ones.
        let command = usize::from(u16::from_be_bytes([c0, c1]));
        let data = usize::from(u16::from_be_bytes([d0, d1]));
        let named = [("command", command), ("data", data)].into_iter().find(|(_, length)| *length > MOST);
        if let Some((what, length)) = named {
            input.advance(HEAD);
            self.unwanted = command + data;
            let text = format!("the {what} has {length} bytes: at most {MOST} fit into a frame of this protocol");
            return Some(Event::Refused(Refusal::new("", text)));
        }
        if input.len() < HEAD + command + data {
            return None;
        }
        input.advance(HEAD);
        let command = input.split_to(command);
        let data = input.split_to(data);
        Some(match request(&command, &data) {
            Ok(request) => Event::Request(request),
            Err(text) => Event::Refused(Refusal::new("", text)),
        })
    }
}

/// A job as clients write it; they write more, which does not count.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pushed {
    topic: String,
    #[serde(default, deserialize_with = "seconds")]
    delay: u64,
    #[serde(default, rename = "TTR", deserialize_with = "seconds")]
    ttr: u64,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Acked {
    #[serde(deserialize_with = "seconds")]
    job_id: u64,
}

/// A number, or a text that is one.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| D::Error::custom(format!("{value} is no number from 0 up")))
}

fn request(command: &[u8], data: &[u8]) -> Result<Request, String> {
    match command {
        b"push" => push(data).map(Request::Push),
        b"pop" => {
            let topics = std::str::from_utf8(data).map_err(|_| "the topics are no UTF-8 text".to_owned())?;
            if topics.is_empty() {
                return Err("topic is empty".to_owned());
            }
            Ok(Request::Pop(topics.split(',').map(str::to_owned).collect()))
        }
        b"ack" => {
            let acked: Acked = serde_json::from_slice(data).map_err(|error| format!("no such JSON: {error}"))?;
            Ok(Request::Ack(acked.job_id))
        }
        b"ping" => Ok(Request::Ping),
        _ => Err("unkown cmd".to_owned()),
    }
}

fn push(data: &[u8]) -> Result<Push, String> {
    let Pushed { topic, delay, ttr, body } =
        serde_json::from_slice(data).map_err(|error| format!("the job is no such JSON: {error}"))?;
    if topic.is_empty() {
        return Err("job.topic is empty".to_owned());
    }
    if delay > DELAY {
        return Err(format!("job.delay is {delay}: at most {DELAY} s are taken"));
    }
    let ttr_ms = u32::try_from(ttr.saturating_mul(1000)).map_err(|_| format!("job.TTR is {ttr}: it is too large"))?;
    let push = Push { delay_ms: delay * 1000, ..Push::new(topic, body.into_bytes()) };
    Ok(match ttr_ms {
        0 => Push { headers: vec![(GONE_AT_POP.to_owned(), Vec::new().into())], ..push },
        ttr_ms => Push { ttr_ms: Some(ttr_ms), ..push },
    })
}

/// A job as clients read it. The names of the fields are gmq's, `Encoding` aside.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) topic: String,
    pub(super) delay: u64,
    /// In seconds.
    #[serde(rename = "TTR")]
    pub(super) ttr: u64,
    pub(super) body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<&'static str>,
    pub(super) status: u8,
    pub(super) consume_num: u16,
}

impl Job {
    /// The answer; `None` if it is too long for a frame.
    pub(super) fn answer(&self) -> Option<Vec<u8>> {
        framed(JOB, &serde_json::to_vec(self).ok()?)
    }
}

pub(super) fn message(text: &str) -> Vec<u8> {
    answer(MESSAGE, text)
}

/// An answer, of which what does not fit is cut off.
pub(crate) fn answer(kind: i16, text: &str) -> Vec<u8> {
    framed(kind, &text.as_bytes()[..text.len().min(MOST)]).unwrap_or_default()
}

fn framed(kind: i16, data: &[u8]) -> Option<Vec<u8>> {
    let length = i16::try_from(data.len()).ok()?;
    Some([&kind.to_be_bytes()[..], &length.to_be_bytes(), data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(command: &[u8], data: &[u8]) -> Vec<u8> {
        let lengths = [(command.len() as u16).to_be_bytes(), (data.len() as u16).to_be_bytes()].concat();
        [&MAGIC[..], &lengths, command, data].concat()
    }

    fn events(input: &[u8], piece: usize) -> Vec<Result<Request, String>> {
        let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(event) = decoder.next(&mut buffer) {
                found.push(match event {
                    Event::Request(request) => Ok(request),
                    Event::Refused(refusal) => Err(refusal.text),
                    Event::Fatal(refusal) => Err(format!("end: {}", refusal.text)),
                });
            }
        }
        found
    }

    #[test]
    fn frames_are_read_in_pieces_of_any_size() {
        let job = br#"{"Id":7,"Topic":"t","Delay":2,"TTR":30,"Body":"b","Status":0,"ConsumeNum":0}"#;
        let texts = br#"{"Id":"x","Topic":"t","Delay":"0","TTR":"0","Body":"b"}"#;
        let input = [
            framed(b"push", job),
            framed(b"push", texts),
            framed(b"pop", b"a,b"),
            framed(b"ack", br#"{"JobId":5}"#),
            framed(b"ack", br#"{"JobId":"5"}"#),
            framed(b"ping", b""),
        ]
        .concat();
        let pushed = Push::new("t", b"b".to_vec());
        let expected = [
            Request::Push(Push { delay_ms: 2000, ttr_ms: Some(30_000), ..pushed.clone() }),
            Request::Push(Push { headers: vec![(GONE_AT_POP.to_owned(), Vec::new().into())], ..pushed }),
            Request::Pop(vec!["a".to_owned(), "b".to_owned()]),
            Request::Ack(5),
            Request::Ack(5),
            Request::Ping,
        ]
        .map(Ok);
        for piece in [1, 2, 5, 9, input.len()] {
            assert_eq!(events(&input, piece), expected, "{piece}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_the_next_frame_is_read() {
        for (bad, error) in [
            (framed(b"push", &vec![b'x'; 40_000]), "the data has 40000 bytes: at most 32767 fit"),
            (framed(&vec![b'x'; 40_000], b""), "the command has 40000 bytes: at most 32767 fit"),
            (framed(b"pull", b""), "unkown cmd"),
            (framed(b"push", b"{}"), "the job is no such JSON"),
            (framed(b"push", br#"{"Topic":""}"#), "job.topic is empty"),
            (framed(b"push", br#"{"Topic":"t","Delay":259201}"#), "job.delay is 259201"),
            (framed(b"push", br#"{"Topic":"t","TTR":9999999}"#), "job.TTR is 9999999"),
            (framed(b"push", br#"{"Topic":"t","TTR":-1}"#), "-1 is no number from 0 up"),
            (framed(b"pop", b""), "topic is empty"),
            (framed(b"pop", b"\xff"), "no UTF-8"),
            (framed(b"ack", b"5"), "no such JSON"),
        ] {
            let input = [bad, framed(b"ping", b"")].concat();
            for piece in [7, input.len()] {
                let found = events(&input, piece);
                assert!(found[0].as_ref().unwrap_err().contains(error), "{error}: {:?}", found[0]);
                assert_eq!(found[1..], [Ok(Request::Ping)], "{error}");
            }
        }
        let found = events(&[&framed(b"ping", b"")[..], b"v112....."].concat(), 4);
        assert_eq!(found, [Ok(Request::Ping), Err("end: a frame does not begin with v111".to_owned())]);
    }

    #[test]
    fn answers_have_lengths_that_fit() {
        assert_eq!(message("ok"), [0, 2, 0, 2, b'o', b'k']);
        let long = answer(ERROR, &"x".repeat(100_000));
        assert_eq!((long.len(), &long[..4]), (4 + MOST, &[0, 1, 0x7f, 0xff][..]));
        let job = |body: usize| Job {
            id: 1,
            topic: "t".to_owned(),
            delay: 0,
            ttr: 0,
            body: "x".repeat(body),
            encoding: None,
            status: RESERVED,
            consume_num: 0,
        };
        let answered = job(1).answer().unwrap();
        let json: Value = serde_json::from_slice(&answered[4..]).unwrap();
        let expected = serde_json::json!({
            "Id": 1, "Topic": "t", "Delay": 0, "TTR": 0, "Body": "x", "Status": 3, "ConsumeNum": 0
        });
        assert_eq!(json, expected);
        assert!(job(MOST).answer().is_none());
    }
}
