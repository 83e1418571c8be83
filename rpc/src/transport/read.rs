use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use super::Transport;
use crate::frame::{HEADER, Header, Malformed};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// One received frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) body: Bytes,
}

/// Cuts received bytes into frames. Memory grows with the bytes that arrive, never by a length that a peer claims; an
/// idle connection holds no buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    max_frame: usize,
}

impl Reader {
    pub(crate) fn new(max_frame: usize) -> Self {
        Self { buffer: BytesMut::new(), max_frame }
    }

    /// Reads once. 0 bytes: the peer has closed its side.
    pub(crate) fn poll_fill<T: Transport>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() == 0 {
            ready!(io.poll_read_ready(cx))?;
            self.buffer = take_buffer();
        }
        self.make_room();
        poll_read_buf(Pin::new(io), cx, &mut self.buffer)
    }

    /// The next whole frame, if it has arrived.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some((header, length)) = Header::parse(&self.buffer, self.max_frame)? else { return Ok(None) };
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(length);
        frame.advance(HEADER);
        Ok(Some(Frame { header, body: frame.freeze() }))
    }

    /// Forgets what has arrived.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Gives the buffer away while nothing is expected. Bytes of an unfinished frame stay.
    pub(crate) fn park(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            give_buffer(std::mem::take(&mut self.buffer));
        }
    }

    fn make_room(&mut self) {
        if self.buffer.capacity() - self.buffer.len() >= CHUNK / 2 {
            return;
        }
        // Room for the rest of a frame under way, but at most as much again as has arrived.
        let missing = match Header::parse(&self.buffer, self.max_frame) {
            Ok(Some((_, length))) => length.saturating_sub(self.buffer.len()),
            _ => 0,
        };
        self.buffer.reserve(missing.min(self.buffer.len().max(CHUNK)).max(CHUNK / 2));
    }
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
        assert!(reader.buffer.capacity() <= 4 * CHUNK, "{} bytes", reader.buffer.capacity());
    }
}
