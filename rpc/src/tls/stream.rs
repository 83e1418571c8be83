//! Streams of connections, and the words for what goes wrong on them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsStream,
    rustls::{AlertDescription, CertificateError, Error},
};

use crate::meter;

/// Role of the local side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// Stream of a connection, whose errors are explained. A client learns with its first read that its certificate is refused
/// (RFC 8446, section 4.4.2.4 and appendix E.1.2).
pub(super) struct Explained<S> {
    stream: S,
    side: Side,
    /// Of a connection in plaintext.
    _counted: Option<Counted>,
}

/// Counts a client that has not moved to TLS yet, as long as its connection stands.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        meter::plaintext(-1.0);
    }
}

impl Explained<TlsStream<TcpStream>> {
    pub(super) fn tls(stream: impl Into<TlsStream<TcpStream>>, side: Side) -> Self {
        Self { stream: stream.into(), side, _counted: None }
    }
}

impl Explained<TcpStream> {
    /// Plaintext, on a server that also takes TLS.
    pub(super) fn plaintext(stream: TcpStream) -> Self {
        meter::plaintext(1.0);
        Self { stream, side: Side::Server, _counted: Some(Counted) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let side = self.side;
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(match read {
            // TCP's end without TLS's: a frame that it cuts off is noticed by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            read => read.map_err(|error| explain(error, side)),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
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

/// The same error in words that name the cause and the remedy.
pub(super) fn explain(error: io::Error, side: Side) -> io::Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return error };
    let peer = match side {
        Side::Client => "the server",
        Side::Server => "the client",
    };
    let words = match tls {
        Error::InvalidCertificate(reason) => {
            format!("TLS: {peer}'s certificate is refused: {}", of_certificate(reason))
        }
        Error::AlertReceived(alert) => match of_alert(*alert) {
            Some(reason) => format!("TLS: {peer} refused our certificate: {reason}"),
            None => format!("TLS: {peer} gave up the handshake: {alert:?}"),
        },
        Error::NoCertificatesPresented => format!("TLS: {peer} presented no certificate"),
        Error::InvalidMessage(_) => format!("{peer} does not speak TLS"),
        Error::NoApplicationProtocol => format!("TLS: {peer} does not name ms-rpc/2 (ALPN)"),
        Error::PeerIncompatible(reason) => format!("TLS: {peer} does not speak TLS 1.3 as it should: {reason:?}"),
        other => format!("TLS: {other}"),
    };
    io::Error::new(error.kind(), words)
}

fn of_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has ended".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it does not hold yet".to_owned()
        }
        CertificateError::UnknownIssuer => "it is signed by an authority that is not trusted here".to_owned(),
        CertificateError::BadSignature => {
            "it is signed by an authority that is not trusted here, though one of that name is".to_owned()
        }
        CertificateError::Revoked => "it is revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => "no revocation list covers it".to_owned(),
        CertificateError::Other(other) => other.0.to_string(),
        other => format!("{other:?}"),
    }
}

/// Reason of an alert about our certificate (RFC 8446, section 6.2).
fn of_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "it has ended, or does not hold yet",
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is signed by an authority that is not trusted there"
        }
        AlertDescription::CertificateRevoked => "it is revoked",
        AlertDescription::CertificateRequired => "there was none, and it needs one",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => "see its log",
        _ => return None,
    })
}
