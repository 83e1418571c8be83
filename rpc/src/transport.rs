//! What a connection runs over.

mod body;
mod read;
mod write;

use std::task::{Context, Poll};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

pub(crate) use body::Body;
pub(crate) use read::{Frame, Reader};
pub(crate) use write::Writer;

/// A stream of bytes in both directions, owned by one task.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready when a read is worth a buffer. Always ready where that cannot be told: the read itself waits then.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }
}

impl Transport for TcpStream {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }
}

impl Transport for DuplexStream {}

impl Transport for Box<dyn Transport> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        (**self).poll_read_ready(cx)
    }
}
