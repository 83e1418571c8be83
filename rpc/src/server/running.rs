//! A server from its start to its end: accepting, and the kind way to stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ms_register::Registration;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};
use tracing::warn;

use super::{Shared, connection::Connection, drain::Connections};
use crate::{HealthState, meter, net::Transport, service::health::Life};

/// How long a server waits for a registry to confirm a deregistration.
const DEREGISTER_DEADLINE: Duration = Duration::from_secs(3);

/// A server that accepts calls. Dropping it cuts everything off; [`shutdown`](Self::shutdown) is the kind way.
#[derive(Debug)]
#[must_use = "dropping a running server stops it"]
pub struct RunningServer {
    pub(super) address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Arc<Connections>,
    pub(super) accept: JoinHandle<()>,
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

    /// Serves a stream that stands already beside those that are accepted, such as one half of a pipe in a test.
    pub fn serve_over(&self, transport: impl Transport) {
        serve(transport, None, &self.shared, &self.connections);
    }

    /// State of the server: what its `ms.health` answers.
    pub fn health(&self) -> HealthState {
        self.life.get()
    }

    #[cfg(feature = "axum")]
    pub(crate) fn life(&self) -> Life {
        self.life.clone()
    }

    /// What it has registered.
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// Deregisters, waits until callers know, says GOAWAY, finishes the calls in flight, and closes. New calls are taken
    /// until GOAWAY. A registry that does not confirm in 3 s is left behind with a warning.
    pub async fn shutdown(mut self) {
        self.life.set(HealthState::Draining);
        if !self.registrations.is_empty() {
            deregister(std::mem::take(&mut self.registrations)).await;
            tokio::time::sleep(self.propagation).await;
        }
        self.accept.abort();
        // When it has ended, the port is free.
        let _ = (&mut self.accept).await;
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
        self.accept.abort();
        self.connections.abort();
    }
}

/// All at once: the deadline is one for all.
async fn deregister(registrations: Vec<Registration>) {
    let mut tasks = tokio::task::JoinSet::new();
    for registration in registrations {
        tasks.spawn(registration.deregister(DEREGISTER_DEADLINE));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            warn!("{error}");
        }
    }
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if let Err(error) = prepare(&stream) {
                    warn!("{address}: {error}");
                    continue;
                }
                serve(stream, Some(address), &shared, &connections);
            }
            Err(error) => {
                // Most often out of file descriptors: those in use go on, and one may come free.
                warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Without it small frames wait for acknowledgements (Nagle's algorithm, RFC 896).
    stream.set_nodelay(true)?;
    // A client that vanished without a word would be kept for ever: the system asks after a minute of silence (RFC 9293,
    // section 3.8.4).
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

fn serve<T: Transport>(io: T, address: Option<SocketAddr>, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    let peer = crate::Peer { address, ..Default::default() };
    let shared = shared.clone();
    connections.spawn(move |mailbox| Connection::new(io, mailbox, peer, shared));
}
