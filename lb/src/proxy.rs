//! Reverse proxy: carries a request to an instance of the service that its rule names, and the answer back.

mod answer;
mod attempt;
mod body;
mod headers;
mod pool;
mod tunnel;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{
        Method, StatusCode, Uri, Version,
        header::{AUTHORIZATION, HOST},
        request::Parts,
        uri::{PathAndQuery, Scheme},
    },
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use tokio::sync::Semaphore;

use crate::{
    routes::{Route, Routes},
    rule::KeySource,
};
use answer::refusal;
use body::{Lent, Source};
use pool::Pool;

/// Settings of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// Time within which a back end is connected. Default 1 s; with more, clients wait longer for the next one.
    pub connect: Duration,
    /// Longest silence of a back end: before its answer begins, and between two parts of one. Default 60 s; with less, slow answers are cut
    /// off.
    pub silence: Duration,
    /// Longest silence of both sides of an upgraded connection. Default 10 min.
    pub tunnel: Duration,
    /// Upgraded connections at a time; more are refused with 503. Default 4,096.
    pub tunnels: usize,
    /// Scheme under which clients reach the proxy, for `X-Forwarded-Proto`. Default `http`.
    pub scheme: &'static str,
    /// The header `Authorization` is for the proxy itself, and not passed on. Default false.
    pub keeps_authorization: bool,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            silence: Duration::from_secs(60),
            tunnel: Duration::from_secs(600),
            tunnels: 4_096,
            scheme: "http",
            keeps_authorization: false,
        }
    }
}

/// HTTP load balancer before the services of some routes. Cheap to clone.
///
/// A request that cannot be answered gets JSON, `{"error":".."}`: 404 no rule matches, 502 the back end is broken or cannot be reached, 503 no instance is
/// listed, 504 it says nothing for too long; 508 the request has been here before.
///
/// It is tried elsewhere, on up to three instances, if no connection came about, or if it is GET or HEAD and the connection ended before
/// the answer began.
#[derive(Clone, Debug)]
pub struct Proxy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routes: Routes,
    pool: Arc<Pool>,
    config: ProxyConfig,
    tunnels: Arc<Semaphore>,
    /// Name of this proxy in `Via`, which no other has.
    name: String,
}

impl Proxy {
    /// A proxy before these routes.
    pub fn new(routes: Routes, config: ProxyConfig) -> Self {
        let pool = Pool::new(config.connect);
        let tunnels = Arc::new(Semaphore::new(config.tunnels));
        let name = format!("ms-lb-{}", uuid::Uuid::new_v4().simple());
        Self(Arc::new(Inner { routes, pool, config, tunnels, name }))
    }

    /// Longest pause in a client's body, for [`HttpServer::body_pause`](ms_http::HttpServer::body_pause).
    pub fn silence(&self) -> Duration {
        self.0.config.silence
    }

    /// The proxy as routes of an HTTP server, which finds the client's address as `ConnectInfo` in the extensions of a request.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }
}

async fn handle(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        crate::meter::unrouted();
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "no tunnels are made by CONNECT");
    }
    let text = parts.uri.path_and_query().map_or("", |asked| asked.as_str());
    let Some(route) = proxy.0.routes.find(text) else {
        crate::meter::unrouted();
        return refusal(StatusCode::NOT_FOUND, &format!("no rule matches {text}"));
    };
    let response = if headers::has_been_here(&parts.headers, &proxy.0.name) {
        refusal(StatusCode::LOOP_DETECTED, "a rule leads back to this load balancer")
    } else {
        let outgoing = proxy.0.outgoing(route, parts, Source::new(body));
        attempt::answer(&proxy.0, route, outgoing).await
    };
    route.meter().answered(response.status());
    response
}

impl Inner {
    /// The request without what was meant for this hop, and with what this hop knows.
    fn outgoing(&self, route: &Route, mut parts: Parts, body: Source) -> Outgoing {
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        let key = match route.key() {
            KeySource::None => None,
            KeySource::Client => client.map(|address| address.to_string().into_bytes()),
            KeySource::Url => parts.uri.path_and_query().map(|asked| asked.as_str().as_bytes().to_vec()),
            KeySource::Header(name) => parts.headers.get(name).map(|value| value.as_bytes().to_vec()),
        };
        let is_upgrade = parts.method == Method::GET
            && parts.version == Version::HTTP_11
            && headers::asks_for_websocket(&parts.headers);
        let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| is_upgrade);
        let headers = &mut parts.headers;
        // A target in absolute form names the host, whatever `Host` says (RFC 9112, section 3.2.2).
        if let Some(host) = parts.uri.authority().and_then(|authority| authority.as_str().parse().ok()) {
            headers.insert(HOST, host);
        }
        headers::strip(headers);
        if self.config.keeps_authorization {
            headers.remove(AUTHORIZATION);
        }
        headers::forwarded(headers, client, self.config.scheme);
        headers::via(headers, parts.version, &self.name);
        if upgrade.is_some() {
            headers::upgrade(headers);
        }
        parts.version = Version::HTTP_11;
        // They are about the client's connection.
        parts.extensions.clear();
        Outgoing { parts, body, key, upgrade }
    }
}

/// A request as it is sent to each of the back ends that are tried.
struct Outgoing {
    parts: Parts,
    body: Source,
    key: Option<Vec<u8>>,
    /// The client's side of an upgrade that it asks for.
    upgrade: Option<OnUpgrade>,
}

impl Outgoing {
    /// A back end at this address, and the request for it; `None` if that is no address.
    fn to(&self, address: &str) -> Option<(Uri, Request<Lent>)> {
        let back_end = Uri::builder().scheme(Scheme::HTTP).authority(address).path_and_query("/").build().ok()?;
        let mut parts = self.parts.clone();
        let target = parts.uri.path_and_query().cloned();
        parts.uri = target.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
        if !parts.headers.contains_key(HOST) {
            parts.headers.insert(HOST, address.parse().ok()?);
        }
        Some((back_end, Request::from_parts(parts, self.body.lend())))
    }
}
