//! The parsers of gmq's protocols, whatever pieces a stream comes in.

use ms_gmq::internals::parse;

use crate::memory::bounded;

/// First bytes of the binary protocol.
const MAGIC: &[u8] = b"v111";

/// Reads requests, which must be the same in pieces of any size as in one.
pub fn gmq(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else { return };
    let is_v111 = stream.starts_with(MAGIC);
    let whole = bounded(stream, || parse([stream], is_v111));
    let pieces = bounded(stream, || parse(stream.chunks(usize::from(*piece).max(1)), is_v111));
    assert_eq!(whole, pieces);
    // Each request and each refusal takes at least a byte.
    assert!(whole.len() <= stream.len());
}

pub(crate) mod seeds {
    use super::MAGIC;

    fn with_length(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    fn frame(command: &[u8], data: &[u8]) -> Vec<u8> {
        let lengths = [command, data].map(|part| (part.len() as u16).to_be_bytes()).concat();
        [MAGIC, &lengths, command, data].concat()
    }

    pub(crate) fn gmq() -> Vec<Vec<u8>> {
        let json = with_length(br#"{"delay":1,"body":"b","topic":"t","route_key":"k"}"#);
        let older = [&2u32.to_be_bytes()[..], &with_length(b"b")].concat();
        let streams = [
            b"queue t k\npop t k\r\nack 1 t k\ndead t k\nset t 1 2 30 5\nsubscribe c\npublish c news\nping x\n"
                .to_vec(),
            [
                &b"pub t k 0\n"[..],
                &with_length(b"body"),
                b"pub t 5\n",
                &with_length(b""),
                b"publish c\n",
                &with_length(b"n"),
            ]
            .concat(),
            [&b"mpub t 2\n"[..], &json, &json, b"pop t\n"].concat(),
            [&b"mpub t 2\n"[..], &older, &older, b"ack 1 t\ndead t 10\nset t 0\n"].concat(),
            [&b"pub t k 259201\n"[..], &with_length(b"pop t\n"), b"foo x\nmpub t 0\n"].concat(),
            [frame(b"push", br#"{"Id":1,"Topic":"t","Delay":0,"TTR":30,"Body":"b"}"#), frame(b"pop", b"a,b")].concat(),
            [frame(b"ack", br#"{"JobId":"5"}"#), frame(b"ping", b""), frame(b"push", &[b'x'; 40_000])].concat(),
        ];
        (1..).zip(streams).map(|(piece, stream)| [&[piece], &stream[..]].concat()).collect()
    }
}
