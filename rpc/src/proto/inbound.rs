//! Received bytes, cut into frames.

use std::task::{Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{HEADER, Header, Malformed};
use crate::{
    body::Body,
    buffer::FrameBuf,
    recycle::{self, CHUNK},
};

/// A frame of this size or more that has not arrived whole is read into a buffer of its own: no byte of it is moved again.
const LARGE: usize = 16 << 10;

/// After a large frame another one is expected: only its start is read into the common buffer, together with the end of the
/// frame before, so that each frame takes one system call.
const START: usize = 1 << 10;

/// One received frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) body: Body,
}

impl Frame {
    /// The one frame that was encoded into `bytes`.
    pub(crate) fn encoded_in(bytes: &FrameBuf) -> Option<Self> {
        let bytes = bytes.to_bytes();
        let (header, length) = Header::parse(&bytes, usize::MAX).ok()??;
        (length == bytes.len()).then(|| Self { header, body: bytes.slice(HEADER..).into() })
    }
}

/// Cuts received bytes into frames. Memory grows with the bytes that arrive, never by a length that a peer claims; an
/// idle connection holds no buffer.
#[derive(Debug)]
pub(crate) struct Inbound {
    buffer: BytesMut,
    /// Number of bytes at the start of `buffer` that were taken: dropped together, which costs as much as for one frame.
    taken: usize,
    /// The frame under way, if it is large; until it is whole, `buffer` is empty.
    large: Option<Large>,
    expects_large: bool,
    max_frame: usize,
    received: u64,
}

#[derive(Debug)]
struct Large {
    header: Header,
    length: usize,
    /// As long as the frame if it was used before, else as long as what has arrived.
    bytes: BytesMut,
    /// Number of bytes that have arrived.
    filled: usize,
}

/// Memory for the next bytes.
pub(crate) enum Space<'a> {
    /// Append at most this many.
    Append(&'a mut BytesMut, usize),
    /// Fill the first slice, then the second.
    Fill(&'a mut [u8], &'a mut [u8]),
}

impl Inbound {
    pub(crate) fn new(max_frame: usize) -> Self {
        Self { buffer: BytesMut::new(), taken: 0, large: None, expects_large: false, max_frame, received: 0 }
    }

    /// Number of bytes that have arrived in all.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Number of bytes of small frames that have arrived and are not taken.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len() - self.taken
    }

    fn drop_taken(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.taken));
    }

    /// Returns true if a frame has begun that is not whole.
    pub(crate) fn is_under_way(&self) -> bool {
        self.large.is_some() || self.buffered() > 0
    }

    /// Returns true if no buffer is held.
    pub(crate) fn is_parked(&self) -> bool {
        self.large.is_none() && self.buffer.capacity() == 0
    }

    /// Lets `read` put bytes where they belong; it returns their number, 0 at the end of the input.
    pub(crate) fn fill<E>(&mut self, read: impl FnOnce(Space<'_>) -> Poll<Result<usize, E>>) -> Poll<Result<usize, E>> {
        let count = match &mut self.large {
            Some(large) => {
                let mut next = [0; START];
                let count = ready!(read(large.space(&mut next)))?;
                let beyond = (large.filled + count).saturating_sub(large.length);
                large.filled += count - beyond;
                if beyond > 0 {
                    if self.buffer.capacity() == 0 {
                        self.buffer = recycle::take_buffer();
                    }
                    self.buffer.extend_from_slice(&next[..beyond]);
                }
                count
            }
            None => {
                self.drop_taken();
                if self.buffer.capacity() == 0 {
                    self.buffer = recycle::take_buffer();
                }
                if self.buffer.capacity() - self.buffer.len() < CHUNK / 2 {
                    self.buffer.reserve(CHUNK / 2);
                }
                let most = if self.expects_large { START } else { usize::MAX };
                ready!(read(Space::Append(&mut self.buffer, most)))?
            }
        };
        self.received += count as u64;
        Poll::Ready(Ok(count))
    }

    /// The next whole frame, if it has arrived.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        if let Some(large) = self.large.take_if(|large| large.filled == large.length) {
            self.expects_large = true;
            return Ok(Some(large.into_frame()));
        }
        let received = &self.buffer[self.taken..];
        let Some((header, length)) = Header::parse(received, self.max_frame)? else { return Ok(None) };
        if received.len() < length {
            self.drop_taken();
            if length >= LARGE {
                self.large = Some(Large::new(header, length, &self.buffer));
                self.buffer.clear();
            } else {
                // All of it may come with the next read.
                self.expects_large = false;
            }
            return Ok(None);
        }
        self.expects_large = false;
        if Body::is_small(length - HEADER) {
            let body = Body::copied(&received[HEADER..length]);
            self.taken += length;
            return Ok(Some(Frame { header, body }));
        }
        self.drop_taken();
        let allocation = CHUNK.max(self.buffer.capacity());
        let mut frame = self.buffer.split_to(length);
        frame.advance(HEADER);
        Ok(Some(Frame { header, body: Body::Shared { bytes: frame.freeze(), allocation } }))
    }

    /// Returns true if frames come one at a time, too large to come together.
    pub(crate) fn expects_large(&self) -> bool {
        self.expects_large || self.large.is_some()
    }

    /// Drops what has arrived.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
        self.taken = 0;
        self.large = None;
    }

    /// Memory that is held, in bytes.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.buffer.capacity() + self.large.as_ref().map_or(0, |large| large.bytes.capacity())
    }

    /// Gives the buffer back while nothing is expected. Bytes of an unfinished frame stay.
    pub(crate) fn park(&mut self) {
        self.drop_taken();
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            recycle::give_buffer(std::mem::take(&mut self.buffer));
        }
    }
}

impl Large {
    /// Before more than this has arrived, no more is reserved.
    const FIRST: usize = 2 * CHUNK;

    fn new(header: Header, length: usize, start: &[u8]) -> Self {
        let filled = start.len();
        let bytes = match recycle::take_frame(length) {
            Some(mut used) => {
                used[..filled].copy_from_slice(start);
                used
            }
            None => {
                let mut fresh = BytesMut::with_capacity(length.min(Self::FIRST));
                fresh.extend_from_slice(start);
                fresh
            }
        };
        Self { header, length, bytes, filled }
    }

    /// Memory for the missing bytes, and some for those of the `next` frame.
    fn space<'a>(&'a mut self, next: &'a mut [u8]) -> Space<'a> {
        if self.bytes.len() == self.length {
            return Space::Fill(&mut self.bytes[self.filled..], next);
        }
        let missing = self.length - self.filled;
        if self.bytes.capacity() == self.filled {
            // At most as much again as has arrived.
            self.bytes.reserve(missing.min(self.filled));
        }
        Space::Append(&mut self.bytes, missing)
    }

    fn into_frame(self) -> Frame {
        let allocation = self.bytes.capacity();
        let mut bytes: Bytes = self.bytes.freeze();
        recycle::give_frame(bytes.clone());
        bytes.advance(HEADER);
        Frame { header: self.header, body: Body::Shared { bytes, allocation } }
    }
}
