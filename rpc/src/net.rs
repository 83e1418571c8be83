//! Sockets: what a connection reads from and writes to.

mod accept;
mod dial;
#[cfg(test)]
mod tests;
mod timer;
mod write;

use std::{
    io::{self, IoSliceMut, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BufMut;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

use crate::proto::{Inbound, Space};

pub use accept::Accept;
pub use dial::{Dial, Target};
pub(crate) use dial::{TLS_KEY, TLS_REQUIRED, tcp};
pub(crate) use timer::{Timer, instant_of};
pub(crate) use write::Writer;

/// A stream of bytes in both directions, owned by one task: anything that tokio reads from and writes to, such as TLS, a
/// pipe, or a simulated network. A stream that buffers what is written is flushed when there is nothing more to write.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for T {}

/// The two kinds of streams that connections are compiled for: TCP, and any other in a box.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Written bytes may rest in the stream until it is flushed.
    const BUFFERS: bool;

    /// Ready when a read is worth a buffer. Always ready where that cannot be told: the read itself waits then.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads into these buffers, one after the other; into the first alone where it takes a system call for each. 0 bytes: the
    /// peer has closed its side.
    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>;
}

impl Socket for TcpStream {
    const BUFFERS: bool = false;

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

impl Socket for Box<dyn Transport> {
    const BUFFERS: bool = true;

    fn poll_read_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read_vectored(&mut self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let Some(first) = buffers.first_mut() else { return Poll::Ready(Ok(0)) };
        let mut first = ReadBuf::new(first);
        ready!(Pin::new(self).poll_read(cx, &mut first))?;
        Poll::Ready(Ok(first.filled().len()))
    }
}

/// Reads once into `inbound`. 0 bytes: the peer has closed its side.
pub(crate) fn poll_fill<T: Socket>(inbound: &mut Inbound, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if inbound.is_parked() {
        ready!(io.poll_read_ready(cx))?;
    }
    inbound.fill(|space| match space {
        Space::Append(buffer, most) => poll_read_buf(Pin::new(io), cx, &mut buffer.limit(most)),
        Space::Fill(rest, next) => io.poll_read_vectored(cx, &mut [IoSliceMut::new(rest), IoSliceMut::new(next)]),
    })
}
