//! What a connection runs over.

mod read;
mod write;

use std::{
    io::{self, IoSliceMut, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf},
    net::TcpStream,
};

pub(crate) use read::{Frame, Reader};
pub(crate) use write::Writer;

/// A stream of bytes in both directions, owned by one task.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready when a read is worth a buffer. Always ready where that cannot be told: the read itself waits then.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Reads into these buffers, one after the other; into the first alone where it takes a system call for each. 0 bytes: the
    /// peer has closed its side.
    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let Some(first) = buffers.first_mut() else { return Poll::Ready(Ok(0)) };
        let mut first = ReadBuf::new(first);
        ready!(Pin::new(self).poll_read(cx, &mut first))?;
        Poll::Ready(Ok(first.filled().len()))
    }
}

impl Transport for TcpStream {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }

    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        loop {
            ready!(Self::poll_read_ready(self, cx))?;
            let mut read = 0;
            let outcome = self.try_io(Interest::READABLE, || {
                read = (&*SockRef::from(&*self)).read_vectored(buffers)?;
                // The socket is empty now. Saying so here saves the read that would find it out.
                if (1..room).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match outcome {
                Err(error) if read == 0 && error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if read == 0 => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(Ok(read)),
            }
        }
    }
}

impl Transport for DuplexStream {}

impl Transport for Box<dyn Transport> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_read_ready(cx)
    }

    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        (**self).poll_read_vectored(cx, buffers)
    }
}
