//! The node over HTTP, for curl and for who knows gmq: a thin layer over the engine. Always 200, with `{"code","data","msg"}`
//! where code 1 is an error; other paths are 404.

use std::{collections::HashMap, convert::Infallible};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    http::request::Parts,
    response::IntoResponse,
    routing::any,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{DEFAULT_QUEUE, Delivery, MessageId, MessageInfo, Mode, MqError, Node, Pop, Push, Settings, TopicStats};

/// All paths.
pub fn router(node: Node) -> Router {
    Router::new()
        .route("/ping", any(async || "OK"))
        .route("/push", any(push))
        .route("/pop", any(pop))
        .route("/ack", any(ack))
        .route("/declareQueue", any(declare))
        .route("/config", any(config))
        .route("/dead", any(dead))
        .route("/getTopicStat", any(stat))
        .route("/getAllTopicStat", any(all_stats))
        .route("/getQueuesByTopic", any(queues))
        .route("/exitTopic", any(exit))
        .route("/setIsAutoAck", any(toggle_auto_ack))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .with_state(node)
}

/// Bytes of a form: the largest body, as JSON and encoded for a form.
const LARGEST_FORM: usize = 8 << 20;

/// What stands behind the `?`. Anything can be read as parameters, so that every answer is a JSON object.
struct Parameters(HashMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Parameters {
    /// The value of a parameter; empty if it is missing.
    fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn topic(&self) -> &str {
        self.text("topic")
    }

    fn queue(&self) -> &str {
        match self.text("bindKey") {
            "" => DEFAULT_QUEUE,
            key => key,
        }
    }

    /// A number, if it is given.
    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Failure> {
        match self.text(key) {
            "" => Ok(None),
            given => given.parse().map(Some).map_err(|_| Failure(format!("{key}:{given} is no number, or too large"))),
        }
    }
}

type Answer = Result<Success, Failure>;

/// The `data` of an answer, and its `msg`.
struct Success(Value, &'static str);
struct Failure(String);

impl From<MqError> for Failure {
    fn from(error: MqError) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Success {
    fn into_response(self) -> axum::response::Response {
        Json(json!({ "code": 0, "data": self.0, "msg": self.1 })).into_response()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        Json(json!({ "code": 1, "data": null, "msg": self.0 })).into_response()
    }
}

fn success(data: Value) -> Answer {
    Ok(Success(data, "success"))
}

fn ok() -> Answer {
    Ok(Success(Value::Null, "ok"))
}

/// What `data` holds.
#[derive(Deserialize)]
struct PushData {
    #[serde(default)]
    body: String,
    #[serde(default)]
    topic: String,
    /// In seconds.
    #[serde(default)]
    delay: u64,
    #[serde(default)]
    route_key: String,
    #[serde(default)]
    priority: u8,
}

async fn push(State(node): State<Node>, form: Result<Bytes, BytesRejection>) -> Answer {
    let form = form.map_err(|rejection| Failure(format!("the form cannot be read: {}", rejection.body_text())))?;
    let data = form_urlencoded::parse(&form).find(|(key, _)| key == "data").map(|(_, data)| data).unwrap_or_default();
    if data.is_empty() {
        return Err(Failure("data is empty".to_owned()));
    }
    let data: PushData =
        serde_json::from_str(&data).map_err(|error| Failure(format!("data is no such JSON: {error}")))?;
    let push = Push {
        route_key: (!data.route_key.is_empty()).then_some(data.route_key),
        delay_ms: data.delay.saturating_mul(1000),
        priority: data.priority,
        ..Push::new(data.topic, data.body.into_bytes())
    };
    let id = node.push(push).await?;
    success(json!({ "msgId": id.to_string() }))
}

async fn pop(State(node): State<Node>, parameters: Parameters) -> Answer {
    let wish =
        Pop { wait_ms: parameters.number("timeout")?.unwrap_or(0), ..Pop::new(parameters.topic(), parameters.queue()) };
    match node.pop(&wish).await?.pop() {
        Some(Delivery { id, body, retries, .. }) => success(message(id, Some(&body), retries)),
        None => Err(Failure("no message".to_owned())),
    }
}

/// Bodies that are no text come as base64, which `encoding` says.
fn message(id: MessageId, body: Option<&[u8]>, retries: u16) -> Value {
    let body = body.unwrap_or_default();
    let mut message = json!({ "id": id.to_string(), "retry_count": retries });
    match std::str::from_utf8(body) {
        Ok(text) => message["body"] = text.into(),
        Err(_) => {
            message["body"] = STANDARD.encode(body).into();
            message["encoding"] = "base64".into();
        }
    }
    message
}

async fn ack(State(node): State<Node>, parameters: Parameters) -> Answer {
    if parameters.topic().is_empty() {
        return Err(Failure("topic is empty".to_owned()));
    }
    let given = parameters.text("msgId");
    let id = given.parse().map_err(|_| Failure(format!("msgId:{given} is not exist.")))?;
    node.ack_by_id(parameters.topic(), parameters.queue(), id).await?;
    ok()
}

async fn declare(State(node): State<Node>, parameters: Parameters) -> Answer {
    node.declare(parameters.topic(), parameters.text("bindKey")).await?;
    ok()
}

async fn config(State(node): State<Node>, parameters: Parameters) -> Answer {
    let mode = match parameters.text("mode") {
        "" => None,
        "1" => Some(Mode::Exact),
        "2" => Some(Mode::Fuzzy),
        other => return Err(Failure(format!("mode:{other} is unknown: 1 is exact, 2 is fuzzy"))),
    };
    let auto_ack = match parameters.text("isAutoAck") {
        "" => None,
        "0" | "false" => Some(false),
        "1" | "true" => Some(true),
        other => return Err(Failure(format!("isAutoAck:{other} is unknown: use 0 or 1"))),
    };
    let ttr: Option<u64> = parameters.number("msgTTR")?;
    let settings = Settings {
        mode,
        auto_ack,
        ttr_ms: ttr.map(|seconds| seconds.saturating_mul(1000)),
        max_retries: parameters.number("msgRetry")?,
        ..Settings::default()
    };
    node.configure(parameters.topic(), &settings).await?;
    ok()
}

async fn dead(State(node): State<Node>, parameters: Parameters) -> Answer {
    match node.pop_dead(parameters.topic(), parameters.queue(), 1).await?.pop() {
        Some(MessageInfo { id, body, retries, reason, .. }) => {
            let mut message = message(id, body.as_deref(), retries);
            message["reason"] = reason.into();
            success(message)
        }
        None => Err(Failure("no message".to_owned())),
    }
}

async fn stat(State(node): State<Node>, parameters: Parameters) -> Answer {
    success(topic_stat(&node.stats(parameters.topic())?))
}

async fn all_stats(State(node): State<Node>) -> Answer {
    success(node.all_stats().iter().map(topic_stat).collect())
}

fn topic_stat(stats: &TopicStats) -> Value {
    let sum = |of: fn(&crate::QueueStats) -> u64| stats.queues.iter().map(of).sum::<u64>();
    json!({
        "name": stats.topic,
        "pop_num": sum(|queue| queue.popped),
        "push_num": sum(|queue| queue.pushed),
        "dead_num": sum(|queue| queue.dead),
        "queue_msg_num": sum(|queue| queue.ready),
        "queue_num": stats.queues.len(),
        "delay_num": sum(|queue| queue.delayed),
        "wait_ack_num": sum(|queue| queue.leased),
        "start_time": stats.created_ms / 1000,
        "is_auto_ack": stats.auto_ack,
    })
}

async fn queues(State(node): State<Node>, parameters: Parameters) -> Answer {
    let stats = node.stats(parameters.topic())?;
    let named =
        stats.queues.iter().map(|queue| (queue.queue.clone(), format!("{}_{}", stats.topic, queue.queue).into()));
    success(Value::Object(named.collect()))
}

async fn exit(State(node): State<Node>, parameters: Parameters) -> Answer {
    node.delete_topic(parameters.topic()).await?;
    ok()
}

async fn toggle_auto_ack(State(node): State<Node>, parameters: Parameters) -> Answer {
    let topic = parameters.topic();
    let auto_ack = !node.stats(topic)?.auto_ack;
    node.configure(topic, &Settings { auto_ack: Some(auto_ack), ..Settings::default() }).await?;
    ok()
}
