//! An engine over HTTP: `/v1`, and the paths of gmq. Answers of the latter are 200 with `{"code","data","msg"}`, where code 1 is an error; other
//! paths are 404, and other methods than a path's own are 405 and change nothing.

mod v1;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Multipart, Request},
    handler::Handler,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE},
        request::Parts,
    },
    response::IntoResponse,
    routing::{MethodFilter, MethodRouter, get, on},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ms_security::Principal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    Change, DEFAULT_QUEUE, Delivery, Engine, Look, MessageId, Mode, MqError, Pop, Push, QueueName, Settings, TopicStats,
};

/// `/v1`, as its `/v1/openapi.json` says, and the paths of gmq: all of these by GET, as gmq has it, or POST. HEAD is answered where nothing is changed, and is 405 elsewhere. `/dead` shows a
/// dead letter by GET, and leases it by POST.
///
/// At most 128 pops wait at a time: those beyond are answered at once, so that waiting takes no more connections than that.
pub fn router<E: Engine>(engine: E) -> Router {
    let door = Door { engine, waiters: Arc::new(Semaphore::new(WAITERS)) };
    Router::new()
        .route("/ping", get(async || "OK"))
        .route("/push", both(push::<E>))
        .route("/pop", both(pop::<E>))
        .route("/ack", both(ack::<E>))
        .route("/declareQueue", both(declare::<E>))
        .route("/config", both(config::<E>))
        .route("/dead", get(dead::<E>).post(pop_dead::<E>))
        .route("/getTopicStat", get(stat::<E>).post(stat::<E>))
        .route("/getAllTopicStat", get(all_stats::<E>).post(all_stats::<E>))
        .route("/getQueuesByTopic", get(queues::<E>).post(queues::<E>))
        .route("/exitTopic", both(exit::<E>))
        .route("/setIsAutoAck", both(toggle_auto_ack::<E>))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .merge(v1::router())
        .with_state(door)
}

/// GET and POST, and no HEAD, which `get` alone would answer by the same handler.
fn both<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(handler: H) -> MethodRouter<S> {
    on(MethodFilter::GET, handler.clone()).post(handler).head(async || {
        let allow = [(ALLOW, "GET,POST")];
        (StatusCode::METHOD_NOT_ALLOWED, allow)
    })
}

/// Pops that wait at a time.
const WAITERS: usize = 128;

/// State of the handlers.
#[derive(Clone)]
struct Door<E> {
    engine: E,
    waiters: Arc<Semaphore>,
}

/// With the engine as it serves the caller of the request.
impl<E: Engine> FromRequestParts<Self> for Door<E> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, door: &Self) -> Result<Self, Infallible> {
        let name = || parts.extensions.get::<Principal>().map(|caller| caller.name().to_owned()).unwrap_or_default();
        Ok(Self { engine: door.engine.for_caller(name).into_owned(), waiters: door.waiters.clone() })
    }
}

/// Bytes of a form: the largest body, as JSON and encoded for a form.
const LARGEST_FORM: usize = 8 << 20;

/// Parameters behind the `?`. Anything can be read as parameters, so that every answer is a JSON object.
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

    fn name(&self) -> QueueName {
        QueueName::new(self.topic(), self.queue())
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

/// JSON in the form field `data`.
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

/// The field `data` of a request: from its form, in either encoding, or else from behind the `?`.
async fn data(parameters: &Parameters, request: Request) -> Result<String, Failure> {
    let failure = |text: String| Failure(format!("the form cannot be read: {text}"));
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut data = String::new();
    if kind.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|rejection| failure(rejection.body_text()))?;
        while let Some(field) = form.next_field().await.map_err(|error| failure(error.body_text()))? {
            if field.name() == Some("data") {
                data = field.text().await.map_err(|error| failure(error.body_text()))?;
                break;
            }
        }
    } else {
        let form = Bytes::from_request(request, &()).await;
        let form = form.map_err(|rejection| failure(rejection.body_text()))?;
        let found = form_urlencoded::parse(&form).find(|(key, _)| key == "data");
        data = found.map(|(_, data)| data.into_owned()).unwrap_or_default();
    }
    Ok(if data.is_empty() { parameters.text("data").to_owned() } else { data })
}

async fn push<E: Engine>(door: Door<E>, parameters: Parameters, request: Request) -> Answer {
    let data = data(&parameters, request).await?;
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
    let id = door.engine.push(push).await?;
    success(json!({ "msgId": id.to_string() }))
}

async fn pop<E: Engine>(door: Door<E>, parameters: Parameters) -> Answer {
    let wait_ms = parameters.number("timeout")?.unwrap_or(0);
    let pop = Pop::new(parameters.topic(), parameters.queue());
    // A pop that need not wait takes no place.
    let mut found = door.engine.pop(&pop).await?;
    if found.is_empty() && wait_ms > 0 {
        let Ok(_place) = door.waiters.try_acquire() else {
            let text = format!("no message; this pop did not wait, because {WAITERS} others do: try again later");
            return Err(Failure(text));
        };
        found = door.engine.pop(&Pop { wait_ms, ..pop }).await?;
    }
    delivered(found)
}

/// Leases the oldest dead letter: `/ack` ends it, and without that it is there again after the message's TTR.
async fn pop_dead<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    let found = engine.pop_dead(&Pop::new(parameters.topic(), parameters.queue())).await?;
    delivered(found)
}

fn delivered(mut found: Vec<Delivery>) -> Answer {
    let delivery = found.pop().ok_or_else(|| Failure("no message".to_owned()))?;
    let mut message = message(delivery.id, Some(&delivery.body), delivery.retries);
    if let Some(reason) = delivery.reason() {
        message["reason"] = reason.into();
    }
    success(message)
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

async fn ack<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    if parameters.topic().is_empty() {
        return Err(Failure("topic is empty".to_owned()));
    }
    let given = parameters.text("msgId");
    let id = given.parse().map_err(|_| Failure(format!("msgId:{given} is not exist.")))?;
    engine.change(Change::AckById(parameters.name(), id)).await?;
    ok()
}

async fn declare<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    engine.change(Change::Declare(QueueName::new(parameters.topic(), parameters.text("bindKey")))).await?;
    ok()
}

async fn config<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
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
    engine.change(Change::Configure(parameters.topic().to_owned(), settings)).await?;
    ok()
}

/// Shows the oldest dead letter above the id `after`, and leaves it where it is.
async fn dead<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    let queue = parameters.name();
    let after = MessageId(parameters.number("after")?.unwrap_or(0));
    let list = Look::List { queue: queue.clone(), after, most: 1, dead: true };
    let Some(letter) = engine.look(list).await?.messages().pop() else { return Err(Failure("no message".to_owned())) };
    let found = engine.look(Look::Get(queue, letter.id)).await?.messages();
    let body = found.first().and_then(|found| found.body.as_deref());
    let mut message = message(letter.id, body, letter.retries);
    message["reason"] = letter.reason.into();
    success(message)
}

async fn stat<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    success(topic_stat(&topic(&engine, parameters.topic()).await?))
}

async fn topic<E: Engine>(engine: &E, name: &str) -> Result<TopicStats, Failure> {
    Ok(topics(engine, Some(name)).await?.pop().unwrap_or_default())
}

/// One topic, or all, with all their queues: page by page.
async fn topics<E: Engine>(engine: &E, topic: Option<&str>) -> Result<Vec<TopicStats>, Failure> {
    let (mut all, mut after) = (Vec::<TopicStats>::new(), None);
    loop {
        let look = Look::Stats { topic: topic.map(str::to_owned), after };
        let (topics, next) = engine.look(look).await?.topics();
        for topic in topics {
            match all.last_mut() {
                Some(last) if last.topic == topic.topic => last.queues.extend(topic.queues),
                _ => all.push(topic),
            }
        }
        if next.is_none() {
            return Ok(all);
        }
        after = next;
    }
}

/// All topics.
async fn all_stats<E: Engine>(Door { engine, .. }: Door<E>) -> Answer {
    success(topics(&engine, None).await?.iter().map(topic_stat).collect())
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
        "start_time": date(stats.created_ms),
        "is_auto_ack": stats.auto_ack,
    })
}

/// `2006-01-02 15:04:05`, in UTC.
fn date(milliseconds: u64) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(milliseconds)).to_string();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

async fn queues<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    // gmq makes a topic that is asked for, so an unknown one has no queues.
    let stats = match engine.look(Look::Stats { topic: Some(parameters.topic().to_owned()), after: None }).await {
        Err(MqError::NoTopic(_)) => TopicStats::default(),
        _ => topic(&engine, parameters.topic()).await?,
    };
    let named =
        stats.queues.iter().map(|queue| (queue.queue.clone(), format!("{}_{}", stats.topic, queue.queue).into()));
    success(Value::Object(named.collect()))
}

async fn exit<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    engine.change(Change::DeleteTopic(parameters.topic().to_owned())).await?;
    ok()
}

async fn toggle_auto_ack<E: Engine>(Door { engine, .. }: Door<E>, parameters: Parameters) -> Answer {
    let auto_ack = !topic(&engine, parameters.topic()).await?.auto_ack;
    let settings = Settings { auto_ack: Some(auto_ack), ..Settings::default() };
    engine.change(Change::Configure(parameters.topic().to_owned(), settings)).await?;
    ok()
}
