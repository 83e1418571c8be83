//! Streams of connections, and the clients that have not moved to TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use ms_security::tls::TlsStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::meter;

/// Stream of a connection. TCP's end without TLS's is an end like another: a frame that it cuts off is noticed by its length.
pub(super) struct Framed<S> {
    stream: S,
    /// Set for a connection in plaintext.
    _counted: Option<Counted>,
}

/// Counts a client that has not moved to TLS yet, as long as its connection stands.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        meter::plaintext(-1.0);
    }
}

impl Framed<TlsStream<TcpStream>> {
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, _counted: None }
    }
}

impl Framed<TcpStream> {
    /// Plaintext, on a server that also takes TLS.
    pub(super) fn plaintext(stream: TcpStream) -> Self {
        meter::plaintext(1.0);
        Self { stream, _counted: Some(Counted) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            read => read,
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
