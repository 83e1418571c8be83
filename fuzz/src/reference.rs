//! Frames a second time, written from PROTOCOL.md and sharing nothing with the library.

pub(crate) const HEADER: usize = 17;
pub(crate) const REQUEST: u8 = 0;
pub(crate) const RESPONSE: u8 = 1;
pub(crate) const PONG: u8 = 3;
pub(crate) const GOAWAY: u8 = 5;
pub(crate) const HELLO: u8 = 9;

/// One frame, header included.
pub(crate) fn frame(kind: u8, compression: u8, codec: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    [&[0x1d, 2], &length.to_be_bytes()[..], &[kind, compression, codec], &id.to_be_bytes(), body].concat()
}

/// How a stream of frames ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Between two frames, or within one.
    Cut,
    /// In bytes that are no frame.
    Malformed,
}

/// The whole frames at the start of `stream`, and what stands behind them.
pub(crate) fn split(mut stream: &[u8], max_frame: usize) -> (Vec<&[u8]>, End) {
    let mut frames = Vec::new();
    loop {
        let good_start = stream.iter().zip([0x1d, 2]).all(|(byte, right)| *byte == right);
        if !good_start {
            return (frames, End::Malformed);
        }
        if stream.len() < HEADER {
            return (frames, End::Cut);
        }
        let length = u32::from_be_bytes([stream[2], stream[3], stream[4], stream[5]]) as usize;
        let good_kind = matches!(stream[6], 0..=5 | 9 | 128..);
        if !(HEADER..=max_frame).contains(&length) || !good_kind {
            return (frames, End::Malformed);
        }
        let Some((frame, rest)) = stream.split_at_checked(length) else { return (frames, End::Cut) };
        frames.push(frame);
        stream = rest;
    }
}

/// The kind of a frame.
pub(crate) fn kind(frame: &[u8]) -> u8 {
    frame[6]
}

/// The id of a frame.
pub(crate) fn id(frame: &[u8]) -> u64 {
    frame[9..HEADER].iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}
