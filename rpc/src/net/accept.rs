use std::{fmt, io, net::SocketAddr};

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::Transport;
use crate::Peer;

/// Turns an accepted socket into a stream to serve: for TLS, or for a proxy's preamble.
///
/// The handshake runs in a task of the connection's own, for at most [`ServerLimits::max_handshakes`](crate::ServerLimits)
/// sockets at a time, and is dropped when [`ServerLimits::hello_timeout`](crate::ServerLimits) has passed or the server
/// drains.
///
/// ```
/// # use std::{io, net::SocketAddr};
/// # use ms_rpc::{Accept, Peer, Transport};
/// # use tokio::{io::AsyncReadExt, net::TcpStream};
/// /// Asks for a byte before HELLO.
/// #[derive(Debug)]
/// struct Knock(u8);
///
/// #[async_trait::async_trait]
/// impl Accept for Knock {
///     async fn accept(&self, mut stream: TcpStream, address: SocketAddr) -> io::Result<(Box<dyn Transport>, Peer)> {
///         if stream.read_u8().await? != self.0 {
///             return Err(io::Error::other("a stranger"));
///         }
///         Ok((Box::new(stream), Peer::new().with_address(address)))
///     }
/// }
/// ```
#[async_trait]
pub trait Accept: fmt::Debug + Send + Sync + 'static {
    /// Returns true if the client speaks first. Then clients that are silent do not count among the handshakes under way. Default
    /// false.
    fn waits_for_client(&self) -> bool {
        false
    }

    /// The stream, and what is known of the peer; its name and credentials are replaced by those of its HELLO.
    ///
    /// # Errors
    /// Any reason not to serve it: the socket is closed.
    async fn accept(&self, stream: TcpStream, address: SocketAddr) -> io::Result<(Box<dyn Transport>, Peer)>;
}
