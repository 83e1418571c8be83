//! The bytes: a 17-byte header, a head as long as ours, then arguments or a result.
//!
//! ```text
//! header    0 magic | 1 version | 2..6 u32 length of the frame | 6 kind | 7 compression | 8 codec | 9..17 u64 id
//! request   u16 head_len | u8 flags | u32 timeout_ms | str8 service | str8 method | u8 argc, then the argument
//! response  u16 head_len | u8 code | u8 flags | u32 retry_after_ms | str16 message | u8 argc, then the result
//! ```

use bytes::Bytes;

use super::{
    item::{self, Item},
    outbound::Outbound,
};
use crate::peer::Failure;

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 17;

/// Bodies from this length on are neither copied out nor copied in, as far as the socket allows.
pub(super) const LARGE: usize = 8 * 1024;

const LIMIT: usize = 4 << 20;
const REQUEST: u8 = 0;
const RESPONSE: u8 = 1;
const REQUEST_HEAD: usize = 19;
const RESPONSE_HEAD: usize = 11;
const METHOD: usize = REQUEST_HEAD - 5;

/// What a frame says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Bytes after the header.
    pub(super) body: usize,
    /// The call; a response repeats its request's.
    pub(super) id: u64,
}

impl Header {
    /// Reads a header, or `None` when there are not enough bytes yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let [0x1d, 2, l0, l1, l2, l3, REQUEST | RESPONSE, 0, _, id @ ..] = *header else {
            return Err(format!("not a frame of ours: {header:02x?}").into());
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if !(HEADER..=LIMIT).contains(&length) {
            return Err(format!("a frame of {length} bytes").into());
        }
        Ok(Some(Self { body: length - HEADER, id: u64::from_be_bytes(id) }))
    }
}

/// One call.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Asks for an item, which the server copies from a template.
    Find(i64),
    /// Asks for an item, which the server builds first.
    Build(i64),
    /// Asks for the same bytes.
    Echo(Bytes),
    /// Asks for a millisecond of work.
    Compute(i64),
}

impl Request {
    /// Appends the request's frame.
    pub(super) fn append(self, id: u64, out: &mut Outbound<Bytes>) {
        match self {
            Self::Find(goods) => out.append(&ask(id, *b"find", goods)),
            Self::Compute(number) => out.append(&ask(id, *b"comp", number)),
            Self::Build(goods) => out.append(&ask(id, *b"make", goods)),
            Self::Echo(body) => {
                let mut frame = [0; HEADER + REQUEST_HEAD];
                frame[..HEADER].copy_from_slice(&header(REQUEST, 255, id, REQUEST_HEAD + body.len()));
                frame[HEADER..].copy_from_slice(&request_head(*b"echo"));
                out.append(&frame);
                if body.len() < LARGE { out.append(&body) } else { out.hand_off(body) }
            }
        }
    }
}

fn ask(id: u64, method: [u8; 4], goods: i64) -> [u8; HEADER + REQUEST_HEAD + 8] {
    let mut frame = [0; HEADER + REQUEST_HEAD + 8];
    frame[..HEADER].copy_from_slice(&header(REQUEST, 0, id, REQUEST_HEAD + 8));
    frame[HEADER..][..REQUEST_HEAD].copy_from_slice(&request_head(method));
    frame[HEADER + REQUEST_HEAD..].copy_from_slice(&goods.to_le_bytes());
    frame
}

/// What a request's body asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// The item of this id, from the template.
    Find(i64),
    /// The item of this id, built.
    Build(i64),
    /// The bytes from this offset of the body on.
    Echo(usize),
    /// A millisecond of work.
    Compute(i64),
}

/// Reads a request's body.
pub(super) fn asked(body: &[u8]) -> Result<Asked, Failure> {
    let head = head_length(body)?;
    match (body.get(METHOD..METHOD + 4), &body[head..]) {
        (Some(b"find"), argument) => Ok(Asked::Find(i64_at_start(argument)?)),
        (Some(b"comp"), argument) => Ok(Asked::Compute(i64_at_start(argument)?)),
        (Some(b"make"), argument) => Ok(Asked::Build(i64_at_start(argument)?)),
        (Some(b"echo"), _) => Ok(Asked::Echo(head)),
        _ => Err("a request for no known method".into()),
    }
}

/// A frame with an item.
pub(super) type Found = [u8; HEADER + RESPONSE_HEAD + item::LENGTH];

/// The frame that answers `find`, from the template.
pub(super) fn found(id: u64, goods: i64) -> Found {
    let mut frame = [0; _];
    put_head(&mut frame, id);
    let item = &mut frame[HEADER + RESPONSE_HEAD..];
    item.copy_from_slice(&item::TEMPLATE);
    item[..8].copy_from_slice(&goods.to_le_bytes());
    frame
}

/// The frame that carries an item.
pub(super) fn built(id: u64, item: &Item) -> Result<Found, Failure> {
    let mut frame = [0; _];
    put_head(&mut frame, id);
    item.encode(&mut frame[HEADER + RESPONSE_HEAD..])?;
    Ok(frame)
}

fn put_head(frame: &mut Found, id: u64) {
    frame[..HEADER].copy_from_slice(&header(RESPONSE, 0, id, RESPONSE_HEAD + item::LENGTH));
    frame[HEADER + 1] = RESPONSE_HEAD as u8;
}

/// What stands before `length` bytes that are echoed.
pub(super) fn echoed(id: u64, length: usize) -> [u8; HEADER + RESPONSE_HEAD] {
    let mut frame = [0; HEADER + RESPONSE_HEAD];
    frame[..HEADER].copy_from_slice(&header(RESPONSE, 255, id, RESPONSE_HEAD + length));
    frame[HEADER + 1] = RESPONSE_HEAD as u8;
    frame
}

/// The result in a response's body.
pub(super) fn result(body: &[u8]) -> Result<&[u8], Failure> {
    Ok(&body[head_length(body)?..])
}

/// The id of the item in a response's body; the rest is not read.
pub(super) fn item_id(body: &[u8]) -> Result<i64, Failure> {
    let result = result(body)?;
    if result.len() != item::LENGTH {
        return Err(format!("an item of {} bytes, not {}", result.len(), item::LENGTH).into());
    }
    i64_at_start(result)
}

/// The item in a response's body.
pub(super) fn item(body: &[u8]) -> Result<Item, Failure> {
    Item::decode(result(body)?)
}

fn header(kind: u8, codec: u8, id: u64, body: usize) -> [u8; HEADER] {
    let mut header = [0x1d, 2, 0, 0, 0, 0, kind, 0, codec, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..6].copy_from_slice(&((HEADER + body) as u32).to_be_bytes());
    header[9..].copy_from_slice(&id.to_be_bytes());
    header
}

fn request_head(method: [u8; 4]) -> [u8; REQUEST_HEAD] {
    let [m0, m1, m2, m3] = method;
    [0, REQUEST_HEAD as u8, 0, 0, 0, 3, 232, 5, b'g', b'o', b'o', b'd', b's', 4, m0, m1, m2, m3, 0]
}

fn head_length(body: &[u8]) -> Result<usize, Failure> {
    match body {
        [high, low, ..] if usize::from(u16::from_be_bytes([*high, *low])) <= body.len() => {
            Ok(usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => Err("a body that is shorter than its head".into()),
    }
}

fn i64_at_start(bytes: &[u8]) -> Result<i64, Failure> {
    bytes.first_chunk().map(|id| i64::from_le_bytes(*id)).ok_or_else(|| "no id where one was due".into())
}
