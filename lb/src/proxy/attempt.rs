//! Tries of one request: at most three, each at another instance.

use std::{error::Error, time::Instant};

use axum::{
    body::Body,
    http::{Method, Response, StatusCode},
};
use hyper::body::Incoming;
use ms_rpc::Outcome;
use tracing::debug;

use super::{
    Inner, Outgoing, answer,
    answer::refusal,
    pool::{InUse, Unanswered},
    tunnel,
};
use crate::routes::{Chosen, Route};

/// Tries of one request.
const TRIES: usize = 3;

/// End of a try, or of all of them, without an answer.
enum Failed {
    /// No instance can be chosen.
    Nobody(String),
    /// The instance has no address that can be asked.
    Unaddressed(String),
    /// No connection came about: nothing was sent.
    Unconnected(String),
    /// The connection ended before the answer began.
    Broken(String),
    /// The client's own body broke off.
    Client,
    /// Nothing came in time.
    Late,
}

impl Failed {
    /// Returns true if the request can be sent to another instance.
    fn may_repeat(&self, outgoing: &Outgoing) -> bool {
        let is_harmless = match self {
            Self::Unconnected(_) => true,
            Self::Broken(_) => matches!(outgoing.parts.method, Method::GET | Method::HEAD),
            Self::Nobody(_) | Self::Unaddressed(_) | Self::Client | Self::Late => false,
        };
        is_harmless && outgoing.body.is_whole()
    }

    fn refusal(self, proxy: &Inner, service: &str) -> Response<Body> {
        let (status, text) = match self {
            Self::Nobody(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
            Self::Unaddressed(reason) => (StatusCode::BAD_GATEWAY, reason),
            Self::Unconnected(reason) => (StatusCode::BAD_GATEWAY, format!("`{service}` cannot be reached: {reason}")),
            Self::Broken(reason) => (StatusCode::BAD_GATEWAY, format!("`{service}` broke the connection: {reason}")),
            Self::Client => (StatusCode::BAD_REQUEST, "the body of the request broke off".to_owned()),
            Self::Late => {
                let text = format!("`{service}` says nothing for {:?}", proxy.config.silence);
                (StatusCode::GATEWAY_TIMEOUT, text)
            }
        };
        refusal(status, &text)
    }
}

/// The answer of the first instance that gives one, or the reason why none does.
pub(super) async fn answer(proxy: &Inner, route: &Route, mut outgoing: Outgoing) -> Response<Body> {
    let mut tried: Vec<String> = Vec::new();
    let mut last: Option<Failed> = None;
    let failed = loop {
        let chosen = match route.choose(outgoing.key.as_deref(), &tried).await {
            Ok(chosen) => chosen,
            Err(reason) => break last.unwrap_or(Failed::Nobody(reason)),
        };
        let id = chosen.instance().id();
        // There is no other, and this one could not be reached a moment ago.
        if tried.iter().any(|tried| tried == id)
            && let Some(failed @ Failed::Unconnected(_)) = last
        {
            break failed;
        }
        if !tried.is_empty() {
            route.meter().retried();
        }
        tried.push(id.to_owned());
        let failed = match ask(proxy, route, chosen, &mut outgoing).await {
            Ok(response) => return response,
            Err(failed) => failed,
        };
        if tried.len() == TRIES || !failed.may_repeat(&outgoing) {
            break failed;
        }
        last = Some(failed);
    };
    failed.refusal(proxy, route.service())
}

/// Asks an instance, and reports to its balancer how that ended.
async fn ask(proxy: &Inner, route: &Route, chosen: Chosen, outgoing: &mut Outgoing) -> Result<Response<Body>, Failed> {
    let address = route.address(chosen.instance()).map_err(Failed::Unaddressed)?;
    let (back_end, request) = outgoing
        .to(&address)
        .ok_or_else(|| Failed::Unaddressed(format!("`{}` lists {address:?}, which is no address", route.service())))?;
    let began = Instant::now();
    let ended = tokio::select! {
        biased;
        ended = proxy.pool.send(&back_end, request) => Some(ended),
        () = outgoing.body.unread_for(proxy.config.silence) => None,
    };
    let failed = match ended {
        Some(Ok(answered)) => return Ok(deliver(proxy, answered, (chosen, began), outgoing)),
        Some(Err(_)) if outgoing.body.is_broken() => return Err(Failed::Client),
        Some(Err(Unanswered::Unconnected(error))) => Failed::Unconnected(reason(&*error)),
        Some(Err(Unanswered::Broken(error))) => Failed::Broken(reason(&error)),
        None => Failed::Late,
    };
    let outcome = match &failed {
        Failed::Unconnected(reason) => {
            debug!("`{}` {} cannot be reached: {reason}", route.service(), chosen.instance().id());
            Outcome::NotSent
        }
        _ => Outcome::Unknown,
    };
    chosen.finish(outcome, began.elapsed());
    Err(failed)
}

/// The innermost reason: the outer ones say no more than that there is one.
fn reason(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The answer for the client: with a tunnel behind it, if both sides agreed on one.
fn deliver(
    proxy: &Inner,
    (response, connection): (Response<Incoming>, InUse),
    (chosen, began): (Chosen, Instant),
    outgoing: &mut Outgoing,
) -> Response<Body> {
    let took = began.elapsed();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer::passed(response, connection, (chosen, took), proxy.config.silence);
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
