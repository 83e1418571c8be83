//! Protocols of others on the port of a server.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use rustix::net::{RecvFlags, recv};
use tokio::{io::Interest, net::TcpStream};

use super::{LocalServer, Server, ServerError, ServerLimits, Shared, calls::Outbox};
use crate::{
    Peer,
    proto::{MAGIC, VERSION},
};

/// A protocol of others on the port of a [`Server`], told apart by the first two bytes of a connection: so clients that speak it
/// find the same services, while the rest has moved on.
///
/// Its connections count among `max_connections`, and its calls are those of [`Local`](crate::Local): with interceptors, limits, deadlines and
/// metrics.
///
/// ```
/// # use ms_rpc::{Guest, Protocol};
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// /// Answers `GET` with what `goods.find(5)` says, once a connection.
/// #[derive(Debug)]
/// struct OneItem;
///
/// #[async_trait::async_trait]
/// impl Protocol for OneItem {
///     fn first_bytes(&self) -> [u8; 2] {
///         *b"GE"
///     }
///
///     async fn serve(&self, guest: Guest) -> std::io::Result<()> {
///         let goods = ms_rpc::AnyChannel::from(guest.services());
///         let found = goods.call("goods", "find", &serde_json::json!([5])).await;
///         guest.into_stream().write_all(format!("{found:?}").as_bytes()).await
///     }
/// }
/// ```
#[async_trait]
pub trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// The bytes that each of its connections begins with.
    fn first_bytes(&self) -> [u8; 2];

    /// Serves one connection, until the client goes or [`Ending::draining`] returns. Its first bytes are still to be read. What it waits
    /// for has deadlines of its own: the limits are in [`Guest::limits`].
    ///
    /// # Errors
    /// Why it ended, for the log: strangers cause at most one line a second.
    async fn serve(&self, guest: Guest) -> io::Result<()>;
}

/// One connection of a [`Protocol`], and what it may reach.
#[derive(Debug)]
pub struct Guest {
    stream: TcpStream,
    server: LocalServer,
    shared: Arc<Shared>,
    ending: Ending,
}

/// Tells that a server shuts down.
#[derive(Clone, Debug)]
pub struct Ending(Arc<Outbox>);

impl Guest {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>, outbox: Arc<Outbox>) -> Self {
        let mut server = LocalServer::new(shared.clone());
        server.peer = Peer::new().with_address(address);
        Self { stream, server, shared, ending: Ending(outbox) }
    }

    /// The server's services, called by this peer.
    pub(crate) fn server(&self) -> LocalServer {
        self.server.clone()
    }

    /// Limits of the server.
    pub fn limits(&self) -> &ServerLimits {
        &self.shared.limits
    }

    /// The end of the server.
    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// The connection.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl Ending {
    /// Returns when the server shuts down: requests that were read are answered, and no more are read. One task at a time may wait.
    pub async fn draining(&self) {
        let (mut woken, mut returned) = (VecDeque::new(), Vec::new());
        poll_fn(|cx: &mut Context<'_>| match self.0.collect(&mut woken, &mut returned, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

/// Waits until the first two bytes are there, and leaves them. Fewer at the end of the connection are zeros.
pub(super) async fn first_bytes(stream: &TcpStream) -> io::Result<[u8; 2]> {
    let mut first = [0; 2];
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let peeked = stream.try_io(Interest::READABLE, || match recv(stream, &mut first, RecvFlags::PEEK)? {
            // Another byte wakes this task again, and the time of the handshake ends it.
            (_, 1) if !ready.is_read_closed() => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        });
        match peeked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            peeked => return peeked.map(|()| first),
        }
    }
}

impl Server {
    /// Serves clients of another protocol on the same port. May be called for several.
    ///
    /// Not together with [`tls`](Self::tls), [`accept_with`](Self::accept_with), [`authenticate`](Self::authenticate) or
    /// [`tokens`](Self::tokens): such clients would come in without. The start fails then. [Rules](Self::allow) hold for them, as for
    /// callers without a name.
    pub fn protocol(mut self, protocol: impl Protocol) -> Self {
        self.protocols.push(Arc::new(protocol));
        self
    }

    pub(super) fn check_protocols(&self) -> Result<(), ServerError> {
        let invalid = |reason: String| Err(ServerError::Protocol { reason });
        let mut seen = vec![[MAGIC, VERSION]];
        for protocol in &self.protocols {
            let first = protocol.first_bytes();
            if seen.contains(&first) {
                return invalid(format!("{protocol:?}: another protocol begins with {first:02x?} too"));
            }
            seen.push(first);
        }
        let around = match (self.authenticator.is_some(), self.acceptor.is_some()) {
            (true, _) => "authentication",
            (_, true) => "TLS or an acceptor",
            _ => return Ok(()),
        };
        match self.protocols.first() {
            None => Ok(()),
            Some(protocol) => invalid(format!(
                "clients of {protocol:?} would pass by {around}: serve them on a server of their own, such as one on loopback"
            )),
        }
    }
}
