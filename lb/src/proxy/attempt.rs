//! Tries of one request: at most three, each at another instance.

use std::{pin::pin, time::Instant as Clock};

use axum::{
    body::Body,
    http::{
        Method, Request, Response, StatusCode, Uri, Version,
        uri::{Authority, PathAndQuery, Scheme},
    },
};
use hyper::body::Incoming;
use ms_rpc::Outcome;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{Inner, Outgoing, answer, answer::refusal, body::Lent, tunnel};
use crate::routes::{Chosen, Route};

/// Tries of one request.
const TRIES: usize = 3;

/// End of a try without an answer.
enum Failed {
    /// No connection came about: nothing was sent.
    Unconnected(String),
    /// The connection ended before the answer began.
    Broken(String),
    /// The client's own body broke off.
    Client,
    /// Nothing came in time.
    Late,
}

pub(super) async fn answer(proxy: &Inner, route: &Route, mut outgoing: Outgoing) -> Response<Body> {
    let deadline = Instant::now() + proxy.config.silence;
    let mut tried: Vec<String> = Vec::new();
    let mut last: Option<Failed> = None;
    while tried.len() < TRIES {
        let chosen = {
            let avoid: Vec<_> = tried.iter().map(String::as_str).collect();
            route.choose(outgoing.key.as_deref(), &avoid).await
        };
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(reason) if last.is_none() => return refusal(StatusCode::SERVICE_UNAVAILABLE, &reason),
            Err(_) => break,
        };
        let is_again = tried.iter().any(|id| id == chosen.instance().id());
        // There is no other, and this one was not to be reached a moment ago.
        if is_again && matches!(last, Some(Failed::Unconnected(_))) {
            break;
        }
        if !tried.is_empty() {
            route.meter().retried();
        }
        tried.push(chosen.instance().id().to_owned());
        let request = match request(route, &chosen, &outgoing) {
            Ok(request) => request,
            Err(reason) => return refusal(StatusCode::BAD_GATEWAY, &reason),
        };
        let began = Clock::now();
        let failed = match send(proxy, request, deadline, &outgoing).await {
            Ok(response) => return deliver(proxy, (response, chosen, began), &mut outgoing),
            Err(failed) => failed,
        };
        match &failed {
            Failed::Client => return refusal(StatusCode::BAD_REQUEST, "the body of the request broke off"),
            Failed::Unconnected(reason) => {
                debug!("`{}` {} cannot be reached: {reason}", route.service(), chosen.instance().id());
                chosen.finish(Outcome::NotSent, began.elapsed());
            }
            Failed::Broken(_) | Failed::Late => chosen.finish(Outcome::Unknown, began.elapsed()),
        }
        let is_safe = matches!(outgoing.parts.method, Method::GET | Method::HEAD);
        let may_repeat = match failed {
            Failed::Unconnected(_) => outgoing.body.is_whole(),
            Failed::Broken(_) => is_safe && outgoing.body.is_whole(),
            Failed::Client | Failed::Late => false,
        };
        last = Some(failed);
        if !may_repeat {
            break;
        }
    }
    let service = route.service();
    match last {
        Some(Failed::Late) => {
            let text = format!("`{service}` says nothing for {:?}", proxy.config.silence);
            refusal(StatusCode::GATEWAY_TIMEOUT, &text)
        }
        Some(Failed::Unconnected(reason)) => {
            refusal(StatusCode::BAD_GATEWAY, &format!("`{service}` cannot be reached: {reason}"))
        }
        Some(Failed::Broken(reason)) => {
            refusal(StatusCode::BAD_GATEWAY, &format!("`{service}` broke the connection: {reason}"))
        }
        Some(Failed::Client) | None => refusal(StatusCode::BAD_GATEWAY, &format!("`{service}` does not answer")),
    }
}

async fn send(
    proxy: &Inner,
    request: Request<Lent>,
    deadline: Instant,
    outgoing: &Outgoing,
) -> Result<Response<Incoming>, Failed> {
    let mut answered = pin!(proxy.client.request(request));
    let mut deadline = deadline;
    let ended = loop {
        match timeout_at(deadline, answered.as_mut()).await {
            Ok(ended) => break Ok(ended),
            // A long body is on its way.
            Err(_) => match outgoing.body.due(proxy.config.silence).filter(|due| *due > deadline) {
                Some(due) => deadline = due,
                None => break Err(()),
            },
        }
    };
    match ended {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) if outgoing.body.is_broken() => Err(Failed::Client),
        Ok(Err(error)) if error.is_connect() => Err(Failed::Unconnected(reason(&error))),
        Ok(Err(error)) => Err(Failed::Broken(reason(&error))),
        Err(()) => Err(Failed::Late),
    }
}

/// The innermost reason: the outer ones say no more than that there is one.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn request(route: &Route, chosen: &Chosen, outgoing: &Outgoing) -> Result<Request<Lent>, String> {
    let address = route.address(chosen.instance())?;
    let authority = Authority::try_from(address.as_ref())
        .map_err(|_| format!("`{}` lists {address:?}, which is no address", route.service()))?;
    let Outgoing { parts, body, .. } = outgoing;
    let mut target = axum::http::uri::Parts::default();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(authority);
    target.path_and_query = Some(parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    let uri = Uri::from_parts(target).map_err(|error| error.to_string())?;
    let mut request = Request::new(body.lend());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = parts.headers.clone();
    Ok(request)
}

/// The answer for the client: with a tunnel behind it, if both sides agreed on one.
fn deliver(
    proxy: &Inner,
    (response, chosen, began): (Response<Incoming>, Chosen, Clock),
    outgoing: &mut Outgoing,
) -> Response<Body> {
    let took = began.elapsed();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer::passed(response, chosen, took, proxy.config.silence);
    }
    let Some(client) = outgoing.upgrade.take() else {
        chosen.finish(Outcome::Answered, took);
        return refusal(StatusCode::BAD_GATEWAY, "the back end changes the protocol unasked");
    };
    let Ok(permit) = proxy.tunnels.clone().try_acquire_owned() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "there are too many upgraded connections");
    };
    tunnel::open(response, client, (chosen, took, permit), proxy.config.tunnel)
}
