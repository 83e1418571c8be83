//! `ms gmq-web`: the routes of gmq-web, over the nodes that a register lists.

use std::{collections::HashMap, io::Write, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ms_http::{Access, HttpServer};
use serde_json::{Value, json};

use super::{
    Words,
    flags::{self, Known},
    http::{form, send},
    register::{Listed, nodes},
};
use crate::{exit::Failure, signals};

const OPTIONS: &[Known] = &[
    ("http_addr", "where the routes are served, an address of loopback (127.0.0.1:8585)"),
    ("register_addr", "register whose nodes are shown (http://127.0.0.1:9595)"),
];

/// Bytes of a form: the largest body, encoded.
const LARGEST_FORM: usize = 8 << 20;

/// Parameters of a request; an empty one is none.
type Parameters = HashMap<String, String>;

type Register = State<Arc<str>>;

pub(crate) async fn run(words: Words) -> Result<(), Failure> {
    if words.help(OPTIONS) {
        return Ok(());
    }
    let options = flags::parse(&words.words, OPTIONS, &[]).map_err(Failure::Usage)?;
    let option = |name: &str, default: &str| {
        options.get(name).filter(|value| !value.is_empty()).cloned().unwrap_or_else(|| default.to_owned())
    };
    let address = option("http_addr", "127.0.0.1:8585");
    let address: SocketAddr = address
        .parse()
        .map_err(|_| Failure::Usage(format!("http_addr: {address:?} is no address such as 127.0.0.1:8585")))?;
    if !address.ip().is_loopback() {
        let text = format!(
            "http_addr: {address} can be reached by others, and whoever reaches it changes queues: serve it on loopback"
        );
        return Err(Failure::Usage(text));
    }
    let register = option("register_addr", "http://127.0.0.1:9595");
    let server =
        HttpServer::bind(address).await.map_err(|error| Failure::Other(format!("http_addr: {address}: {error}")))?;
    let address = server.address();
    // Listened for before the line that says ready: its reader may send one.
    let signal = signals::end();
    // The reader may be gone.
    let _ = writeln!(std::io::stdout(), "gmq-web is ready: HTTP on {address}");
    server.serve(Access::open().guard(routes(&register)), async { drop(signal.await) }).await;
    Ok(())
}

fn routes(register: &str) -> Router {
    Router::new()
        .route("/getNodes", get(get_nodes))
        .route("/unRegisterNode", get(unregister))
        .route("/registerNode", post(join))
        .route("/editNodeWeight", post(edit_weight))
        .route("/getTopics", get(|register, parameters| by_node(register, parameters, &[], "getAllTopicStat")))
        .route("/removeTopic", get(|register, parameters| by_node(register, parameters, TOPIC, "exitTopic")))
        .route("/setIsAutoAck", get(|register, parameters| by_node(register, parameters, TOPIC, "setIsAutoAck")))
        .route("/declare", get(|register, parameters| by_node(register, parameters, QUEUE, "declareQueue")))
        .route("/pop", get(|register, parameters| by_node(register, parameters, TOPIC, "pop")))
        .route("/ack", get(|register, parameters| by_node(register, parameters, MESSAGE, "ack")))
        .route("/push", post(push))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .with_state(register.trim_end_matches('/').into())
}

/// Parameters that a route needs, and the errors without them.
const TOPIC: &[(&str, &str)] = &[("topic", "topic is empty.")];
const QUEUE: &[(&str, &str)] = &[("topic", "topic is empty."), ("bindKey", "bindKey is empty.")];
const MESSAGE: &[(&str, &str)] = &[("msgId", "msgId is empty"), ("topic", "topic is empty")];

/// A request that is refused, or that a register or node did not answer.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, text) = self;
        (status, Json(json!({ "code": 1, "data": null, "msg": text }))).into_response()
    }
}

fn wrong(text: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, text.into())
}

fn unanswered(error: impl ToString) -> Refused {
    Refused(StatusCode::BAD_GATEWAY, error.to_string())
}

type Answer = Result<Json<Value>, Refused>;

/// A parameter that must be given.
fn needed<'a>(parameters: &'a Parameters, name: &str, error: &str) -> Result<&'a str, Refused> {
    parameters.get(name).map(String::as_str).filter(|value| !value.is_empty()).ok_or_else(|| wrong(error))
}

fn read_form(body: &Bytes) -> Parameters {
    form_urlencoded::parse(body).into_owned().collect()
}

/// The answer of a register or node, as it is.
async fn relay(url: String, form: Option<String>) -> Answer {
    match send(&url, form).await.map_err(unanswered)? {
        (StatusCode::OK, body) => serde_json::from_slice(&body).map(Json).map_err(unanswered),
        (status, _) => Err(Refused(status, "request failed.".to_owned())),
    }
}

/// Checks that the register lists a node; it alone says what may be asked.
async fn listed(register: &str, address: &str, of: fn(&Listed) -> &String) -> Result<(), Refused> {
    let nodes = nodes(register).await.map_err(unanswered)?;
    match nodes.iter().any(|node| of(node) == address) {
        true => Ok(()),
        false => Err(wrong(format!("no node of this address is registered: {address}"))),
    }
}

async fn get_nodes(State(register): Register) -> Answer {
    relay(format!("{register}/getNodes"), None).await
}

async fn unregister(State(register): Register, Query(parameters): Query<Parameters>) -> Answer {
    let address = needed(&parameters, "addr", "addr is empty")?;
    listed(&register, address, |node| &node.tcp_addr).await?;
    relay(format!("{register}/unregister?{}", form(&[("tcp_addr", address)])), None).await
}

async fn join(State(register): Register, body: Bytes) -> Answer {
    let parameters = read_form(&body);
    let tcp = needed(&parameters, "tcp_addr", "tcp_add is empty")?;
    let http = needed(&parameters, "http_addr", "http_add is empty")?;
    let weight = needed(&parameters, "weight", "weight must be greater than 0.")?;
    let id = parameters.get("node_id").map(String::as_str).unwrap_or_default();
    if !id.parse().is_ok_and(|id: u16| (1..=1024).contains(&id)) {
        return Err(wrong("node_id must be between 1 and 1024."));
    }
    let joins = form(&[("node_id", id), ("tcp_addr", tcp), ("http_addr", http), ("weight", weight)]);
    relay(format!("{register}/register?{joins}"), None).await
}

async fn edit_weight(State(register): Register, body: Bytes) -> Answer {
    let parameters = read_form(&body);
    let address = needed(&parameters, "addr", "tcp_add is empty")?;
    let weight = needed(&parameters, "weight", "weight must be greater than 0.")?;
    listed(&register, address, |node| &node.tcp_addr).await?;
    let edits = form(&[("tcp_addr", address), ("weight", weight)]);
    relay(format!("{register}/editWeight?{edits}"), None).await
}

/// Asks a node, by its HTTP address, with the parameters that were given.
async fn by_node(
    State(register): Register,
    Query(parameters): Query<Parameters>,
    wanted: &[(&str, &str)],
    path: &str,
) -> Answer {
    let address = needed(&parameters, "addr", "please select a node.")?;
    for (name, error) in wanted {
        needed(&parameters, name, error)?;
    }
    listed(&register, address, |node| &node.http_addr).await?;
    let pairs: Vec<_> =
        parameters.iter().filter(|(name, _)| *name != "addr").map(|(name, value)| (&**name, &**value)).collect();
    relay(format!("http://{address}/{path}?{}", form(&pairs)), None).await
}

async fn push(State(register): Register, body: Bytes) -> Answer {
    let parameters = read_form(&body);
    let address = needed(&parameters, "addr", "please select a node.")?;
    let topic = needed(&parameters, "topic", "topic is empty")?;
    let content = needed(&parameters, "content", "content is empty")?;
    let delay = match parameters.get("delay").map(String::as_str).unwrap_or_default() {
        "" => 0,
        delay => delay.parse::<u64>().map_err(|_| wrong(format!("delay:{delay} is no number from 0 up")))?,
    };
    listed(&register, address, |node| &node.http_addr).await?;
    let route_key = parameters.get("routeKey").map(String::as_str).unwrap_or_default();
    let data = json!({ "topic": topic, "body": content, "delay": delay, "route_key": route_key }).to_string();
    relay(format!("http://{address}/push"), Some(form(&[("data", &data)]))).await
}
