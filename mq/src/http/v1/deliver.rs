//! Deliveries over HTTP: pops, and the ends of their leases.

use std::time::Duration;

use axum::{
    Json,
    body::{Body as Answered, Bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{Door, WAITERS},
    answer::{Answer, Body, Failure, Names, Query, shown},
    json,
};
use crate::{Delivery, End, Engine, Pop, Receipt};

/// Longest time that a pop waits.
const LONGEST_WAIT: u64 = 20_000;
/// Deliveries in one answer.
const MOST: u32 = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PopJson {
    max_messages: Option<u32>,
    max_bytes: Option<u32>,
    wait_ms: u64,
}

impl PopJson {
    fn pop(&self, names: &Names) -> Result<Pop, Failure> {
        let name = names.queue();
        let one = Pop::new(name.topic, name.queue);
        let pop = Pop {
            max_messages: self.max_messages.unwrap_or(one.max_messages),
            max_bytes: self.max_bytes.unwrap_or(one.max_bytes),
            wait_ms: self.wait_ms,
            ..one
        };
        if !(1..=MOST).contains(&pop.max_messages) {
            return Err(Failure::invalid(format!("max_messages: 1 to {MOST}")));
        }
        if pop.wait_ms > LONGEST_WAIT {
            return Err(Failure::invalid(format!("wait_ms: at most {LONGEST_WAIT}; ask again for more")));
        }
        Ok(pop)
    }
}

pub(super) async fn pop<E: Engine>(
    door: Door<E>,
    names: Names,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query.only(&[])?;
    let pop = body.json::<PopJson>()?.pop(&names)?;
    let raw = wants_raw(&headers, &pop)?;
    // A pop that need not wait takes no place among those that do.
    let mut found = door.engine.pop(&Pop { wait_ms: 0, ..pop.clone() }).await?;
    if found.is_empty() && pop.wait_ms > 0 {
        let Ok(_place) = door.waiters.try_acquire() else {
            let text = format!("no message, and this pop did not wait, because {WAITERS} others do: try again later");
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "waiters", text));
        };
        found = door.engine.pop(&pop).await?;
    }
    Ok(delivered(&door.engine, &found, raw))
}

pub(super) async fn pop_dead<E: Engine>(
    door: Door<E>,
    names: Names,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query.only(&[])?;
    let json: PopJson = body.json()?;
    if json.wait_ms > 0 {
        return Err(Failure::invalid("wait_ms: pops of dead letters do not wait"));
    }
    let pop = json.pop(&names)?;
    let raw = wants_raw(&headers, &pop)?;
    let found = door.engine.pop_dead(&pop).await?;
    Ok(delivered(&door.engine, &found, raw))
}

/// Returns true for a body as it is, which the request asks for by `Accept: application/octet-stream`.
fn wants_raw(headers: &HeaderMap, pop: &Pop) -> Result<bool, Failure> {
    let raw = super::deliver::accepts_raw(headers);
    if raw && pop.max_messages > 1 {
        return Err(Failure::invalid("max_messages: a body as it is is that of one message"));
    }
    Ok(raw)
}

pub(super) fn accepts_raw(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    accepts.split(',').any(|kind| kind.trim().eq_ignore_ascii_case("application/octet-stream"))
}

/// The deliveries; they go back if the answer is dropped before the connection takes it.
fn delivered<E: Engine>(engine: &E, found: &[Delivery], raw: bool) -> Response {
    let receipts: Vec<_> = found.iter().filter_map(|delivery| delivery.receipt).collect();
    let unsent = Unsent((!receipts.is_empty()).then(|| engine.give_back(receipts)));
    if !raw {
        let messages: Value = found.iter().map(json::delivery).collect();
        let bytes = json!({ "messages": messages }).to_string().into_bytes();
        return unsent.answer("application/json", bytes.into());
    }
    let Some(delivery) = found.first() else { return StatusCode::NO_CONTENT.into_response() };
    let mut response = unsent.answer("application/octet-stream", Bytes::copy_from_slice(&delivery.body));
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    put("ms-id", delivery.id.to_string());
    put("ms-retries", delivery.retries.to_string());
    if let Some(receipt) = delivery.receipt {
        put("ms-receipt", receipt.to_string());
    }
    if let Some(lease) = delivery.lease() {
        put("ms-lease-ms", lease.as_millis().to_string());
    }
    response
}

/// Gives deliveries back when it is dropped, unless they were sent.
struct Unsent<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Unsent<F> {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl<F: FnOnce() + Send + 'static> Unsent<F> {
    fn sent(&mut self) {
        self.0.take();
    }

    /// An answer whose body is sent when the connection asks for it.
    fn answer(self, kind: &'static str, bytes: Bytes) -> Response {
        let length = bytes.len();
        let mut unsent = self;
        let body = stream::once(async move {
            unsent.sent();
            Ok::<_, std::convert::Infallible>(bytes)
        });
        let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CONTENT_LENGTH, length.into())];
        (headers, Answered::from_stream(body)).into_response()
    }
}

/// One receipt, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EndJson {
    receipt: Option<String>,
    receipts: Option<Vec<String>>,
    delay_ms: Option<u64>,
    reason: Option<String>,
    lease_ms: Option<u64>,
}

/// Names of the fields that an end knows, besides receipts.
fn fields(json: &EndJson, known: &[&str]) -> Result<(), Failure> {
    let given = [
        ("delay_ms", json.delay_ms.is_some()),
        ("reason", json.reason.is_some()),
        ("lease_ms", json.lease_ms.is_some()),
    ];
    match given.into_iter().find(|(name, given)| *given && !known.contains(name)) {
        Some((name, _)) => Err(Failure::invalid(format!("the body: unknown field `{name}`"))),
        None => Ok(()),
    }
}

pub(super) async fn ack<E: Engine>(door: Door<E>, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let json: EndJson = body.json()?;
    fields(&json, &[])?;
    ended(&door.engine, json, &End::Ack).await
}

pub(super) async fn nack<E: Engine>(door: Door<E>, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let json: EndJson = body.json()?;
    fields(&json, &["delay_ms", "reason"])?;
    let delay = Duration::from_millis(json.delay_ms.unwrap_or(0));
    let end = End::nack(delay, json.reason.clone().unwrap_or_default());
    ended(&door.engine, json, &end).await
}

pub(super) async fn bury<E: Engine>(door: Door<E>, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let json: EndJson = body.json()?;
    fields(&json, &["reason"])?;
    let end = End::Bury(json.reason.clone().unwrap_or_default());
    ended(&door.engine, json, &end).await
}

pub(super) async fn touch<E: Engine>(door: Door<E>, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let json: EndJson = body.json()?;
    fields(&json, &["lease_ms"])?;
    let end = End::Touch(json.lease_ms.map(Duration::from_millis));
    ended(&door.engine, json, &end).await
}

pub(super) async fn give_back<E: Engine>(door: Door<E>, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let json: EndJson = body.json()?;
    fields(&json, &[])?;
    ended(&door.engine, json, &End::Return).await
}

/// Ends the leases. For one receipt the status says how that went; for several, the answer has a result for each.
async fn ended<E: Engine>(engine: &E, json: EndJson, end: &End) -> Answer {
    let parse = |text: &String| text.parse::<Receipt>().map_err(|error| Failure::invalid(format!("{text:?}: {error}")));
    match (json.receipt, json.receipts) {
        (Some(receipt), None) => {
            engine.end(&parse(&receipt)?, end).await?;
            shown(json!({}))
        }
        (None, Some(receipts)) => {
            if receipts.len() > MOST as usize {
                return Err(Failure::invalid(format!("receipts: at most {MOST}")));
            }
            let receipts = receipts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
            let results = engine.end_all(&receipts, end).await?;
            let result =
                |result: Result<(), _>| result.map_or_else(|error| Failure::from(error).body(), |()| json!({}));
            Ok(Json(json!({ "results": results.into_iter().map(result).collect::<Value>() })).into_response())
        }
        _ => Err(Failure::invalid("the body: give receipt or receipts")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn deliveries_go_back_unless_their_answer_is_sent() {
        for sent in [false, true] {
            let returned = Arc::new(AtomicBool::new(false));
            let told = returned.clone();
            let unsent = Unsent(Some(move || told.store(true, Ordering::SeqCst)));
            let response = unsent.answer("application/json", Bytes::from_static(b"{}"));
            if sent {
                let body = axum::body::to_bytes(response.into_body(), 10).await.unwrap();
                assert_eq!(&body[..], b"{}");
            } else {
                drop(response);
            }
            assert_eq!(returned.load(Ordering::SeqCst), !sent);
        }
    }
}
