//! Shared by the requests under `/v1`: parameters, JSON bodies, answers, failures.

use std::convert::Infallible;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{MessageId, MqError, QueueName};

/// Failed request: a status, its name, and the reason. The reason of a refusal by the engine is the engine's.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    name: &'static str,
    reason: String,
}

/// The answer of a request, or its failure.
pub(super) type Answer = Result<Response, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, name: &'static str, reason: String) -> Self {
        Self { status, name, reason }
    }

    pub(super) fn invalid(reason: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", reason.to_string())
    }

    /// The same failure with what it is about in front.
    pub(super) fn about(self, what: &str) -> Self {
        Self { reason: format!("{what}: {}", self.reason), ..self }
    }

    pub(super) fn body(self) -> Value {
        json!({ "error": self.reason, "code": self.name })
    }
}

impl From<MqError> for Failure {
    fn from(error: MqError) -> Self {
        let (status, name) = match &error {
            MqError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            MqError::NoTopic(_) => (StatusCode::NOT_FOUND, "no_topic"),
            MqError::NoQueue(_) => (StatusCode::NOT_FOUND, "no_queue"),
            MqError::NoMessage(_) => (StatusCode::NOT_FOUND, "no_message"),
            MqError::QueueExists(_) => (StatusCode::CONFLICT, "queue_exists"),
            MqError::NotLeased(_) => (StatusCode::CONFLICT, "not_leased"),
            MqError::OtherNode { .. } => (StatusCode::CONFLICT, "other_node"),
            MqError::NoBackup(_) => (StatusCode::CONFLICT, "no_backup"),
            MqError::Full { .. } => (StatusCode::TOO_MANY_REQUESTS, "full"),
            MqError::NodeFull(_) => (StatusCode::TOO_MANY_REQUESTS, "node_full"),
            MqError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            MqError::DiskFailed(_) => (StatusCode::SERVICE_UNAVAILABLE, "disk_failed"),
            MqError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
            MqError::Denied(_) => (StatusCode::FORBIDDEN, "denied"),
        };
        Self::new(status, name, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

/// The answer of a change: how many messages were changed.
pub(super) fn changed(count: u64) -> Answer {
    Ok(Json(json!({ "changed": count })).into_response())
}

pub(super) fn shown(value: impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

/// Names in a path.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Names {
    #[serde(default)]
    pub(super) topic: String,
    #[serde(default)]
    queue: String,
    #[serde(default)]
    id: String,
    /// Name of a backup.
    #[serde(default)]
    pub(super) name: String,
}

impl Names {
    pub(super) fn queue(&self) -> QueueName {
        QueueName::new(self.topic.as_str(), self.queue.as_str())
    }

    pub(super) fn id(&self) -> Result<MessageId, Failure> {
        id(&self.id)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(names) =
            Path::from_request_parts(parts, state).await.map_err(|error| Failure::invalid(error.body_text()))?;
        Ok(names)
    }
}

/// Ids are text: JavaScript has no numbers of 64 bits.
pub(super) fn id(text: &str) -> Result<MessageId, Failure> {
    text.parse().map_err(|_| Failure::invalid(format!("{text:?} is no id of a message")))
}

/// Parameters behind the `?`. The access token may be among them.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Refuses parameters other than these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.0.iter().find(|(key, _)| key != "token" && !known.contains(&key.as_str())) {
            Some((key, _)) => {
                Err(Failure::invalid(format!("the parameter {key:?} is unknown here: {known:?} are known")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Failure> {
        let wrong =
            |text: &str| Failure::invalid(format!("the parameter {key}: {text:?} is no such value, or out of range"));
        self.text(key).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }

    /// At most so many, 1 to 1,000.
    pub(super) fn limit(&self, default: u32) -> Result<u32, Failure> {
        let limit = self.parsed("limit")?.unwrap_or(default);
        if (1..=1000).contains(&limit) { Ok(limit) } else { Err(Failure::invalid("limit: 1 to 1000")) }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// Body of a request.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// True if the request says that it is JSON.
    pub(super) is_json: bool,
}

impl Body {
    /// The body as JSON; nothing is an empty object. A body of another type is refused: so a web page cannot send one unasked.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if self.bytes.is_empty() {
            return parse(b"{}");
        }
        if !self.is_json {
            let text = "the body must be JSON, under Content-Type: application/json".to_owned();
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no_json", text));
        }
        parse(&self.bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    object(serde_json::from_slice(bytes).map_err(|error| Failure::invalid(format!("the body: {error}")))?)
}

/// Reads an object. A list is refused, which would otherwise be taken for the values of its fields.
pub(super) fn object<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    if !value.is_object() {
        return Err(Failure::invalid("the body: an object is wanted"));
    }
    serde_json::from_value(value).map_err(|error| Failure::invalid(format!("the body: {error}")))
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let is_json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let text = format!("the body cannot be read: {}", rejection.body_text());
            match rejection {
                BytesRejection::FailedToBufferBody(_) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
                }
                _ => Failure::invalid(text),
            }
        })?;
        Ok(Self { bytes, is_json })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
