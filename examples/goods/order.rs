//! The order-center: an axum application whose handlers call the goods service.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use goods_api::{GoodsClient, GoodsError, Item};
use ms_register::MsRegister;
use ms_rpc::{CallError, CallOptions, ClientProxy, ConfigError, Status, axum::RequestDeadline, tls::Tls};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::OrderArgs;

/// State of the application. Cheap to clone.
#[derive(Clone)]
struct App {
    goods: GoodsClient,
    proxy: ClientProxy,
}

/// The routes of the application, over a proxy that finds `goods` in `registry`.
pub(crate) fn routes(
    args: &OrderArgs,
    registry: Arc<dyn MsRegister>,
    tls: Option<&Tls>,
) -> Result<Router, ConfigError> {
    let builder = ClientProxy::builder(registry)
        .codec(args.codec.clone())
        .compression(args.compression.clone())
        .balancer(args.balancer.clone())
        .connections_per_instance(args.connections)
        .deadline(Duration::from_millis(args.deadline_ms))
        .method_defaults("goods", "find", CallOptions::new().idempotent())
        .name("order-center");
    let proxy = match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    };
    let proxy = proxy.build()?;
    let app = App { goods: GoodsClient::new(&proxy), proxy };
    Ok(Router::new().route("/find", get(find)).route("/find-dynamic", get(find_dynamic)).with_state(app))
}

#[derive(Deserialize)]
struct Find {
    id: i64,
}

/// Calls through the typed client. A failed call becomes the response: 404 with the service's own error, 429 or 503 with
/// `Retry-After`, 504 after the deadline.
async fn find(
    State(app): State<App>,
    RequestDeadline(options): RequestDeadline,
    Query(Find { id }): Query<Find>,
) -> Result<Json<Success<Item>>, CallError<GoodsError>> {
    Ok(success(app.goods.with(options).find(id).await?))
}

/// Calls by names: this program could do without the types of the goods service.
async fn find_dynamic(
    State(app): State<App>,
    RequestDeadline(options): RequestDeadline,
    Query(Find { id }): Query<Find>,
) -> Result<Json<Success<Value>>, Status> {
    Ok(success(app.proxy.with(options).call("goods", "find", &json!([id])).await?))
}

/// Body of every response that is no error.
#[derive(Serialize)]
struct Success<T> {
    code: u16,
    msg: &'static str,
    data: T,
}

fn success<T>(data: T) -> Json<Success<T>> {
    Json(Success { code: 200, msg: "success", data })
}
