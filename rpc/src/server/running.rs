//! A server from its start to its end: accepting, and the kind way to stop.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ms_register::{Instance, RegisterError, Registration};
use ms_security::Seldom;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use super::{
    Guest, LocalServer, Protocol, Shared,
    connection::Connection,
    drain::{Connections, Listed},
    protocol::first_bytes,
};
use crate::{
    Accept, HealthState, Peer, meter,
    net::{Socket, Transport},
    proto::GoAway,
    service::health::Life,
};

/// How long a server waits for a registry to confirm a change.
const REGISTRY_DEADLINE: Duration = Duration::from_secs(3);

/// A server that accepts calls. Dropping it cuts everything off; [`shutdown`](Self::shutdown) is the kind way.
#[derive(Debug)]
#[must_use = "dropping a running server stops it"]
pub struct RunningServer {
    pub(super) address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Arc<Connections>,
    /// `None` without a listener.
    pub(super) accept: Option<JoinHandle<()>>,
    pub(super) registrations: Vec<Registration>,
    pub(super) life: Life,
    pub(super) propagation: Duration,
    pub(super) drain: Duration,
}

impl RunningServer {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a stream that stands already, beside those that are accepted, such as one half of a pipe in a test. `peer` describes
    /// its other end; name and credentials are replaced by those of its HELLO.
    pub fn serve_over(&self, transport: impl Transport, peer: Peer) {
        serve::<Box<dyn Transport>>(Box::new(transport), peer, &self.shared, &self.connections);
    }

    pub(crate) fn local_server(&self) -> LocalServer {
        LocalServer::new(self.shared.clone())
    }

    /// State of the server: what its `ms.health` answers.
    pub fn health(&self) -> HealthState {
        self.life.get()
    }

    #[cfg(feature = "axum")]
    pub(crate) fn life(&self) -> Life {
        self.life.clone()
    }

    /// Registrations of this server.
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// Lists the server with this weight in all registries from now on, without a moment in which it is not listed. Callers follow
    /// as fast as their watches. Weights are numbers above 0, relative to those of the other instances.
    ///
    /// # Errors
    /// A weight that is not above 0, a refusal, and [`RegisterError::Timeout`] for a registry that does not confirm within 3 s:
    /// there it is written later. The other registries are told all the same.
    pub async fn set_weight(&self, weight: f64) -> Result<(), RegisterError> {
        self.update(|instance| instance.with_weight(weight)).await
    }

    /// The same for whatever [`Registration::update`] may change of an instance, such as metadata: `change` gets each instance
    /// as it is listed.
    ///
    /// # Errors
    /// As for [`set_weight`](Self::set_weight); also an instance with another id or address.
    pub async fn update(&self, change: impl Fn(Instance) -> Instance) -> Result<(), RegisterError> {
        let updates = self.registrations.iter().map(|one| one.update(change(one.instance()), REGISTRY_DEADLINE));
        futures_util::future::join_all(updates).await.into_iter().collect()
    }

    /// Deregisters, waits until callers know, says GOAWAY, finishes the calls in flight, and closes. New calls are taken
    /// until GOAWAY. A registry that does not confirm in 3 s is left behind with a warning.
    pub async fn shutdown(mut self) {
        self.life.set(HealthState::Draining);
        if !self.registrations.is_empty() {
            deregister(std::mem::take(&mut self.registrations)).await;
            tokio::time::sleep(self.propagation).await;
        }
        if let Some(mut accept) = self.accept.take() {
            accept.abort();
            // When it has ended, the port is free.
            let _ = (&mut accept).await;
        }
        let began = Instant::now();
        let in_time = self.connections.drain(self.drain).await;
        meter::drained(began.elapsed(), in_time);
        if !in_time {
            warn!("calls in flight were cut off after {:?}", self.drain);
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.life.set(HealthState::Draining);
        if let Some(accept) = &self.accept {
            accept.abort();
        }
        self.connections.abort();
    }
}

/// All at once: the deadline is one for all.
async fn deregister(registrations: Vec<Registration>) {
    let mut tasks = tokio::task::JoinSet::new();
    for registration in registrations {
        tasks.spawn(registration.deregister(REGISTRY_DEADLINE));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            warn!("{error}");
        }
    }
}

/// What stands between an accepted socket and the services.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) acceptor: Option<Arc<dyn Accept>>,
    pub(super) protocols: Vec<Arc<dyn Protocol>>,
}

/// Accepts connections, and leaves everything else to their own tasks.
pub(super) async fn accept(listener: TcpListener, doors: Doors, shared: Arc<Shared>, connections: Arc<Connections>) {
    let permits = Arc::new(Semaphore::new(shared.limits.max_handshakes));
    let shakes_hands = doors.acceptor.is_some() || !doors.protocols.is_empty();
    let handshake = Handshake { doors: Arc::new(doors), permits, warnings: Arc::default() };
    let mut warned = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often out of file descriptors: those in use go on, and one may come free.
                warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = prepare(&stream) {
            warn!("{address}: {error}");
            continue;
        }
        if connections.count() >= shared.limits.max_connections {
            refuse(&stream, shared.limits.max_connections, &mut warned);
            continue;
        }
        match shakes_hands {
            false => serve(stream, Peer::new().with_address(address), &shared, &connections),
            true => handshake.clone().serve(stream, address, &shared, &connections),
        }
    }
}

/// Tells a client that there are too many, as far as its socket takes the words at once.
fn refuse(stream: &TcpStream, most: usize, warned: &mut bool) {
    let reason = format!("the server has {most} connections, and takes no more (`max_connections`)");
    if !std::mem::replace(warned, true) {
        warn!("{reason}");
    }
    let _ = stream.try_write(&GoAway { last_id: 0, reason }.to_frame());
}

#[derive(Clone)]
struct Handshake {
    doors: Arc<Doors>,
    permits: Arc<Semaphore>,
    warnings: Arc<Seldom>,
}

impl Handshake {
    /// Shakes hands and serves, in a task of the connection's own.
    fn serve(self, stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>, connections: &Arc<Connections>) {
        let (shared, began) = (shared.clone(), Instant::now());
        connections.spawn(true, move |outbox, listed| async move {
            let in_time = timeout_at(began + shared.limits.hello_timeout, self.shake(stream, address));
            match in_time.await {
                Ok(Ok(Shaken::Stream(io, peer))) => {
                    listed.established();
                    Connection::new(io, outbox, peer, shared, began).await;
                }
                Ok(Ok(Shaken::Socket(io))) => {
                    listed.established();
                    Connection::new(io, outbox, Peer::new().with_address(address), shared, began).await;
                }
                Ok(Ok(Shaken::Guest(protocol, io))) => {
                    listed.established();
                    if let Err(error) = protocol.serve(Guest::new(io, address, shared, outbox)).await {
                        self.failed(address, format_args!("a connection of {protocol:?} ended: {error}"));
                    }
                }
                Ok(Err(error)) => self.failed(address, format_args!("the handshake failed: {error}")),
                Err(_) => {
                    let limit = shared.limits.hello_timeout;
                    self.failed(address, format_args!("the handshake failed: it took longer than {limit:?}"));
                }
            }
            drop(listed);
        });
    }

    async fn shake(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Shaken> {
        let Doors { acceptor, protocols } = &*self.doors;
        if !protocols.is_empty() {
            let first = first_bytes(&stream).await?;
            if let Some(protocol) = protocols.iter().find(|protocol| protocol.first_bytes() == first) {
                return Ok(Shaken::Guest(protocol.clone(), stream));
            }
        }
        let Some(acceptor) = acceptor else { return Ok(Shaken::Socket(stream)) };
        if acceptor.waits_for_client() {
            stream.peek(&mut [0]).await?;
        }
        let _permit = self.permits.acquire().await;
        let (stream, peer) = acceptor.accept(stream, address).await?;
        Ok(Shaken::Stream(stream, peer))
    }

    /// Warns at most once a second: strangers must not fill the log.
    fn failed(&self, address: SocketAddr, reason: fmt::Arguments<'_>) {
        if self.warnings.is_due() {
            warn!("{address}: {reason}");
        } else {
            debug!("{address}: {reason}");
        }
    }
}

/// What a handshake led to.
enum Shaken {
    /// A stream that the acceptor made.
    Stream(Box<dyn Transport>, Peer),
    /// The socket as it was accepted.
    Socket(TcpStream),
    /// A client of another protocol.
    Guest(Arc<dyn Protocol>, TcpStream),
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Without it small frames wait for acknowledgements (Nagle's algorithm, RFC 896).
    stream.set_nodelay(true)?;
    // A client that vanished without a word would be kept for ever: the system asks after a minute of silence (RFC 9293,
    // section 3.8.4).
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

fn serve<T: Socket>(io: T, peer: Peer, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    let shared = shared.clone();
    connections.spawn(false, move |outbox, listed| {
        let connection = Connection::new(io, outbox, peer, shared, Instant::now());
        Serving { connection, _listed: listed }
    });
}

/// A connection on the list. An `async` block would hold it twice: as it was captured, and as it is awaited.
struct Serving<T: Socket> {
    connection: Connection<T>,
    _listed: Listed,
}

impl<T: Socket> Future for Serving<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.connection).poll(cx)
    }
}
