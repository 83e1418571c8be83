//! `/v1`: an engine as JSON, with real status codes. `openapi.json`, beside this module's files, describes it, and is served too.

mod answer;
mod deliver;
mod json;
mod operate;
mod push;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::{MethodRouter, get, post, put},
};

use super::Door;
use crate::Engine;
use answer::Failure;

/// Bytes of a request's body.
const LARGEST: usize = 8 << 20;

/// Description of these paths.
const OPEN_API: &str = include_str!("v1/openapi.json");

pub(super) fn router<E: Engine>() -> Router<Door<E>> {
    let queue = put(operate::declare::<E>).delete(operate::delete_queue::<E>);
    let message = get(operate::get::<E>).patch(operate::edit::<E>).delete(operate::cancel::<E>);
    let topic = get(operate::topic::<E>).patch(operate::configure::<E>).delete(operate::delete_topic::<E>);
    let routes = [
        ("/v1/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], OPEN_API))),
        ("/v1/topics", get(operate::topics::<E>)),
        ("/v1/topics/{topic}", topic),
        ("/v1/topics/{topic}/messages", post(push::push::<E>)),
        ("/v1/topics/{topic}/queues/{queue}", queue),
        ("/v1/topics/{topic}/queues/{queue}/pop", post(deliver::pop::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/peek", get(operate::peek::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/messages", get(operate::list::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/messages/{id}", message),
        ("/v1/topics/{topic}/queues/{queue}/pause", post(operate::pause::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/resume", post(operate::resume::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/purge", post(operate::purge::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/move", post(operate::move_messages::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/copy", post(operate::copy_messages::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/dead/pop", post(deliver::pop_dead::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/dead/redrive", post(operate::redrive::<E>)),
        ("/v1/topics/{topic}/queues/{queue}/dead/purge", post(operate::purge_dead::<E>)),
        ("/v1/ack", post(deliver::ack::<E>)),
        ("/v1/nack", post(deliver::nack::<E>)),
        ("/v1/bury", post(deliver::bury::<E>)),
        ("/v1/touch", post(deliver::touch::<E>)),
        ("/v1/return", post(deliver::give_back::<E>)),
        ("/v1/backups/{name}", put(operate::back_up::<E>)),
    ];
    let with = |router: Router<Door<E>>, (path, methods): (&str, MethodRouter<Door<E>>)| {
        router.route(path, methods.fallback(method_not_allowed))
    };
    let router = routes.into_iter().fold(Router::new(), with);
    router.route("/v1/{*path}", axum::routing::any(not_found)).layer(DefaultBodyLimit::max(LARGEST))
}

async fn method_not_allowed() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has not this method".to_owned())
}

async fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path: see /v1/openapi.json".to_owned())
}
