//! Streams of connections: handshakes on either side, and what is known of the peer afterwards.

use std::{
    fmt,
    io::{self, IoSlice},
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{self, ClientConfig, client::Resumption, pki_types::ServerName},
};
use webpki::EndEntityCert;

use super::{
    Tls, TlsError,
    explain::{Side, explain},
    identity::{self, Identity},
    material, provider,
    verify::{Names, ServiceVerifier},
};

/// First byte of a TLS connection (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// Application protocol of a connection (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    name: &'static str,
    is_required: bool,
}

impl Protocol {
    /// HTTP/1.1. Peers that name no protocol speak it too.
    pub const HTTP: Self = Self { name: "http/1.1", is_required: false };

    /// A protocol that peers need not name.
    pub const fn named(name: &'static str) -> Self {
        Self { name, is_required: false }
    }

    /// A protocol that both sides must name.
    pub const fn required(name: &'static str) -> Self {
        Self { name, is_required: true }
    }

    fn check(self, named: Option<&[u8]>, peer: &str) -> io::Result<()> {
        match named {
            Some(named) if named == self.name.as_bytes() => Ok(()),
            None if !self.is_required => Ok(()),
            _ => Err(io::Error::other(format!("{peer} speaks TLS, but did not name {} (ALPN)", self.name))),
        }
    }
}

/// Name that a client expects in the certificate of a server. Never one that a registry gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected<'a> {
    /// The identity of this service, by the rules of the [`Tls`].
    Service(&'a str),
    /// A peer of this identity: a SPIFFE ID or a DNS name.
    Identity(&'a str),
    /// A server of this host, as in HTTPS (RFC 9110, section 4.3.4): a DNS name or an IP address, without a port. The name is sent (SNI).
    Host(&'a str),
}

/// Verified certificate of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certified {
    /// The first URI of the certificate, else its first DNS name; empty if it has neither.
    pub identity: String,
    /// End of the certificate.
    pub ends: Option<SystemTime>,
}

/// Encrypted stream of a connection. Its errors name the cause, and the side that can act.
///
/// An end of the stream without TLS's own is an error of the kind [`io::ErrorKind::UnexpectedEof`].
pub struct TlsStream<S> {
    stream: tokio_rustls::TlsStream<S>,
    side: Side,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("side", &self.side).finish_non_exhaustive()
    }
}

impl<S> TlsStream<S> {
    /// The certificate that the peer presented; `None` if it presented none.
    pub fn peer(&self) -> Option<Certified> {
        let der = self.stream.get_ref().1.peer_certificates()?.first()?;
        // The handshake has verified it.
        let certificate = EndEntityCert::try_from(der).ok()?;
        let ends = material::period(der).map(|(_, ends)| ends);
        Some(Certified { identity: identity::of_peer(&certificate).unwrap_or_default(), ends })
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        self.stream.get_ref().0
    }
}

impl Tls {
    /// Shakes hands as a server.
    ///
    /// # Errors
    /// In words that name the cause: the client's certificate, its authority, its protocol. They are counted
    /// (`ms_rpc_tls_refused_total`).
    pub async fn accept<S>(&self, stream: S, protocol: Protocol) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.watch();
        let config = self.current().server(protocol.name).map_err(io::Error::other)?;
        let accepted = TlsAcceptor::from(config).accept(stream).await;
        let refused = |error: io::Error| {
            counter!("ms_rpc_tls_refused_total", "reason" => "handshake").increment(1);
            explain(error, Side::Server, protocol.name)
        };
        let stream = accepted.map_err(refused)?;
        protocol.check(stream.get_ref().1.alpn_protocol(), "the client")?;
        Ok(TlsStream { stream: stream.into(), side: Side::Server })
    }

    /// Shakes hands as a server with a client that may speak plaintext by mistake: such a client is answered `words`, in plaintext, and
    /// its connection ends. Waits for as long as the client does.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept), and plaintext, which is counted too.
    pub async fn accept_or_tell(
        &self,
        mut stream: TcpStream,
        protocol: Protocol,
        words: &[u8],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 || first == [HANDSHAKE] {
            return self.accept(stream, protocol).await;
        }
        counter!("ms_rpc_tls_refused_total", "reason" => "plaintext").increment(1);
        stream.write_all(words).await?;
        stream.shutdown().await?;
        // Closing with unread input would destroy the words (RFC 1122, section 4.2.2.13).
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        Err(io::Error::other("the client speaks plaintext, TLS is required"))
    }

    /// Shakes hands as a client.
    ///
    /// # Errors
    /// An error of the kind [`io::ErrorKind::InvalidInput`] if no server could be accepted: there are no authorities, or `expected` is no name.
    /// Else in words that name the cause: the server's certificate, its identity, its protocol.
    pub async fn connect<S>(&self, stream: S, expected: Expected<'_>, protocol: Protocol) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.watch();
        let (config, name) = self
            .client_config(expected, protocol)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|error| explain(error, Side::Client, protocol.name))?;
        protocol.check(stream.get_ref().1.alpn_protocol(), "the server")?;
        Ok(TlsStream { stream: stream.into(), side: Side::Client })
    }

    /// Checks that a client can expect this name.
    ///
    /// # Errors
    /// There are no authorities, or it is no name.
    pub fn check_expected(&self, expected: Expected<'_>) -> Result<(), TlsError> {
        self.check_authorities()?;
        self.names(expected).map(drop)
    }

    /// Names of which the server's certificate must have one.
    fn names(&self, expected: Expected<'_>) -> Result<Names, TlsError> {
        Ok(match expected {
            Expected::Service(service) => Names::Identities(self.0.names.of(service)?),
            Expected::Identity(identity) => Names::Identities(vec![Identity::parse(identity)?]),
            Expected::Host(host) => Names::Host(identity::host(host)?),
        })
    }

    /// Configuration for a connection to a server of this name, and the name that is sent.
    fn client_config(
        &self,
        expected: Expected<'_>,
        protocol: Protocol,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
        let trust = self.current().client.clone().ok_or(TlsError::NoAuthorities)?;
        let names = self.names(expected)?;
        let (sent, sends_name) = match &names {
            Names::Host(name) => (name.clone(), true),
            // Never sent: the verifier looks at identities alone.
            Names::Identities(_) => (ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()), false),
        };
        let provider = provider();
        let verifier = ServiceVerifier { trust: trust.clone(), expected: names, provider: provider.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| TlsError::Unusable { what: "TLS 1.3".to_owned(), reason: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &trust.own {
            Some(own) => config.with_client_cert_resolver(own.clone()),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.name.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = sends_name;
        Ok((Arc::new(config), sent))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    /// A client learns with its first read that its certificate is refused (RFC 8446, section 4.4.2.4 and appendix E.1.2).
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let side = self.side;
        Pin::new(&mut self.stream).poll_read(cx, buffer).map_err(|error| explain(error, side, "the protocol"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
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
