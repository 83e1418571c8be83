//! The API under `/v1`: what its requests share, and those for services.

mod asked;
mod elections;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use ms_register::Instance;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Node, clock,
    node::{Failed, Undone},
    record::Record,
    state::{Refusal, Request, View},
};
use asked::{Asked, Options};

/// Bytes of an instance as it is written.
const LARGEST_BODY: usize = 64 << 10;
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(86_400);

pub(crate) fn routes(node: Node) -> Router {
    let candidate = put(elections::campaign).get(elections::turn).delete(elections::resign);
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/services/{service}", get(list))
        .route("/v1/services/{service}/{id}", put(register).delete(deregister))
        .route("/v1/services/{service}/{id}/renew", post(renew))
        .route("/v1/elections/{service}", get(elections::master))
        .route("/v1/elections/{service}/{id}", candidate)
        .route("/v1/elections/{service}/{id}/renew", post(elections::renew))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(node)
}

/// Failed request: a status and its reason.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl<E: Into<Undone>> From<E> for Failure {
    fn from(undone: E) -> Self {
        let undone = undone.into();
        let status = match &undone {
            Undone::Refused(Refusal::Gone(_)) => StatusCode::NOT_FOUND,
            Undone::Refused(Refusal::Invalid(_)) => StatusCode::BAD_REQUEST,
            Undone::Unwritten(_) | Undone::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, undone.to_string())
    }
}

fn invalid(reason: impl ToString) -> Failure {
    Failure(StatusCode::BAD_REQUEST, reason.to_string())
}

/// Body of `PUT`.
#[derive(Deserialize)]
struct Body {
    /// Id of the instance, where the path does not say it.
    #[serde(default)]
    id: String,
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

fn body(bytes: &[u8]) -> Result<Body, Failure> {
    serde_json::from_slice(bytes).map_err(|error| invalid(format!("the body: {error}")))
}

impl Body {
    fn ttl(&self) -> Result<Duration, Failure> {
        let ttl = Duration::try_from_secs_f64(self.ttl).ok();
        let valid = ttl.filter(|ttl| (SHORTEST_TTL..=LONGEST_TTL).contains(ttl));
        valid.ok_or_else(|| invalid("ttl: give 1 to 86400 seconds"))
    }

    fn record(self, id: String) -> Record {
        Record { id, host: self.host, port: self.port, weight: self.weight, metadata: self.metadata }
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    store: String,
    revision: u64,
    instances: Vec<&'a Record>,
}

/// Id of the store as text: many readers of JSON have no numbers of 64 bits.
fn store(view: &View) -> String {
    format!("{:016x}", view.store)
}

/// Answer with the state after a change.
fn done(view: &View, what: &str, truth: bool) -> Response {
    Json(json!({ "store": store(view), "revision": view.revision, what: truth })).into_response()
}

/// The state now; for a caller that knows an earlier state, the state once the asked part has changed. `None`: it did not
/// change in time.
async fn newer(node: &Node, options: &Options, modified: impl Fn(&View) -> u64) -> Result<Option<Arc<View>>, Failed> {
    let (Some(known), Some(revision)) = (&options.store, options.revision) else { return Ok(Some(node.view())) };
    // A revision that is yet to come is one of other data.
    let is_new = |view: &View| store(view) != *known || revision > view.revision || modified(view) > revision;
    let view = node.wait_for(options.wait(), is_new).await?;
    Ok(Some(view).filter(|view| is_new(view)))
}

async fn services(State(node): State<Node>) -> Response {
    let view = node.view();
    let counts: BTreeMap<_, _> =
        view.services.iter().map(|(name, service)| (name.as_str(), service.entries.len())).collect();
    Json(json!({ "store": store(&view), "revision": view.revision, "services": counts })).into_response()
}

async fn list(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let Asked { service, options, .. } = asked;
    let Some(view) = newer(&node, &options, |view| view.modified(&service)).await? else {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    };
    let instances = view.entries(&service).map(|entry| &entry.record).collect();
    Ok(Json(Listing { store: store(&view), revision: view.revision, instances }).into_response())
}

async fn register(State(node): State<Node>, asked: Asked, bytes: Bytes) -> Result<Response, Failure> {
    let Asked { service, id, .. } = asked;
    let body = body(&bytes)?;
    let (ttl, lease) = (body.ttl()?, body.lease.clone());
    if lease.len() > 128 {
        return Err(invalid("lease: give at most 128 bytes"));
    }
    let record = body.record(id);
    node.ask(Request::Put { service, record, lease, ttl, since: clock::now() }).await?;
    Ok(done(&node.view(), "held", true))
}

async fn renew(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let Asked { service, id, options } = asked;
    let lease = options.lease.clone().unwrap_or_default();
    let again = || Request::Renew { service: service.clone(), id: id.clone(), lease: lease.clone() };
    let mut held = node.ask(again()).await?;
    let wait = options.wait();
    if !wait.is_zero() {
        // Any change of the lease is told at once.
        node.wait_for(wait, |view| view.is_held(&service, &id, &lease) != Some(held)).await?;
        held = node.ask(again()).await?;
    }
    Ok(done(&node.view(), "held", held))
}

async fn deregister(State(node): State<Node>, asked: Asked) -> Result<Response, Failure> {
    let Asked { service, id, options } = asked;
    let removed = node.ask(Request::Remove { service, id, lease: options.lease }).await?;
    Ok(done(&node.view(), "removed", removed))
}
