//! Dialling: the trait for transports of one's own, and TCP.

use std::{fmt, io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ms_register::Instance;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::Transport;
use crate::Peer;

/// Makes connections: for other transports than TCP, such as TLS, a pipe, or a simulated network.
///
/// ```
/// # use std::io;
/// # use ms_rpc::{Dial, Peer, Target, Transport};
/// # use tokio::net::UnixStream;
/// /// Connects to a socket in a directory, by the service's name.
/// #[derive(Debug)]
/// struct Sockets(&'static str);
///
/// #[async_trait::async_trait]
/// impl Dial for Sockets {
///     async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)> {
///         let service = target.service.unwrap_or("any");
///         let stream = UnixStream::connect(format!("{}/{service}", self.0)).await?;
///         Ok((Box::new(stream), Peer::new()))
///     }
/// }
/// ```
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// The stream to `target`, and what is known of the server. It is cancelled when the connect timeout ends.
    ///
    /// A peer with an address beyond loopback and no identity is one in plaintext: it gets no credentials, unless
    /// [`plaintext_credentials`](crate::ProxyBuilder::plaintext_credentials) allows it. Before the end of an identity the connection is
    /// replaced.
    ///
    /// # Errors
    /// Of the kind [`io::ErrorKind::ConnectionRefused`] if nothing listens: then an instance that the registry lists no more is
    /// given up at once.
    async fn dial(&self, target: &Target<'_>) -> io::Result<(Box<dyn Transport>, Peer)>;
}

/// Key of an instance's metadata whose server speaks TLS.
pub(crate) const TLS_KEY: &str = "ms.tls";

/// Its value where plaintext is refused; `permissive` where both are taken.
pub(crate) const TLS_REQUIRED: &str = "required";

/// Destination of a dial.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Target<'a> {
    /// Service that the connection is made for; `None` for a [`Client`](crate::Client) of one address.
    pub service: Option<&'a str>,
    /// Instance as the registry lists it, with its metadata; `None` for a [`Client`](crate::Client) of one address.
    pub instance: Option<&'a Instance>,
    /// `host:port`.
    pub address: &'a str,
}

impl<'a> Target<'a> {
    /// Target of an address without a known service.
    pub fn new(address: &'a str) -> Self {
        Self { service: None, instance: None, address }
    }

    /// The same as an instance of `service`.
    #[must_use]
    pub fn of(self, service: &'a str, instance: &'a Instance) -> Self {
        Self { service: Some(service), instance: Some(instance), ..self }
    }
}

/// Time after which the next address of a host is tried besides those before it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects by TCP, without Nagle's algorithm. Several addresses of one host name are raced.
pub(crate) async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = race(lookup_host(address).await?.collect()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects to the first of these addresses that answers: each begins when the one before it has failed, or after
/// [`ATTEMPT_DELAY`]. The error is of the kind "connection refused" only if all of them refused.
pub(super) async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut rest = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failed: Option<io::Error> = None;
    loop {
        attempts.extend(rest.next().map(TcpStream::connect));
        let first = if rest.len() == 0 {
            attempts.next().await
        } else {
            match timeout(ATTEMPT_DELAY, attempts.next()).await {
                Ok(first) => first,
                Err(_) => continue,
            }
        };
        match first {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => match &failed {
                Some(known) if known.kind() != io::ErrorKind::ConnectionRefused => {}
                _ => failed = Some(error),
            },
            None => return Err(failed.unwrap_or_else(|| io::Error::other("the host name has no address"))),
        }
    }
}

/// The same addresses with the two families in turn, beginning with the family that the resolver puts first.
pub(super) fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(first.len() + other.len());
    while first.len() + other.len() > 0 {
        mixed.extend(first.next());
        mixed.extend(other.next());
    }
    mixed
}

#[cfg(test)]
mod tests;
