//! Parsers without sockets, for fuzzers. No promise is made about anything here.

use bytes::BytesMut;

use crate::{protocol::Event, text, v111};

/// Feeds pieces to the parser that their first bytes select; returns how many requests and refusals there were.
pub fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, is_v111: bool) -> (usize, usize) {
    let (mut text, mut v111) = (text::decode::Decoder::default(), v111::frame::Decoder::default());
    let (mut input, mut requests, mut refusals) = (BytesMut::new(), 0, 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let is_request = if is_v111 {
                v111.next(&mut input).map(|event| matches!(event, Event::Request(_)))
            } else {
                text.next(&mut input).map(|event| matches!(event, Event::Request(_)))
            };
            match is_request {
                None => break,
                Some(true) => requests += 1,
                Some(false) => refusals += 1,
            }
        }
    }
    (requests, refusals)
}
