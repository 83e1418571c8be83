//! The order-center: a web application that calls the goods service from its handlers.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::get,
};
use goods_api::GoodsClient;
use ms_register::MsRegister;
use ms_rpc::{CallError, CallOptions, ClientProxy, Code, ServiceError, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::args::OrderArgs;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
struct App {
    goods: GoodsClient,
    proxy: ClientProxy,
}

/// Serves HTTP on `listener` until `stop`.
pub(crate) async fn serve(
    args: &OrderArgs,
    registry: Arc<dyn MsRegister>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let proxy = ClientProxy::builder(registry)
        .codec(args.codec)
        .compression(args.compression)
        .balancer(args.balancer.clone())
        .connections_per_instance(args.connections)
        .deadline(Duration::from_millis(args.deadline_ms))
        .name("order-center")
        .build();
    let app = App { goods: GoodsClient::new(&proxy), proxy: proxy.with(CallOptions::new().idempotent()) };
    let routes = Router::new().route("/find", get(find)).route("/find-dynamic", get(find_dynamic)).with_state(app);
    axum::serve(listener, routes).with_graceful_shutdown(stop).await
}

#[derive(Deserialize)]
struct Find {
    id: i64,
}

/// The typed call.
async fn find(State(app): State<App>, query: Result<Query<Find>, QueryRejection>) -> Response {
    let Query(Find { id }) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    match app.goods.find(id).await {
        Ok(item) => success(item),
        Err(CallError::Service(error)) => failure(error.code(), &error.to_string(), None),
        Err(CallError::Status(status)) => failed(&status),
    }
}

/// The same by names: this program could do without the goods service's types.
async fn find_dynamic(State(app): State<App>, query: Result<Query<Find>, QueryRejection>) -> Response {
    let Query(Find { id }) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    match app.proxy.call("goods", "find", &json!([id])).await {
        Ok(item) => success(item),
        Err(status) => failed(&status),
    }
}

/// What every answer looks like.
#[derive(Serialize)]
struct Body<'a, T> {
    code: u16,
    msg: &'a str,
    data: T,
}

fn success(data: impl Serialize) -> Response {
    Json(Body { code: 200, msg: "success", data }).into_response()
}

fn bad_query(rejection: &QueryRejection) -> Response {
    failure(Code::InvalidArgument, &rejection.body_text(), None)
}

fn failed(status: &Status) -> Response {
    failure(status.code(), status.message(), status.retry_after())
}

fn failure(code: Code, message: &str, retry_after: Option<Duration>) -> Response {
    let http = match code {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::FailedPrecondition => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = Body { code: http.as_u16(), msg: message, data: () };
    let mut response = (http, Json(body)).into_response();
    if let Some(after) = retry_after {
        // Whole seconds, rounded up (RFC 9110, section 10.2.3).
        let seconds = after.as_millis().div_ceil(1000) as u64;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
