use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use super::Transport;
use crate::{
    body::Body,
    proto::{HEADER, Header, Malformed},
};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// A frame of this size or more that has not arrived whole is read into a buffer of its own: no byte of it is moved again.
const LARGE: usize = 16 << 10;

/// Where a large frame was, another is expected: only its start is read into the common buffer, and with the end of the one
/// before, so that each takes one system call.
const START: usize = 1 << 10;

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
    /// How much has arrived.
    filled: usize,
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
            let mut next = [0; START];
            let read = ready!(large.poll_read(io, cx, &mut next))?;
            let beyond = (large.filled + read).saturating_sub(large.length);
            large.filled += read - beyond;
            if beyond > 0 {
                if self.buffer.capacity() == 0 {
                    self.buffer = take_buffer();
                }
                self.buffer.extend_from_slice(&next[..beyond]);
            }
            return Poll::Ready(Ok(read));
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
        if let Some(large) = self.large.take_if(|large| large.filled == large.length) {
            self.expects_large = true;
            return Ok(Some(large.into_frame()));
        }
        let Some((header, length)) = Header::parse(&self.buffer, self.max_frame)? else { return Ok(None) };
        if self.buffer.len() < length {
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
        let filled = start.len();
        let bytes = match recycled(length) {
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

    /// Reads what is missing, and maybe some of what comes `next`.
    fn poll_read<T: Transport>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        next: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() == self.length {
            let mut buffers = [IoSliceMut::new(&mut self.bytes[self.filled..]), IoSliceMut::new(next)];
            return io.poll_read_vectored(cx, &mut buffers);
        }
        let missing = self.length - self.filled;
        if self.bytes.capacity() == self.filled {
            // At most as much again as has arrived.
            self.bytes.reserve(missing.min(self.filled));
        }
        poll_read_buf(Pin::new(io), cx, &mut (&mut self.bytes).limit(missing))
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
        buffer.truncate(length);
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
    use tokio::{
        io::{AsyncWrite, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::proto::Kind;

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let header = Header { kind: Kind::Request, compression: 0, codec: 0, id };
        [&header.to_bytes((HEADER + body.len()) as u32)[..], body].concat()
    }

    fn body(id: u64, size: usize) -> Vec<u8> {
        (0..size).map(|at| (at as u64 * 31 + id * 7) as u8).collect()
    }

    /// Reads until the end, and checks each frame; every third one is held until then, so that the others are used again.
    async fn check_all<T: Transport>(io: &mut T, sizes: &[usize]) {
        let mut reader = Reader::new(1 << 20);
        let (mut count, mut held) = (0, Vec::new());
        loop {
            while let Some(frame) = reader.next_frame().unwrap() {
                count += 1;
                assert_eq!(frame.header.id, count);
                assert_eq!(frame.body[..], body(count, sizes[count as usize - 1]));
                if count % 3 == 0 {
                    held.push(frame);
                }
            }
            reader.park();
            if poll_fn(|cx| reader.poll_fill(io, cx)).await.unwrap() == 0 {
                break;
            }
        }
        assert_eq!(count, sizes.len() as u64);
        for Frame { header, body: held } in held {
            assert_eq!(held[..], body(header.id, sizes[header.id as usize - 1]), "a held frame was overwritten");
        }
    }

    /// Writes so many bytes at once.
    async fn write_all(io: impl AsyncWrite, sizes: &[usize], at_once: usize) {
        let ids = 1..;
        let bytes: Vec<u8> = ids.zip(sizes).flat_map(|(id, size)| frame(id, &body(id, *size))).collect();
        let mut io = std::pin::pin!(io);
        for piece in bytes.chunks(at_once) {
            io.write_all(piece).await.unwrap();
        }
        io.shutdown().await.unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn frames_arrive_whole_however_they_are_cut(
            sizes in prop::collection::vec(prop_oneof![0usize..100, 0usize..200_000, 60_000usize..70_000], 1..30),
            at_once in prop_oneof![1000usize..100_000, Just(usize::MAX)],
            pipe in 1usize..100_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let (near, mut far) = tokio::io::duplex(pipe);
                tokio::join!(check_all(&mut far, &sizes), write_all(near, &sizes, at_once));
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (mut far, _) = listener.accept().await.unwrap();
                tokio::join!(check_all(&mut far, &sizes), write_all(near, &sizes, at_once));
            });
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
