//! For axum applications: errors as responses, a request's deadline as options, a server's health as a handler. Needs the
//! cargo feature `axum`; written for axum 0.8.
//!
//! [`Status`] and [`CallError`] are `IntoResponse`, so a handler may return the result of a call with `?`. The HTTP status
//! is [`Code::http_status`]; the body says what a caller needs to decide on another try:
//!
//! ```json
//! {"code":"resource_exhausted","message":"..","executed":"no","retry_after_ms":250}
//! {"code":"not_found","message":"no goods with id 7","executed":"yes","error":{"NotFound":7}}
//! ```
//!
//! - `code`: the canonical name of the [`Code`];
//! - `executed`: `no`, `yes` or `unknown`: the [`Outcome`] of the call;
//! - `retry_after_ms`: when the server takes the call again, if it said so; 429 and 503 also have the header `Retry-After`;
//! - `error`: the method's own error, as it serializes.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use axum_core::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    request::Parts,
};
use serde::Serialize;

use crate::{CallError, CallOptions, Code, HealthState, Outcome, RunningServer, ServiceError, Status};

const TIMEOUT: &str = "connect-timeout-ms";

/// Options with the deadline that the request's header `Connect-Timeout-Ms` asks for, at most `MAX_MS` milliseconds.
///
/// The header is a decimal number of milliseconds from 1, of at most 10 digits, as in the Connect protocol; a higher one
/// than `MAX_MS` (default 60,000) counts as that. Without the header the options are empty: the client's default deadline
/// holds.
///
/// ```
/// # use ms_rpc::CallOptions;
/// # #[ms_rpc::service(name = "goods")]
/// # trait Goods { async fn count(&self) -> u64; }
/// use axum::{Json, extract::State};
/// use ms_rpc::{Status, axum::RequestDeadline};
///
/// async fn count(
///     RequestDeadline(options): RequestDeadline<5_000>,
///     State(goods): State<GoodsClient>,
/// ) -> Result<Json<u64>, Status> {
///     Ok(Json(goods.with(options).count().await?))
/// }
/// ```
///
/// # Errors
/// 400, `invalid_argument`: the header is malformed, zero, or there twice.
#[derive(Clone, Debug)]
pub struct RequestDeadline<const MAX_MS: u32 = 60_000>(pub CallOptions);

impl<S: Sync, const MAX_MS: u32> FromRequestParts<S> for RequestDeadline<MAX_MS> {
    type Rejection = Status;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Self, Status>> + Send {
        ready(timeout(&parts.headers).map(|timeout| {
            let options = CallOptions::new();
            Self(match timeout {
                Some(ms) => options.deadline(Duration::from_millis(ms.min(MAX_MS.into()))),
                None => options,
            })
        }))
    }
}

fn timeout(headers: &HeaderMap) -> Result<Option<u64>, Status> {
    let mut values = headers.get_all(TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let digits = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(ms) if digits && ms > 0 && values.next().is_none() => Ok(Some(ms)),
        _ => {
            let message = "the header Connect-Timeout-Ms must be there once, with a number of milliseconds from 1, of at \
                           most 10 digits";
            Err(Status::invalid(message).with_outcome(Outcome::NotSent))
        }
    }
}

/// A handler that answers how a server does: 200 and `{"state":"Serving"}` while it takes calls, 503 and the name of its
/// state before and after. It goes on answering when the server has ended.
///
/// ```
/// # async fn example(running: ms_rpc::RunningServer) {
/// use axum::{Router, routing::get};
/// let app: Router = Router::new().route("/healthz", get(ms_rpc::axum::healthz(&running)));
/// # }
/// ```
pub fn healthz(server: &RunningServer) -> impl Fn() -> Ready<Response> + Clone + Send + Sync + 'static + use<> {
    let life = server.life();
    move || {
        let state = life.get();
        let http = if state == HealthState::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = json(http, format!("{{\"state\":\"{state:?}\"}}").into_bytes());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        ready(response)
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        // Known after a call by names in a codec that describes itself, such as JSON.
        let error = self.service_error::<serde_json::Value>().and_then(Result::ok);
        failure(&self, error.as_ref())
    }
}

impl<E: ServiceError> IntoResponse for CallError<E> {
    fn into_response(self) -> Response {
        match self {
            Self::Service(error) => failure(&Status::new(error.code(), error.to_string()), Some(&error)),
            Self::Status(status) => status.into_response(),
        }
    }
}

/// Body of every response for a failed call.
#[derive(Serialize)]
struct Failure<'a, E> {
    code: &'static str,
    message: &'a str,
    executed: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a E>,
}

fn failure<E: Serialize>(status: &Status, error: Option<&E>) -> Response {
    let executed = match status.outcome() {
        Outcome::NotSent | Outcome::Refused => "no",
        Outcome::Unknown => "unknown",
        Outcome::Answered => "yes",
    };
    // Rounded up: a caller that comes back at that time is not early.
    let wait = status.retry_after().map(|after| after.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX));
    // An error with the code of a success has no code of its own.
    let code = if status.code() == Code::Ok { Code::Unknown } else { status.code() };
    let body = |error| Failure { code: code.name(), message: status.message(), executed, retry_after_ms: wait, error };
    let http = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // An error that does not serialize to JSON is left out.
    let body = serde_json::to_vec(&body(error)).or_else(|_| serde_json::to_vec(&body(None)));
    let mut response = json(http, body.unwrap_or_default());
    if let (Some(ms), Code::ResourceExhausted | Code::Unavailable) = (wait, code) {
        // Whole seconds, rounded up (RFC 9110, section 10.2.3).
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    }
    response
}

fn json(http: StatusCode, body: Vec<u8>) -> Response {
    (http, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
