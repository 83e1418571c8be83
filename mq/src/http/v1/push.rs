//! Pushing over HTTP: JSON, one message or a batch, or a body as it is.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ms_rpc::Blob;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::Door,
    answer::{Body, Failure, Names, Query, object},
    json::{DurabilityName, PushJson},
};
use crate::{Engine, Push};

/// A batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchJson {
    messages: Vec<Value>,
}

/// Parameters of a raw body.
const PARAMETERS: [&str; 10] =
    ["route_key", "delay_ms", "due_ms", "ttl_ms", "ttr_ms", "priority", "dedup", "group", "durability", "header"];

pub(super) async fn push<E: Engine>(
    Door { engine, .. }: Door<E>,
    names: Names,
    query: Query,
    body: Body,
) -> Result<Response, Failure> {
    if !body.is_json {
        let push = raw(&names.topic, &query, &body)?;
        let id = engine.push(push).await?;
        return Ok(created(json!({ "id": id.to_string() })));
    }
    query.only(&[])?;
    let json: Value = body.json()?;
    if json.get("messages").is_none() {
        let id = engine.push(object::<PushJson>(json)?.push(&names.topic)?).await?;
        return Ok(created(json!({ "id": id.to_string() })));
    }
    let BatchJson { messages } = object(json)?;
    let with_place = |(at, message): (usize, Value)| {
        let push = object::<PushJson>(message).and_then(|message| message.push(&names.topic));
        push.map_err(|failure| failure.about(&format!("messages[{at}]")))
    };
    let pushes = messages.into_iter().enumerate().map(with_place).collect::<Result<Vec<_>, _>>()?;
    let ids = engine.push_batch(pushes).await?;
    Ok(created(json!({ "ids": ids.iter().map(ToString::to_string).collect::<Vec<_>>() })))
}

fn created(value: Value) -> Response {
    (StatusCode::CREATED, Json(value)).into_response()
}

/// A body as it is; all else stands in the parameters.
fn raw(topic: &str, query: &Query, body: &Body) -> Result<Push, Failure> {
    query.only(&PARAMETERS)?;
    let durability = match query.text("durability") {
        None => None,
        Some("synced") => Some(DurabilityName::Synced),
        Some("written") => Some(DurabilityName::Written),
        Some("queued") => Some(DurabilityName::Queued),
        Some(other) => {
            return Err(Failure::invalid(format!("durability: {other:?} is none of synced, written and queued")));
        }
    };
    let header = |text: &str| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Blob::from(value.as_bytes().to_vec()))),
        _ => Err(Failure::invalid(format!("header: {text:?} is not KEY=VALUE"))),
    };
    let headers = query.all("header").map(header).collect::<Result<_, _>>()?;
    let push = PushJson {
        route_key: query.text("route_key").map(str::to_owned),
        delay_ms: query.parsed("delay_ms")?.unwrap_or(0),
        due_ms: query.parsed("due_ms")?,
        ttl_ms: query.parsed("ttl_ms")?,
        ttr_ms: query.parsed("ttr_ms")?,
        priority: query.parsed("priority")?.unwrap_or(0),
        dedup: query.text("dedup").map(str::to_owned),
        group: query.text("group").map(str::to_owned),
        durability,
        ..PushJson::default()
    };
    Ok(push.with(topic, body.bytes.to_vec().into(), headers))
}
