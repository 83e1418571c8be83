//! HTTP for strangers: a bound on connections, TLS, and no connection that holds a slot by sending slowly.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{Request, header::EXPECT},
};
use hyper::{
    body::{Body as _, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use ms_security::{
    Principal,
    tls::{Protocol, Tls},
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};
use tracing::{debug, warn};

/// Until the head of a request is there, from the end of the one before it or the beginning of the connection.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Until its body is there.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Answer to a request in plaintext where TLS is spoken.
const PLAINTEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\
    connection: close\r\n\r\n{\"error\":\"this server speaks TLS: use https://..\"}";
/// Bytes of an unread body that are read all the same.
const MOST_LEFT: usize = 64 << 20;
/// Files that the process needs besides connections.
const OWN_FILES: u64 = 64;
/// More connections would take too much memory.
const MOST: u64 = 65_536;

/// HTTP/1 on a socket.
///
/// Connections beyond the bound wait until others end. One is closed when its TLS handshake, or the head of its next request, is not
/// there within 10 s, or a body within 30 s. What a handler leaves of a body, up to 64 MiB of it, is read before its answer goes: a
/// client that still sends does not look for one.
///
/// Handlers find the peer's address as [`ConnectInfo`], and the identity of a client certificate as a [`Principal`], among the
/// extensions of the request; and hyper's `OnUpgrade`, for an answer with status 101.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    most: usize,
    patience: Patience,
}

/// Time for the body of a request.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// For all of it.
    Whole(Duration),
    /// For each part of it, after the one before.
    Part(Duration),
}

impl HttpServer {
    /// Listens on this address; port 0 is any free one.
    ///
    /// # Errors
    /// The error of the system.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls: None, most: usize::MAX, patience: Patience::Whole(BODY_WITHIN) })
    }

    /// TLS alone: a request in plaintext is answered with 400, and words that say so.
    #[must_use]
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// At most so many connections at a time, and in any case at most 65,536, and 64 fewer than the process may have files open.
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Bodies may take any time, as long as no more than `pause` passes between two parts of one: for handlers that pass them on.
    #[must_use]
    pub fn body_pause(mut self, pause: Duration) -> Self {
        self.patience = Patience::Part(pause);
        self
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves this until `stop` is done; then answers what is under way, which may take as long as its handlers take. Dropping it
    /// cuts all off.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let Self { listener, tls, most, patience, .. } = self;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = most.min(files.saturating_sub(OWN_FILES).min(MOST) as usize).max(1);
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < most => match accepted {
                    Ok((stream, address)) => {
                        let routes = (router.clone(), patience);
                        drop(connections.spawn(open(stream, address, tls.clone(), routes, stopped.clone())));
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
async fn open(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Tls>,
    routes: (Router, Patience),
    mut stopping: watch::Receiver<bool>,
) {
    // Without it answers may come later.
    let _ = stream.set_nodelay(true);
    let address = ConnectInfo(address);
    let Some(tls) = tls else { return converse(stream, (address, None), routes, stopping).await };
    let stop = async { drop(stopping.wait_for(|stopping| *stopping).await) };
    let accepted = tokio::select! {
        accepted = timeout(HEAD_WITHIN, tls.accept_or_tell(stream, Protocol::HTTP, PLAINTEXT)) => {
            accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = stop => return,
    };
    match accepted {
        Ok(stream) => {
            let principal = stream.peer().filter(|peer| !peer.identity.is_empty()).map(|peer| {
                let principal = Principal::new(peer.identity);
                match peer.ends {
                    Some(ends) => principal.expires_at(ends),
                    None => principal,
                }
            });
            converse(stream, (address, principal), routes, stopping).await;
        }
        Err(error) => debug!("a client is refused: {error}"),
    }
}

async fn converse<S>(
    stream: S,
    (address, principal): (ConnectInfo<SocketAddr>, Option<Principal>),
    (router, patience): (Router, Patience),
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut request, left) = Left::of(request, patience);
        request.extensions_mut().insert(address);
        if let Some(principal) = &principal {
            request.extensions_mut().insert(principal.clone());
        }
        let answer = router.call(request);
        async {
            let answer = answer.await;
            left.read().await;
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // An error: nobody is left to say so.
    let stop = async { drop(stopping.wait_for(|stopping| *stopping).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection ended: {error}");
    }
}

/// A body that must be there in time.
struct Timed {
    body: Incoming,
    late: Pin<Box<Sleep>>,
    patience: Patience,
    /// The body is on its way; else the client waits to be told that a handler reads it.
    sent: bool,
}

impl Timed {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.sent = true;
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if let Patience::Part(pause) = self.patience {
                self.late.as_mut().reset(Instant::now() + pause);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.late.as_mut().poll(context).map(|()| Some(Err("it came too slowly".into())))
    }
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body, lent to its handler.
struct Lent(Arc<Mutex<Timed>>);

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Timed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.lock().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

/// Rest of a body that a handler did not read.
struct Left(Option<Arc<Mutex<Timed>>>);

impl Left {
    fn of(request: Request<Incoming>, patience: Patience) -> (Request<Body>, Self) {
        // Most have none.
        if request.body().is_end_stream() {
            return (request.map(|_| Body::empty()), Self(None));
        }
        let sent = !request.headers().contains_key(EXPECT);
        let (head, body) = request.into_parts();
        let (Patience::Whole(within) | Patience::Part(within)) = patience;
        let timed = Arc::new(Mutex::new(Timed { body, late: Box::pin(sleep(within)), patience, sent }));
        (Request::from_parts(head, Body::new(Lent(timed.clone()))), Self(Some(timed)))
    }

    /// Nothing, if somebody still reads it.
    async fn read(self) {
        let Some(timed) = self.0.and_then(Arc::into_inner) else { return };
        let mut timed = timed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut length = 0;
        while timed.sent
            && length < MOST_LEFT
            && let Some(Ok(frame)) = poll_fn(|context| timed.poll_frame(context)).await
        {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
    }
}
