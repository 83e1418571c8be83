//! The port: accepts connections, and tells the protocols apart by their first bytes.

use std::{future::Future, io, net::SocketAddr, pin::pin, time::Duration};

use bytes::BytesMut;
use ms_mq::Engine;
use ms_security::tls::{self, Tls};
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    channels::Channels,
    limits::COMMAND_WITHIN,
    protocol::{Protocol as _, Refusal},
    session::converse,
    text::Text,
    v111,
};

/// Files that the process needs besides connections.
const OWN_FILES: u64 = 64;
/// More connections would take too much memory.
const MOST: u64 = 65_536;
/// Silence after which the system asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The TCP port of gmq.
///
/// A line has at most 64 KiB and 16 parameters, a body 1 MiB, a batch 1,000 messages and 3 MiB. A command that has begun must be
/// there within 30 s; between commands a connection may be silent. A client that takes no answer for 10 s is closed, and so is a
/// subscriber for which 1,024 messages or 4 MiB wait. Up to 64 pushes, acks and pops of a connection are carried out at a time;
/// answers come in the order of the commands.
#[derive(Debug)]
pub struct GmqServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    most: usize,
}

impl GmqServer {
    /// Listens on this address; port 0 is any free one.
    ///
    /// # Errors
    /// The error of the system.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls: None, most: 1024 })
    }

    /// TLS alone: a connection in plaintext is closed.
    #[must_use]
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// At most so many connections at a time, others wait. Default 1,024; in any case at most 65,536, and 64 fewer than the
    /// process may have files open.
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves an engine until `stop` is done; then pops that wait end, and what else is under way is answered. Dropping it cuts
    /// all off.
    pub async fn serve<E: Engine>(self, engine: E, stop: impl Future<Output = ()>) {
        let Self { listener, tls, most, .. } = self;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = most.min(files.saturating_sub(OWN_FILES).min(MOST) as usize).max(1);
        let (stopping, stopped) = watch::channel(false);
        let channels = Channels::default();
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < most => match accepted {
                    Ok((stream, address)) => {
                        let open = open(stream, tls.clone(), engine.clone(), channels.clone(), stopped.clone());
                        connections.spawn(async move {
                            if let Err(error) = open.await {
                                debug!("the connection of {address} ended: {error}");
                            }
                        });
                    }
                    Err(error) => rest(&error).await,
                },
            }
        }
        drop(listener);
        stopping.send_replace(true);
        while connections.join_next().await.is_some() {}
    }
}

/// Where the system has no room for another connection, asking again at once does not help.
async fn rest(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    warn!("no connection can be accepted: {error}");
    sleep(Duration::from_secs(1)).await;
}

/// Shakes hands where TLS is spoken, and serves the connection.
async fn open<E: Engine>(
    stream: TcpStream,
    tls: Option<Tls>,
    engine: E,
    channels: Channels,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    // Answers may come later without it.
    let _ = stream.set_nodelay(true);
    // Peers that vanished are noticed later without it.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE));
    let Some(tls) = tls else { return serve(stream, &engine, "", &channels, stopping).await };
    // In the form of the text protocol: nothing tells the other one apart yet.
    let words = Text::<E>::refuse(&Refusal::new("E_TLS", "this port speaks TLS alone"));
    let accepted = tokio::select! {
        accepted = timeout(COMMAND_WITHIN, tls.accept_or_tell(stream, tls::Protocol::named("gmq"), &words)) => {
            accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => return Ok(()),
    };
    let stream = accepted?;
    let caller = stream.peer().map(|peer| peer.identity).unwrap_or_default();
    serve(stream, &engine, &caller, &channels, stopping).await
}

/// Speaks the protocol that the client begins with. `caller` is the name in its certificate, empty without one.
async fn serve<E: Engine>(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    engine: &E,
    caller: &str,
    channels: &Channels,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let stop = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
    let mut stop = pin!(stop);
    let mut input = BytesMut::new();
    // The text protocol has no command of fewer bytes that begins so.
    while v111::MAGIC.starts_with(&input[..]) && input[..] != v111::MAGIC[..] {
        // A client that has said nothing may do so for as long as it likes, as between two commands.
        let within = if input.is_empty() { Duration::MAX } else { COMMAND_WITHIN };
        let read = tokio::select! {
            () = &mut stop => return Ok(()),
            read = timeout(within, stream.read_buf(&mut input)) => read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?,
        };
        if read == 0 {
            return Ok(());
        }
    }
    let engine = engine.for_caller(|| caller.to_owned()).into_owned();
    let (subscriber, inbox) = channels.subscriber();
    let overflown = inbox.overflown();
    let conversation = async {
        if input.starts_with(v111::MAGIC) {
            converse(v111::V111::new(engine), stream, input, inbox, stop).await
        } else {
            converse(Text::new(engine, subscriber.clone()), stream, input, inbox, stop).await
        }
    };
    tokio::select! {
        ended = conversation => ended,
        () = overflown => Err(io::Error::new(io::ErrorKind::TimedOut, "a subscriber does not read: it is dropped")),
    }
}
