use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use super::{Body, Transport};
use crate::frame::{HEADER, Header, Malformed};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// A frame of this size or more that has not arrived whole is read into a buffer of its own: no byte of it is moved again.
const LARGE: usize = 16 << 10;

/// Where a large frame was, another is expected: only its start is read into the common buffer.
const START: usize = 4 << 10;

/// One received frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) body: Body,
}

/// Cuts received bytes into frames. Memory grows with the bytes that arrive, never by a length that a peer claims; an
/// idle connection holds no buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    /// The frame under way, if it is large; then `buffer` is empty.
    large: Option<Large>,
    expects_large: bool,
    max_frame: usize,
    received: u64,
}

#[derive(Debug)]
struct Large {
    header: Header,
    length: usize,
    bytes: BytesMut,
}

impl Reader {
    pub(crate) fn new(max_frame: usize) -> Self {
        Self { buffer: BytesMut::new(), large: None, expects_large: false, max_frame, received: 0 }
    }

    /// How many bytes have come.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes of small frames have come and are not taken.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a frame has begun that is not whole.
    pub(crate) fn is_under_way(&self) -> bool {
        self.large.is_some() || !self.buffer.is_empty()
    }

    /// Reads once. 0 bytes: the peer has closed its side.
    pub(crate) fn poll_fill<T: Transport>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.poll_read(io, cx))?;
        self.received += read as u64;
        Poll::Ready(Ok(read))
    }

    fn poll_read<T: Transport>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(large) = &mut self.large {
            large.make_room();
            let missing = large.length - large.bytes.len();
            return poll_read_buf(Pin::new(io), cx, &mut (&mut large.bytes).limit(missing));
        }
        if self.buffer.capacity() == 0 {
            ready!(io.poll_read_ready(cx))?;
            self.buffer = take_buffer();
        }
        if self.buffer.capacity() - self.buffer.len() < CHUNK / 2 {
            self.buffer.reserve(CHUNK / 2);
        }
        let most = if self.expects_large { START } else { usize::MAX };
        poll_read_buf(Pin::new(io), cx, &mut (&mut self.buffer).limit(most))
    }

    /// The next whole frame, if it has arrived.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        if let Some(large) = self.large.take_if(|large| large.bytes.len() == large.length) {
            self.expects_large = true;
            return Ok(Some(large.into_frame()));
        }
        let Some((header, length)) = Header::parse(&self.buffer, self.max_frame)? else { return Ok(None) };
        if self.buffer.len() < length {
            if length >= LARGE {
                self.large = Some(Large::new(header, length, &self.buffer));
                self.buffer.clear();
            }
            return Ok(None);
        }
        self.expects_large = false;
        if Body::is_small(length - HEADER) {
            let body = Body::copied(&self.buffer[HEADER..length]);
            self.buffer.advance(length);
            return Ok(Some(Frame { header, body }));
        }
        let mut frame = self.buffer.split_to(length);
        frame.advance(HEADER);
        Ok(Some(Frame { header, body: frame.freeze().into() }))
    }

    /// Whether frames come one at a time, too large to come together.
    pub(crate) fn expects_large(&self) -> bool {
        self.expects_large || self.large.is_some()
    }

    /// Forgets what has arrived.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
        self.large = None;
    }

    /// Gives the buffer away while nothing is expected. Bytes of an unfinished frame stay.
    pub(crate) fn park(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            give_buffer(std::mem::take(&mut self.buffer));
        }
    }
}

impl Large {
    /// Before more than this has arrived, no more is reserved.
    const FIRST: usize = 2 * CHUNK;

    fn new(header: Header, length: usize, start: &[u8]) -> Self {
        let mut bytes = recycled(length).unwrap_or_else(|| BytesMut::with_capacity(length.min(Self::FIRST)));
        bytes.extend_from_slice(start);
        Self { header, length, bytes }
    }

    /// At most as much again as has arrived.
    fn make_room(&mut self) {
        if self.bytes.capacity() == self.bytes.len() {
            let missing = self.length - self.bytes.len();
            self.bytes.reserve(missing.min(self.bytes.len()));
        }
    }

    fn into_frame(self) -> Frame {
        let mut body = self.bytes.freeze();
        recycle_later(body.clone());
        body.advance(HEADER);
        Frame { header: self.header, body: body.into() }
    }
}

/// Large frames that were received on this thread, oldest first. One that nobody else holds any more is used again: a
/// fresh buffer costs the kernel a page fault for every 4 KiB. The latest comes first: its bytes are still in the cache.
#[derive(Debug, Default)]
struct Recent {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// Each thread keeps at most this much.
const MOST_RECENT: usize = 8 << 20;

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::default();
}

fn recycled(length: usize) -> Option<BytesMut> {
    RECENT.with_borrow_mut(|recent| {
        let fits = |frame: &Bytes| (length..2 * length).contains(&frame.len()) && frame.is_unique();
        let at = recent.frames.iter().rposition(fits)?;
        let frame = recent.frames.remove(at)?;
        recent.bytes -= frame.len();
        let mut buffer = frame.try_into_mut().ok()?;
        buffer.clear();
        Some(buffer)
    })
}

fn recycle_later(frame: Bytes) {
    if frame.len() > MOST_RECENT / 8 {
        return;
    }
    RECENT.with_borrow_mut(|recent| {
        recent.bytes += frame.len();
        recent.frames.push_back(frame);
        while recent.bytes > MOST_RECENT {
            let Some(oldest) = recent.frames.pop_front() else { return };
            recent.bytes -= oldest.len();
        }
    });
}

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> BytesMut {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(CHUNK))
}

fn give_buffer(mut buffer: BytesMut) {
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < 4 && buffer.try_reclaim(CHUNK) && buffer.capacity() <= 4 * CHUNK {
            buffers.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::frame::Kind;

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let header = Header { kind: Kind::Request, compression: 0, codec: 0, id };
        [&header.to_bytes((HEADER + body.len()) as u32)[..], body].concat()
    }

    async fn read_all(reader: &mut Reader, io: &mut tokio::io::DuplexStream) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = reader.next_frame().unwrap() {
                frames.push(frame);
            }
            reader.park();
            if poll_fn(|cx| reader.poll_fill(io, cx)).await.unwrap() == 0 {
                return frames;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn frames_arrive_whole_however_they_are_cut(
            sizes in prop::collection::vec(prop_oneof![0usize..100, 0usize..200_000], 1..20),
            pipe in 1usize..100_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut near, mut far) = tokio::io::duplex(pipe);
                let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| vec![*size as u8; *size]).collect();
                let bytes: Vec<u8> =
                    bodies.iter().enumerate().flat_map(|(id, body)| frame(id as u64 + 1, body)).collect();
                let write = async move {
                    near.write_all(&bytes).await.unwrap();
                };
                let mut reader = Reader::new(1 << 20);
                let (frames, ()) = tokio::join!(read_all(&mut reader, &mut far), write);
                prop_assert_eq!(frames.len(), bodies.len());
                for (at, (frame, body)) in frames.iter().zip(&bodies).enumerate() {
                    prop_assert_eq!(frame.header.id, at as u64 + 1);
                    prop_assert_eq!(&frame.body[..], &body[..]);
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_claimed_length_reserves_nothing() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let header = Header { kind: Kind::Request, compression: 0, codec: 0, id: 1 };
        near.write_all(&header.to_bytes(60 << 20)).await.unwrap();
        let mut reader = Reader::new(64 << 20);
        for _ in 0..3 {
            near.write_all(&[0; 1000]).await.unwrap();
            poll_fn(|cx| reader.poll_fill(&mut far, cx)).await.unwrap();
            assert!(reader.next_frame().unwrap().is_none());
        }
        let reserved = reader.buffer.capacity() + reader.large.unwrap().bytes.capacity();
        assert!(reserved <= 4 * CHUNK, "{reserved} bytes");
    }
}
