//! Answers to clients: those of back ends, and the proxy's own.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE},
};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use ms_rpc::Outcome;
use tokio::time::{Instant, Sleep, sleep};

use super::headers;
use crate::routes::Chosen;

/// The proxy's own answer.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    let text = serde_json::json!({ "error": reason }).to_string();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A back end's answer, whose body follows as it comes.
pub(super) fn passed(
    response: Response<Incoming>,
    chosen: Chosen,
    took: Duration,
    silence: Duration,
) -> Response<Body> {
    // A back end that answers so did not execute the request: see `Pick::finish`.
    let outcome = match response.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused,
        _ => Outcome::Answered,
    };
    let (mut parts, body) = response.into_parts();
    headers::strip(&mut parts.headers);
    if body.is_end_stream() {
        chosen.finish(outcome, took);
        return Response::from_parts(parts, nothing());
    }
    let end = End { chosen: Some(chosen), outcome, took };
    Response::from_parts(parts, Body::new(Passing { body, end, silence, late: None, is_waiting: false }))
}

/// Body of an answer that has none. Its length is not said to be 0, as with `Body::empty`: an answer to HEAD tells the length of what GET would bring, and
/// those with 101, 204 and 304 tell none.
pub(super) fn nothing() -> Body {
    Body::new(Nothing)
}

struct Nothing;

impl hyper::body::Body for Nothing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// Reports the end of a request once; what is dropped before, because the client has left, counts as answered.
struct End {
    chosen: Option<Chosen>,
    outcome: Outcome,
    took: Duration,
}

impl End {
    fn report(&mut self, outcome: Outcome) {
        if let Some(chosen) = self.chosen.take() {
            chosen.finish(outcome, self.took);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.report(self.outcome);
    }
}

/// Body on its way from a back end: its instance is busy until the end.
struct Passing {
    body: Incoming,
    end: End,
    silence: Duration,
    /// Made at the first pause: most bodies have none.
    late: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl hyper::body::Body for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Err(error))) => {
                this.end.report(Outcome::Unknown);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(frame) => {
                this.is_waiting = false;
                if frame.is_none() || this.body.is_end_stream() {
                    let outcome = this.end.outcome;
                    this.end.report(outcome);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let late = this.late.get_or_insert_with(|| Box::pin(sleep(this.silence)));
                if !this.is_waiting {
                    late.as_mut().reset(Instant::now() + this.silence);
                    this.is_waiting = true;
                }
                late.as_mut().poll(context).map(|()| {
                    this.end.report(Outcome::Unknown);
                    Some(Err("the back end has fallen silent".into()))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
