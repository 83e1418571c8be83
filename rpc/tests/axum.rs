//! An axum application over a real socket: what HTTP callers see of calls, deadlines and health.
// Helpers of tests are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod shop;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use ms_register::Memory;
use ms_rpc::{
    CallError, CallOptions, Client, ClientProxy, Code, Local, RateLimit, RunningServer, ServiceError, Status,
    axum::{RequestDeadline, healthz},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use shop::{Item, ShopClient, ShopError, ShopServer, TestShop, registered, server, server_with};
use tokio::net::TcpListener;

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

/// Serves `app` until the test ends.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn ask(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let http: Http<HttpConnector, Empty<bytes::Bytes>> = Http::builder(TokioExecutor::new()).build_http();
    let mut request = http::Request::get(format!("http://{address}{path}"));
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let response = http.request(request.body(Empty::new()).unwrap()).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, body: serde_json::from_slice(&body).unwrap() }
}

async fn find(
    RequestDeadline(options): RequestDeadline<5_000>,
    State(shop): State<ShopClient>,
    Path(id): Path<i64>,
) -> Result<Json<Item>, CallError<ShopError>> {
    Ok(Json(shop.with(options).find(id).await?))
}

async fn wait(
    RequestDeadline(options): RequestDeadline<5_000>,
    State(shop): State<ShopClient>,
) -> Result<Json<u32>, Status> {
    Ok(Json(shop.with(options).wait().await?))
}

async fn remaining(
    RequestDeadline(options): RequestDeadline<5_000>,
    State(shop): State<ShopClient>,
) -> Result<Json<u64>, Status> {
    Ok(Json(shop.with(options).remaining_ms().await?))
}

async fn by_names(State(client): State<Client>) -> Result<Json<Value>, Status> {
    Ok(Json(client.call("shop", "find", &json!([1001])).await?))
}

async fn in_bincode(State(client): State<Client>) -> Result<Json<Item>, Status> {
    Ok(Json(client.call_as("shop", "find", &(1001_i64,)).await?))
}

fn app(shop: ShopClient) -> Router {
    let routes = Router::new().route("/find/{id}", get(find)).route("/wait", get(wait));
    routes.route("/remaining", get(remaining)).with_state(shop)
}

#[tokio::test]
async fn a_failed_call_becomes_a_response() {
    let registry = Arc::new(Memory::new());
    let (running, _) =
        server_with(&registry, "a", |server| server.limit_method("shop", "find", RateLimit::per_second(1).burst(2)))
            .await;
    let address = serve(app(ShopClient::new(ClientProxy::new(registry)))).await;

    let found = ask(address, "/find/5", &[]).await;
    assert_eq!((found.status, &found.body["name"]), (200, &json!("item 5")));

    let missing = ask(address, "/find/1001", &[]).await;
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.body,
        json!({"code": "not_found", "message": "no item 1001", "executed": "yes", "error": {"Missing": 1001}})
    );
    assert_eq!(missing.headers["content-type"], "application/json");

    let limited = loop {
        let answer = ask(address, "/find/5", &[]).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((limited.status, &limited.body["code"]), (429, &json!("resource_exhausted")));
    let ms = limited.body["retry_after_ms"].as_u64().unwrap();
    assert!((1..=1000).contains(&ms), "{ms}");
    assert_eq!((&limited.body["executed"], &limited.headers["retry-after"]), (&json!("no"), &"1".parse().unwrap()));

    let late = ask(address, "/wait", &[("Connect-Timeout-Ms", "30")]).await;
    assert_eq!((late.status, &late.body["executed"]), (504, &json!("unknown")));
    assert!(late.body["message"].as_str().unwrap().contains("within 30ms"), "{}", late.body);
    assert!(!late.headers.contains_key("retry-after") && late.body.get("error").is_none());

    running.shutdown().await;
    let away = ask(address, "/find/5", &[]).await;
    assert_eq!((away.status, &away.body["code"], &away.body["executed"]), (503, &json!("unavailable"), &json!("no")));
}

#[tokio::test]
async fn a_call_by_names_brings_the_services_error_where_the_codec_can_tell_it() {
    let running = server(TestShop::default()).await;
    let routes = Router::new().route("/json", get(by_names)).route("/bincode", get(in_bincode));
    let address = serve(routes.with_state(shop::client(&running).await)).await;
    let mut body =
        json!({"code": "not_found", "message": "no item 1001", "executed": "yes", "error": {"Missing": 1001}});
    let answer = ask(address, "/json", &[]).await;
    assert_eq!((answer.status, &answer.body), (404, &body));
    body.as_object_mut().unwrap().remove("error");
    assert_eq!(ask(address, "/bincode", &[]).await.body, body);
}

#[tokio::test]
async fn a_header_sets_the_deadline_up_to_the_maximum() {
    let running = server(TestShop::default()).await;
    let shop = ShopClient::new(shop::client(&running).await);
    let address = serve(app(shop)).await;
    for (header, range) in
        [("400", 1..=400), ("4000", 1_001..=4_000), ("5001", 4_001..=5_000), ("9999999999", 4_001..=5_000)]
    {
        let answer = ask(address, "/remaining", &[("connect-timeout-ms", header)]).await;
        assert!(answer.status == 200 && range.contains(&answer.body.as_u64().unwrap()), "{header}: {}", answer.body);
    }
    let without = ask(address, "/remaining", &[]).await.body.as_u64().unwrap();
    assert!((1..=1000).contains(&without), "the client's default: {without}");

    for bad in ["", "0", "-1", "+1", "1.5", "1s", "ten", "12345678901", "00000000000"] {
        let answer = ask(address, "/remaining", &[("connect-timeout-ms", bad)]).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("invalid_argument")), "{bad:?}");
        assert!(answer.body["message"].as_str().unwrap().contains("Connect-Timeout-Ms"), "{}", answer.body);
    }
    let twice = ask(address, "/remaining", &[("connect-timeout-ms", "100"), ("connect-timeout-ms", "200")]).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn health_follows_the_server_from_start_to_end() {
    let registry = Arc::new(Memory::new());
    let (running, probe) = registered(&registry, "a").await;
    assert_eq!(running.health(), ms_rpc::HealthState::Serving);
    let address = serve(Router::new().route("/healthz", get(healthz(&running)))).await;
    let serving = ask(address, "/healthz", &[]).await;
    assert_eq!((serving.status, serving.body), (200, json!({"state": "Serving"})));
    assert_eq!(serving.headers["cache-control"], "no-store");

    // A call in flight holds the shutdown up.
    let options = CallOptions::new().deadline(Duration::from_secs(20));
    let shop = ShopClient::new(shop::client(&running).await).with(options);
    let call = tokio::spawn(async move { shop.wait().await });
    probe.until(|probe| probe.started.load(Ordering::SeqCst) == 1).await;
    let shutdown = tokio::spawn(RunningServer::shutdown(running));
    let draining = loop {
        let answer = ask(address, "/healthz", &[]).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((draining.status, draining.body), (503, json!({"state": "Draining"})));
    probe.go.notify_waiters();
    assert_eq!(call.await.unwrap().unwrap(), 7);
    shutdown.await.unwrap();
    assert_eq!(ask(address, "/healthz", &[]).await.status, 503);

    let dropped = server(TestShop::default()).await;
    let address = serve(Router::new().route("/healthz", get(healthz(&dropped)))).await;
    assert_eq!(ask(address, "/healthz", &[]).await.status, 200);
    drop(dropped);
    assert_eq!(ask(address, "/healthz", &[]).await.status, 503);
}

/// An error with everything that can go wrong with one.
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("odd")]
struct Odd;

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it does not serialize"))
    }
}

impl ServiceError for Odd {
    fn code(&self) -> Code {
        Code::Ok
    }
}

#[tokio::test]
async fn an_error_never_becomes_a_success() {
    let app = Router::new()
        .route("/odd", get(|| async { Err::<(), _>(CallError::Service(Odd)) }))
        .route("/ok", get(|| async { Err::<(), _>(Status::new(Code::Ok, "no error")) }));
    let address = serve(app).await;
    let odd = ask(address, "/odd", &[]).await;
    assert_eq!((odd.status, odd.body), (500, json!({"code": "unknown", "message": "odd", "executed": "yes"})));
    assert_eq!(ask(address, "/ok", &[]).await.status, 500);
}

#[tokio::test]
async fn a_handler_runs_without_a_network() {
    let shop = ShopClient::new(Local::new(ShopServer::new(TestShop::default())));
    let found = find(RequestDeadline(CallOptions::new()), State(shop), Path(5)).await.unwrap();
    assert_eq!(found.0, Item::of(5));
}
