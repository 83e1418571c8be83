//! From an input to what a peer says: mostly whole frames with right lengths, so that an input need not guess those.

use std::time::Duration;

use ms_rpc::{Compression, internals::shrink};

use crate::{
    reference::{GOAWAY, HELLO, REQUEST, RESPONSE, frame},
    source::Source,
};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
    /// Says frames of every kind, and means nothing by them.
    Nobody,
}

/// What it does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
}

/// No script says more, in bytes.
const MOST: usize = 256 << 10;

/// All that `source` tells a peer to do.
pub(crate) fn steps(source: &mut Source<'_>, side: Side) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut sent, mut last_id) = (0, 0);
    while !source.is_empty() && sent < MOST {
        let step = step(source, side, &mut last_id);
        if let Step::Send(bytes) = &step {
            sent += bytes.len();
        }
        steps.push(step);
    }
    steps
}

fn step(source: &mut Source<'_>, side: Side, last_id: &mut u64) -> Step {
    Step::Send(match source.byte() % 8 {
        0 => source.short().to_vec(),
        1 => any_frame(source),
        2 => {
            let mut frame = frame(source.byte(), 0, 0, source.byte().into(), source.short());
            frame[2..6].copy_from_slice(&(u32::from(source.u16()) << (source.byte() % 16)).to_be_bytes());
            frame
        }
        3 => match side {
            Side::Client => request(source, last_id),
            Side::Server => response(source),
            Side::Nobody => any_frame(source),
        },
        4 => {
            let (kind, id) = (source.byte(), source.byte());
            let body = vec![source.byte(); 1 << (source.byte() % 18)];
            frame(kind, 0, 0, id.into(), &body)
        }
        5 => {
            let tenths = u64::from(source.byte());
            return Step::Wait(Duration::from_millis(tenths * tenths));
        }
        6 => hello(side),
        _ => {
            let last_id = [&[0; 7], &[source.byte()][..]].concat();
            frame(GOAWAY, 0, 255, 0, &[&last_id, &[0, 4][..], b"full"].concat())
        }
    })
}

fn any_frame(source: &mut Source<'_>) -> Vec<u8> {
    let [kind, compression, codec, id] = [0; 4].map(|_: u8| source.byte());
    frame(kind, compression, codec, id.into(), source.short())
}

/// A HELLO that is in order.
pub(crate) fn hello(side: Side) -> Vec<u8> {
    let entries: &[(u8, &[u8])] = match side {
        Side::Client | Side::Nobody => &[(16, b"raw"), (7, &[1])],
        Side::Server => &[(2, &[0, 0, 0, 0, 0, 0, 0, 7]), (4, &[0, 16, 0, 0]), (5, &[0, 0, 0, 3]), (6, &[0, 1])],
    };
    let entry = |(tag, value): &(u8, &[u8])| [&[*tag, 0, value.len() as u8], *value].concat();
    frame(HELLO, 0, 255, 0, &entries.iter().map(entry).collect::<Vec<_>>().concat())
}

const SERVICES: [&str; 4] = ["fuzz", "ms.describe", "ms.health", "none"];
const METHODS: [&str; 8] = ["find", "text", "echo", "nested", "sum", "wait", "services", "service"];

/// With a good head, unless the input ends, and a higher id than the one before.
fn request(source: &mut Source<'_>, last_id: &mut u64) -> Vec<u8> {
    let form = source.byte();
    let (service, method) = (SERVICES[usize::from(form % 4)], METHODS[usize::from(form >> 2) % METHODS.len()]);
    let (timeout_ms, argc) = (u32::from(source.byte()) << 6, source.byte());
    let mut head = vec![0];
    head.extend_from_slice(&timeout_ms.to_be_bytes());
    for name in [service, method] {
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
    }
    head.extend_from_slice(&[argc, 0]);
    let (compression, codec, value) = value(source);
    *last_id += 1 + u64::from(form >> 5);
    let body = [&(head.len() as u16).to_be_bytes()[..], &head, &value].concat();
    frame(REQUEST, compression, codec, *last_id, &body)
}

/// The ids that a client gives first are the likeliest.
fn response(source: &mut Source<'_>) -> Vec<u8> {
    let slot = u64::from(source.byte() % 8);
    let [code, flags] = [0; 2].map(|_: u8| source.byte());
    let message = source.bytes(usize::from(flags >> 4));
    let head = [&[code, flags % 8, 0, 0, 0, flags, 0, message.len() as u8], message, &[0]].concat();
    let (compression, codec, value) = value(source);
    let body = [&(head.len() as u16).to_be_bytes()[..], &head, &value].concat();
    frame(RESPONSE, compression, codec, (slot + 1) << 20 | slot, &body)
}

/// Compression, codec, and the bytes: compressed in truth, most of the time.
fn value(source: &mut Source<'_>) -> (u8, u8, Vec<u8>) {
    let form = source.byte();
    let (compression, codec) = (form % 8, (form >> 2) % 4);
    let value = source.short();
    let compressed = match compression {
        0 => None,
        known if form < 128 => Compression::ALL
            .get(usize::from(known))
            .and_then(|compression| shrink(compression, &value.repeat(1 << (form >> 4)))),
        _ => None,
    };
    (compression, codec, compressed.unwrap_or_else(|| value.to_vec()))
}

pub(crate) mod seeds {
    use super::*;

    /// One that goes well, and one in which everything happens.
    pub(crate) fn script(side: Side) -> [Vec<u8>; 2] {
        let control: &[u8] = &[1, 2, 0, 255, 9, 0, 1, 4, 0, 255, 1, 0, 5, 30, 1, 200, 0, 0, 1, 2, b'x', b'y'];
        let bad: &[u8] = &[2, 0, 1, 0, 1, 0, 4, 0, 0, 3, b'a', b'b', b'c', 7, 3];
        match side {
            Side::Client | Side::Nobody => {
                // find(5), text("abc"), echo of a compressed blob, wait(100 ms) in JSON, describe.
                let good = [
                    &[3, 0, 255, 1, 0, 1, 10][..],
                    &[3, 4, 255, 1, 0, 4, 3, b'a', b'b', b'c'],
                    &[3, 8, 255, 1, 0x75, 2, 0, 1],
                    &[3, 20, 255, 1, 4, 5, b'[', b'1', b'0', b'0', b']', 5, 20],
                    &[3, 25, 255, 0, 0, 0],
                ]
                .concat();
                let mixed = [&good[..], control, &[4, 0, 200, 7, 15], bad].concat();
                [good, mixed]
            }
            Side::Server => {
                let good = [
                    &[3, 0, 0, 0, 0, 2, 1, 0][..],
                    &[3, 1, 0, 0, 0, 4, 3, b'a', b'b', b'c'],
                    &[3, 2, 5, 0x41, b'n', b'o', b'n', b'e', 0, 2, 0, 10],
                    &[3, 5, 0, 0, 4, 1, b'7'],
                ]
                .concat();
                let mixed = [&[5, 60], &good[..], control, bad].concat();
                [good, mixed]
            }
        }
    }
}
