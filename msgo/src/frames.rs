//! Frames from a stream.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};

use crate::frame::Frame;

/// Reads frames. A read that is given up loses nothing.
pub(crate) struct Frames<R> {
    stream: R,
    buffer: BytesMut,
    most: usize,
    /// Time that a frame may take from its first byte to its last.
    patience: Duration,
    /// When the frame that is under way has to be there.
    due: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(stream: R, most: usize, patience: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), most, patience, due: None }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let taken = Frame::take(&mut self.buffer, self.most);
            if let Some(frame) = taken.map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))? {
                self.due = None;
                return Ok(Some(frame));
            }
            let read = self.stream.read_buf(&mut self.buffer);
            let read = match self.due {
                None => read.await?,
                Some(due) => timeout_at(due, read).await.map_err(|_| {
                    let message = format!("half a frame, and then nothing for {:?}", self.patience);
                    io::Error::new(io::ErrorKind::TimedOut, message)
                })??,
            };
            match read {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within a frame")),
                _ => self.due = self.due.or_else(|| Some(Instant::now() + self.patience)),
            }
        }
    }
}
