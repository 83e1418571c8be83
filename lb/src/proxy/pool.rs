//! Connections to back ends, used one request after the other.
//!
//! In place of hyper-util's client, which serves HTTP/2 too, and spawns a task for each request: by `bench lb` a seventh of the requests a
//! second.

use std::{
    collections::HashMap,
    error::Error,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{Request, Response, Uri};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;
use tracing::debug;

use super::body::Lent;

/// Connections to one back end that are kept while nothing is under way.
const IDLE_CONNECTIONS: usize = 256;
/// Time for which they are kept. Servers close idle connections, often after a minute or less; Node.js after 5 s.
const IDLE: Duration = Duration::from_secs(4);

/// End of a request without an answer.
pub(super) enum Unanswered {
    /// No connection came about: nothing was sent.
    Unconnected(Box<dyn Error + Send + Sync>),
    /// The connection ended before the answer began.
    Broken(hyper::Error),
}

#[derive(Debug)]
pub(super) struct Pool {
    connector: HttpConnector,
    idle: Mutex<Idle>,
}

#[derive(Debug)]
struct Idle {
    /// By address, the one that was used last at the end.
    connections: HashMap<Box<str>, Vec<(SendRequest<Lent>, Instant)>>,
    /// Time of the last look for connections that are too old, of all addresses.
    swept: Instant,
}

/// A connection in use: other requests may use it when it is [given back](Self::give_back); dropped, it ends.
pub(super) struct InUse {
    pool: Arc<Pool>,
    address: Box<str>,
    sender: SendRequest<Lent>,
}

impl Pool {
    /// Connects within this time.
    pub(super) fn new(within: Duration) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(within));
        connector.set_nodelay(true);
        let idle = Idle { connections: HashMap::new(), swept: Instant::now() };
        Arc::new(Self { connector, idle: Mutex::new(idle) })
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, in origin form (RFC 9112, section 3.2.1), to the back end at `http://address`.
    pub(super) async fn send(
        self: &Arc<Self>,
        back_end: &Uri,
        mut request: Request<Lent>,
    ) -> Result<(Response<Incoming>, InUse), Unanswered> {
        let address = back_end.authority().map_or("", |authority| authority.as_str());
        loop {
            let (mut sender, is_new) = match self.take(address) {
                Some(sender) => (sender, false),
                None => (self.connect(back_end).await?, true),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, InUse { pool: self.clone(), address: address.into(), sender })),
                // The back end had closed it, and nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(Unanswered::Broken(error.into_error())),
                },
            }
        }
    }

    /// A connection that is open and idle. One on which the last request is still being sent, after its answer, is not: it is dropped.
    fn take(&self, address: &str) -> Option<SendRequest<Lent>> {
        let mut idle = self.lock();
        let connections = idle.connections.get_mut(address)?;
        while let Some((sender, since)) = connections.pop() {
            if since.elapsed() >= IDLE {
                // So are those before it.
                connections.clear();
            } else if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self, back_end: &Uri) -> Result<SendRequest<Lent>, Unanswered> {
        let mut connector = self.connector.clone();
        let connected = async {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(back_end.clone()).await
        };
        let stream = connected.await.map_err(|error| Unanswered::Unconnected(error.into()))?;
        let (sender, connection) = handshake(stream).await.map_err(Unanswered::Broken)?;
        tokio::spawn(async move {
            // A request under way has the error too.
            if let Err(error) = connection.with_upgrades().await {
                debug!("a connection to a back end ended: {error}");
            }
        });
        Ok(sender)
    }
}

impl InUse {
    /// Lets other requests use it: the answer has been read to its end.
    pub(super) fn give_back(self) {
        let Self { pool, address, sender } = self;
        let (now, mut idle) = (Instant::now(), pool.lock());
        if now - idle.swept >= IDLE {
            idle.swept = now;
            idle.connections.retain(|_, connections| {
                connections.retain(|(_, since)| now - *since < IDLE);
                !connections.is_empty()
            });
        }
        let connections = idle.connections.entry(address).or_default();
        if connections.len() < IDLE_CONNECTIONS {
            connections.push((sender, now));
        }
    }
}
