//! Requests to registers and nodes over HTTP.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{Request, StatusCode, Uri, header::CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

/// Time for a whole request.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const LARGEST: usize = 16 << 20;

/// Answer in the form of gmq.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) code: i64,
    #[serde(default)]
    pub(super) data: Value,
    #[serde(default)]
    pub(super) msg: String,
}

/// Sends a GET, or with a form a POST; returns the status and the body.
///
/// # Errors
/// No answer within 10 s, or one of more than 16 MiB; the text says which.
pub(super) async fn send(url: &str, form: Option<String>) -> Result<(StatusCode, Bytes), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url}: only http:// is spoken to registers and nodes of gmq"));
    }
    let request = match form {
        None => Request::get(uri).body(Full::default()),
        Some(form) => {
            let kind = "application/x-www-form-urlencoded";
            Request::post(uri).header(CONTENT_TYPE, kind).body(Full::new(Bytes::from(form)))
        }
    };
    let request = request.map_err(|error| format!("{url}: {error}"))?;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let ask = async {
        let answer = client.request(request).await.map_err(|error| in_full(&error))?;
        let (status, body) = (answer.status(), Limited::new(answer.into_body(), LARGEST));
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    };
    let answered = timeout(WITHIN, ask).await.unwrap_or_else(|_| Err(format!("no answer within {WITHIN:?}")));
    answered.map_err(|error: String| format!("{}: {error}", url.split('?').next().unwrap_or(url)))
}

/// The same for an answer in the form of gmq.
pub(super) async fn ask(url: &str) -> Result<Answer, String> {
    let (status, body) = send(url, None).await?;
    serde_json::from_slice(&body).map_err(|error| format!("{url}: {status}, and no such JSON: {error}"))
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// A parameter as it stands in a URL or form.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
