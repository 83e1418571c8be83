//! Answers to clients: those of back ends, and the proxy's own.

use std::{io, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderValue, Response, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Incoming};
use ms_rpc::Outcome;
use tokio::time::timeout;

use super::{headers, pool::InUse};
use crate::routes::Chosen;

/// The proxy's own answer.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    let text = serde_json::json!({ "error": reason }).to_string();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A back end's answer, whose body follows as it comes, with pauses of at most `silence`.
///
/// The length of the body is what the headers say. Were it the body's to say, an answer to HEAD without a length would get one: 0.
pub(super) fn passed(
    response: Response<Incoming>,
    connection: InUse,
    (chosen, took): (Chosen, Duration),
    silence: Duration,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::strip(&mut parts.headers);
    let outcome = match parts.status {
        // A back end that answers so did not execute the request: see `Pick::finish`.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused,
        _ => Outcome::Answered,
    };
    if parts.status == StatusCode::NO_CONTENT {
        // Some servers send 0, which is not allowed (RFC 9110, section 8.6).
        parts.headers.remove(CONTENT_LENGTH);
    }
    let report = Report { connection: Some(connection), chosen: Some(chosen), outcome, took };
    let frames = stream::unfold((body, report), move |(mut body, mut report)| async move {
        let frame = match timeout(silence, body.frame()).await {
            Ok(frame) => frame.map(|frame| frame.map_err(io::Error::other)),
            Err(_) => Some(Err(io::Error::other("the back end has fallen silent"))),
        };
        match &frame {
            Some(Err(_)) => report.outcome = Outcome::Unknown,
            // Where the length is known, nobody asks for what comes after the last frame.
            _ if frame.is_none() || body.is_end_stream() => report.give_back(),
            _ => {}
        }
        Some((frame?, (body, report)))
    });
    Response::from_parts(parts, Body::new(StreamBody::new(frames)))
}

/// Reports how a request ended when it is dropped, which is when its instance is busy no longer: at the end of the answer's body, or
/// when the client has left.
struct Report {
    connection: Option<InUse>,
    chosen: Option<Chosen>,
    outcome: Outcome,
    took: Duration,
}

impl Report {
    /// The answer has been read to its end.
    fn give_back(&mut self) {
        self.connection.take().into_iter().for_each(InUse::give_back);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(chosen) = self.chosen.take() {
            chosen.finish(self.outcome, self.took);
        }
    }
}
