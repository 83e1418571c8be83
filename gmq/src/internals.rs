//! Parsers without sockets, for fuzzers. No promise is made about anything here.

use bytes::BytesMut;

use crate::{text, v111};

/// Feeds pieces to the parser that the first bytes of the stream select; returns what it found, in words.
pub fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, is_v111: bool) -> Vec<String> {
    let (mut text, mut v111) = (text::decode::Decoder::default(), v111::frame::Decoder::default());
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut next = || {
            if is_v111 {
                v111.next(&mut input).map(|event| format!("{event:?}"))
            } else {
                text.next(&mut input).map(|event| format!("{event:?}"))
            }
        };
        while let Some(event) = next() {
            found.push(event);
        }
    }
    found
}
