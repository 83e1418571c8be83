//! Any registry, in the old form, read-only.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::any,
};
use ms_register::{MsRegister, ServiceName};
use serde_json::json;

use crate::{
    legacy::{self, Answer},
    nodes::{self, Shown},
};

#[derive(Clone)]
struct Mirrored {
    registry: Arc<dyn MsRegister>,
    service: ServiceName,
}

/// Shows the instances of one service of a registry in `/getNodes`, and refuses whatever would change them. An instance that
/// names no number of its own gets one.
pub fn mirror(registry: Arc<dyn MsRegister>, service: ServiceName) -> Router {
    let refused = || any(async |State(of): State<Mirrored>| read_only(&of));
    Router::new()
        .route("/getNodes", any(list))
        .route("/register", refused())
        .route("/unregister", refused())
        .route("/editWeight", refused())
        .route("/v1/{*path}", any(async |State(of): State<Mirrored>| no_registry(&of)))
        .fallback(legacy::not_found)
        .with_state(Mirrored { registry, service })
}

fn read_only(of: &Mirrored) -> Answer {
    Answer::failure(reason(of))
}

/// Answer to a request for services of its own, which it does not have.
fn no_registry(of: &Mirrored) -> Response {
    let error = format!("{}, under /getNodes alone: connect to that", reason(of));
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "error": error }))).into_response()
}

fn reason(of: &Mirrored) -> String {
    format!("this shows `{}` in {}, read-only", of.service, of.registry.url())
}

/// An error is never an empty list.
async fn list(State(of): State<Mirrored>) -> Answer {
    let instances = match of.registry.list(&of.service).await {
        Ok(instances) => instances,
        Err(error) => return Answer::failure(error.to_string()),
    };
    let taken: HashSet<_> = instances.iter().filter_map(|instance| nodes::number(instance.metadata())).collect();
    let mut free = (1..).filter(|number| !taken.contains(number));
    let mut shown = Vec::new();
    for instance in instances {
        let own = nodes::number(instance.metadata());
        let number = own.or_else(|| free.next()).unwrap_or_default();
        // Registries do not say since when.
        shown.push(Shown::numbered(number, instance.address(), instance.weight(), instance.metadata(), String::new()));
    }
    shown.sort_by_key(|node| node.id);
    Answer::nodes(shown)
}
