//! The frame decoder, whatever pieces a stream comes in.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use ms_rpc::internals::{Frames, WireFrame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    memory::bounded,
    reference::{End, split},
    script::{self, Side, Step},
    source::Source,
};

/// From small to the default: frames over 16 KiB take another way.
const MAX_FRAMES: [usize; 4] = [64, 1 << 10, 32 << 10, 4 << 20];

/// Cuts a stream into frames, which must be those that the whole of it says.
pub fn frames(input: &[u8]) {
    let mut source = Source::new(input);
    let max_frame = MAX_FRAMES[usize::from(source.byte()) % MAX_FRAMES.len()];
    let cuts = [source.short(), &[source.byte()]].concat();
    let stream = script::steps(&mut source, Side::Nobody).into_iter().map(sent).collect::<Vec<_>>().concat();
    let (expected, end) = split(&stream, max_frame);
    let pieces = Pieces { stream: stream.clone(), at: 0, cuts, next: 0, waited: false };
    let (frames, ended) = bounded(&stream, || read_all(Frames::new(pieces, max_frame), stream.len()));
    assert_eq!(frames.len(), expected.len());
    for ((header, body), expected) in frames.iter().zip(expected) {
        assert!(expected.starts_with(header) && expected[header.len()..] == body[..]);
    }
    assert_eq!(ended, end);
}

fn sent(step: Step) -> Vec<u8> {
    match step {
        Step::Send(bytes) => bytes,
        Step::Wait(_) => Vec::new(),
    }
}

fn read_all(mut frames: Frames, bytes: usize) -> (Vec<WireFrame>, End) {
    let mut arrived = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    // Every byte may come alone, and late.
    for _ in 0..=3 * (bytes + 1) {
        match frames.poll_next(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(Some(frame))) => arrived.push(frame),
            Poll::Ready(Ok(None)) => return (arrived, End::Cut),
            Poll::Ready(Err(_)) => return (arrived, End::Malformed),
        }
    }
    panic!("{bytes} bytes are read without end");
}

/// After so many, the pieces are large.
const PIECES: usize = 1 << 10;

/// Gives a stream in pieces: each cut says how long the next one is, and whether it comes late.
struct Pieces {
    stream: Vec<u8>,
    at: usize,
    cuts: Vec<u8>,
    next: usize,
    waited: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let cut = if self.next < PIECES { self.cuts[self.next % self.cuts.len()] } else { u8::MAX - 1 };
        if cut % 2 == 1 && !std::mem::replace(&mut self.waited, true) {
            return Poll::Pending;
        }
        self.waited = false;
        self.next += 1;
        let length = 1 + usize::from(cut / 2).pow(2);
        let length = length.min(out.remaining()).min(self.stream.len() - self.at);
        out.put_slice(&self.stream[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) mod seeds {
    use crate::script::{Side, seeds::script};

    pub(crate) fn frames() -> Vec<Vec<u8>> {
        let [first, second] = script(Side::Nobody);
        // Large frames in pieces of every size, and late.
        let large = [4, 0, 1, 7, 17, 4, 0, 1, 7, 15].repeat(3);
        vec![
            [&[3, 0, 254][..], &first].concat(),
            [&[1, 2, 1, 20, 255], &second[..]].concat(),
            [&[2, 0, 255], &large[..]].concat(),
            [&[3, 1, 0, 131], &large[..], &first].concat(),
        ]
    }
}
