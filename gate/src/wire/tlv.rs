//! Frames in a stream of bytes: TCP, or TLS over it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

use super::{GOODBYE, Wire, WireError};
use crate::frame::Frame;

/// Bytes of one read.
const READ: usize = 64 << 10;
/// Bytes that are written together: smaller frames are copied into one write.
const WRITE: usize = 64 << 10;

thread_local! {
    /// Buffer that all connections of a thread read into, so that an idle one holds none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A stream of frames.
#[derive(Debug)]
pub(crate) struct Tlv<S> {
    stream: S,
    received: BytesMut,
    most: usize,
}

impl<S> Tlv<S> {
    /// Frames with at most `most` bytes of data.
    pub(crate) fn new(stream: S, most: usize) -> Self {
        Self { stream, received: BytesMut::new(), most }
    }
}

impl<S: AsyncRead + Unpin> Tlv<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.received.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for Tlv<S> {
    async fn receive(&mut self) -> Result<bool, WireError> {
        Ok(poll_fn(|cx| self.poll_receive(cx)).await? > 0)
    }

    fn next(&mut self) -> Result<Option<Frame>, WireError> {
        let frame = Frame::take(&mut self.received, self.most)?;
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        Ok(frame)
    }

    fn has_partial(&self) -> bool {
        !self.received.is_empty()
    }

    async fn send(&mut self, frames: &mut VecDeque<Bytes>) -> io::Result<()> {
        let mut together = BytesMut::new();
        while let Some(frame) = frames.pop_front() {
            if together.is_empty() && (frames.is_empty() || frame.len() >= WRITE) {
                self.stream.write_all(&frame).await?;
                continue;
            }
            together.extend_from_slice(&frame);
            if frames.is_empty() || together.len() >= WRITE {
                self.stream.write_all(&together).await?;
                together.clear();
            }
        }
        self.stream.flush().await
    }

    async fn probe(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn close(&mut self, _: Option<&WireError>) {
        // Closing with unread input would destroy what was sent last (RFC 1122, section 4.2.2.13).
        let closing = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 1024];
            while self.stream.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = timeout(GOODBYE, closing).await;
    }
}
