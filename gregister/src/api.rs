//! The API for services, under `/v1`.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use ms_register::{Instance, ServiceName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Node, clock,
    node::{Failed, Undone},
    record::Record,
    state::{Refusal, Request, View},
};

/// Bytes of an instance as it is written.
const LARGEST_BODY: usize = 64 << 10;
/// The longest that an answer is held back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(86_400);

pub(crate) fn routes(node: Node) -> Router {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/services/{service}", get(list))
        .route("/v1/services/{service}/{id}", put(register).delete(deregister))
        .route("/v1/services/{service}/{id}/renew", post(renew))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(node)
}

/// What went wrong: a status and its reason.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<Undone> for Failure {
    fn from(undone: Undone) -> Self {
        let status = match &undone {
            Undone::Refused(Refusal::Gone) => StatusCode::NOT_FOUND,
            Undone::Refused(Refusal::Invalid(_)) => StatusCode::BAD_REQUEST,
            Undone::Unwritten(_) | Undone::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, undone.to_string())
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Undone::from(failed).into()
    }
}

fn invalid(reason: impl ToString) -> Failure {
    Failure(StatusCode::BAD_REQUEST, reason.to_string())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    store: Option<String>,
    revision: Option<u64>,
    lease: Option<String>,
    /// Seconds.
    wait: f64,
}

impl Options {
    fn wait(&self) -> Duration {
        Duration::try_from_secs_f64(self.wait).unwrap_or_default().min(LONGEST_WAIT)
    }
}

type Given = Result<Query<Options>, QueryRejection>;

/// What `PUT` holds.
#[derive(Deserialize)]
struct Body {
    host: String,
    port: u16,
    #[serde(default = "default_weight")]
    weight: f64,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Seconds.
    #[serde(default = "default_ttl")]
    ttl: f64,
    #[serde(default)]
    lease: String,
}

fn default_weight() -> f64 {
    Instance::DEFAULT_WEIGHT
}

fn default_ttl() -> f64 {
    10.0
}

#[derive(Serialize)]
struct Listing<'a> {
    store: String,
    revision: u64,
    instances: Vec<&'a Record>,
}

/// Numbers of 64 bits are no numbers to many who read JSON.
fn store(view: &View) -> String {
    format!("{:016x}", view.store)
}

/// The state after what was done.
fn done(view: &View, what: &str, truth: bool) -> Response {
    Json(json!({ "store": store(view), "revision": view.revision, what: truth })).into_response()
}

async fn services(State(node): State<Node>) -> Response {
    let view = node.view();
    let counts: BTreeMap<_, _> =
        view.services.iter().map(|(name, service)| (name.as_str(), service.entries.len())).collect();
    Json(json!({ "store": store(&view), "revision": view.revision, "services": counts })).into_response()
}

async fn list(State(node): State<Node>, Path(service): Path<String>, given: Given) -> Result<Response, Failure> {
    let service = ServiceName::new(service).map_err(invalid)?;
    let Query(options) = given.map_err(invalid)?;
    let mut view = node.view();
    if let (Some(known), Some(revision)) = (&options.store, options.revision) {
        // A revision that is yet to come is one of other data.
        let is_new =
            |view: &View| store(view) != *known || revision > view.revision || view.modified(&service) > revision;
        view = node.wait_for(options.wait(), is_new).await?;
        if !is_new(&view) {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
    }
    let instances = view.entries(&service).map(|entry| &entry.record).collect();
    Ok(Json(Listing { store: store(&view), revision: view.revision, instances }).into_response())
}

async fn register(
    State(node): State<Node>,
    Path((service, id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Failure> {
    let service = ServiceName::new(service).map_err(invalid)?;
    let body: Body = serde_json::from_slice(&body).map_err(|error| invalid(format!("the body: {error}")))?;
    let ttl = Duration::try_from_secs_f64(body.ttl).unwrap_or_default();
    if !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
        return Err(invalid("ttl: give 1 to 86400 seconds"));
    }
    if body.lease.len() > 128 {
        return Err(invalid("lease: give at most 128 bytes"));
    }
    let record = Record { id, host: body.host, port: body.port, weight: body.weight, metadata: body.metadata };
    node.ask(Request::Put { service, record, lease: body.lease, ttl, since: clock::now() }).await?;
    Ok(done(&node.view(), "held", true))
}

async fn renew(
    State(node): State<Node>,
    Path((service, id)): Path<(String, String)>,
    given: Given,
) -> Result<Response, Failure> {
    let service = ServiceName::new(service).map_err(invalid)?;
    let Query(options) = given.map_err(invalid)?;
    let lease = options.lease.clone().unwrap_or_default();
    let again = || Request::Renew { service: service.clone(), id: id.clone(), lease: lease.clone() };
    let mut held = node.ask(again()).await?;
    let wait = options.wait();
    if !wait.is_zero() {
        // Whatever happens to it is told at once.
        node.wait_for(wait, |view| view.is_held(&service, &id, &lease) != Some(held)).await?;
        held = node.ask(again()).await?;
    }
    Ok(done(&node.view(), "held", held))
}

async fn deregister(
    State(node): State<Node>,
    Path((service, id)): Path<(String, String)>,
    given: Given,
) -> Result<Response, Failure> {
    let service = ServiceName::new(service).map_err(invalid)?;
    let Query(options) = given.map_err(invalid)?;
    let removed = node.ask(Request::Remove { service, id, lease: options.lease }).await?;
    Ok(done(&node.view(), "removed", removed))
}
