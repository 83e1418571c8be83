//! The API of gregister of old. Always 200, with `{"code","data","msg"}` where code 1 is an error; other paths are 404.

use std::{collections::HashMap, convert::Infallible};

use axum::{
    Json, Router,
    extract::{FromRequestParts, State},
    handler::Handler,
    http::{StatusCode, header::ALLOW, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, get, on},
};
use serde::Serialize;

use crate::{
    Networks, Node, clock,
    node::Undone,
    nodes::{self, Shown},
    probe,
    record::Joined,
    state::Request,
};

#[derive(Clone)]
struct Served {
    node: Node,
    networks: Networks,
}

pub(crate) fn routes(node: Node, networks: Networks) -> Router {
    Router::new()
        .route("/getNodes", get(list).post(list))
        .route("/register", change(register))
        .route("/unregister", change(unregister))
        .route("/editWeight", change(edit_weight))
        .with_state(Served { node, networks })
}

/// GET, as the old clients have it, and POST. Other methods, HEAD among them, change nothing: 405.
fn change<H: Handler<T, Served>, T: 'static>(handler: H) -> MethodRouter<Served> {
    on(MethodFilter::GET, handler.clone()).post(handler).head(async || {
        let allow = [(ALLOW, "GET,POST")];
        (StatusCode::METHOD_NOT_ALLOWED, allow)
    })
}

pub(crate) async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "not found")
}

/// Form of every answer.
#[derive(Serialize)]
pub(crate) struct Answer {
    code: u8,
    data: Option<Nodes>,
    msg: String,
}

#[derive(Serialize)]
struct Nodes {
    nodes: Vec<Shown>,
}

impl Answer {
    pub(crate) fn nodes(nodes: Vec<Shown>) -> Self {
        Self { code: 0, data: Some(Nodes { nodes }), msg: "success".to_owned() }
    }

    fn success() -> Self {
        Self { code: 0, data: None, msg: "success".to_owned() }
    }

    pub(crate) fn failure(msg: impl Into<String>) -> Self {
        Self { code: 1, data: None, msg: msg.into() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

impl From<Result<bool, Undone>> for Answer {
    fn from(done: Result<bool, Undone>) -> Self {
        done.map_or_else(|undone| Self::failure(undone.to_string()), |_| Self::success())
    }
}

/// Parameters behind the `?`. Anything can be read as parameters; of a repeated key the first value counts.
struct Parameters(HashMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let mut all = HashMap::new();
        for (key, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            all.entry(key.into_owned()).or_insert_with(|| value.into_owned());
        }
        Ok(Self(all))
    }
}

impl Parameters {
    fn text(&self, key: &str) -> String {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// The address of this key, in the one spelling that is kept.
    fn address(&self, key: &str) -> String {
        nodes::normal(&self.text(key))
    }

    /// The number of this key; 0 for anything else, which is refused wherever it matters.
    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> T {
        self.0.get(key).and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

async fn list(State(Served { node, .. }): State<Served>) -> Answer {
    Answer::nodes(node.view().shown())
}

async fn register(State(Served { node, networks }): State<Served>, parameters: Parameters) -> Answer {
    let joined = Joined {
        id: parameters.number("node_id"),
        http_addr: parameters.address("http_addr"),
        tcp_addr: parameters.address("tcp_addr"),
        since: clock::now(),
        weight: parameters.number("weight"),
    };
    // A node that is refused in any case is not dialled.
    if let Err(refusal) = node.view().check_join(&joined) {
        return Answer::failure(refusal.to_string());
    }
    if let Err(error) = probe::dial_all(&joined, &networks).await {
        let addresses = [joined.tcp_addr.as_str(), &joined.http_addr].join(" ");
        return Answer::failure(format!("node {} can't be dialled: {error}", addresses.trim_end()));
    }
    node.ask(Request::Join(joined)).await.into()
}

async fn unregister(State(Served { node, .. }): State<Served>, parameters: Parameters) -> Answer {
    node.ask(Request::Leave { tcp_addr: parameters.address("tcp_addr") }).await.into()
}

async fn edit_weight(State(Served { node, .. }): State<Served>, parameters: Parameters) -> Answer {
    let (tcp_addr, weight) = (parameters.address("tcp_addr"), parameters.number("weight"));
    node.ask(Request::Reweigh { tcp_addr, weight }).await.into()
}
