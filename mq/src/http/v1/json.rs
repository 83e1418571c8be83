//! Messages and statistics as JSON. Ids and receipts are text; bytes that are no UTF-8 are base64 under another name.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ms_rpc::Blob;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::Failure;
use crate::{Delivery, Durability, MessageInfo, Mode, Push, QueueName, QueueStats, Rate, Settings, TopicStats};

/// One message to be pushed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PushJson {
    pub(super) body: Option<String>,
    pub(super) body_base64: Option<String>,
    pub(super) route_key: Option<String>,
    pub(super) delay_ms: u64,
    pub(super) due_ms: Option<u64>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) ttr_ms: Option<u32>,
    pub(super) priority: u8,
    pub(super) dedup: Option<String>,
    pub(super) group: Option<String>,
    pub(super) durability: Option<DurabilityName>,
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DurabilityName {
    Synced,
    Written,
    Queued,
}

impl PushJson {
    /// The push, with the body that the JSON holds.
    pub(super) fn push(mut self, topic: &str) -> Result<Push, Failure> {
        let body = match (self.body.take(), self.body_base64.take()) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => {
                STANDARD.decode(base64).map_err(|error| Failure::invalid(format!("body_base64: {error}")))?
            }
            (Some(_), Some(_)) => return Err(Failure::invalid("give body or body_base64, but not both")),
            (None, None) => return Err(Failure::invalid("body or body_base64 is missing")),
        };
        let headers = std::mem::take(&mut self.headers);
        let headers = headers.into_iter().map(|(key, value)| (key, value.into_bytes().into())).collect();
        Ok(self.with(topic, body.into(), headers))
    }

    /// The push of a body that is given elsewhere.
    pub(super) fn with(self, topic: &str, body: Blob, headers: Vec<(String, Blob)>) -> Push {
        let mut push = Push {
            route_key: self.route_key,
            delay_ms: self.delay_ms,
            priority: self.priority,
            ttr_ms: self.ttr_ms,
            dedup: self.dedup,
            durability: match self.durability {
                None | Some(DurabilityName::Synced) => Durability::Synced,
                Some(DurabilityName::Written) => Durability::Written,
                Some(DurabilityName::Queued) => Durability::Queued,
            },
            headers,
            ..Push::new(topic, body)
        };
        if let Some(due) = self.due_ms {
            push = push.with_due_ms(due);
        }
        if let Some(ttl) = self.ttl_ms {
            push = push.with_ttl_ms(ttl);
        }
        if let Some(group) = self.group {
            push = push.with_group(group);
        }
        push
    }
}

/// Settings of a topic; what is not given stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SettingsJson {
    mode: Option<ModeName>,
    auto_ack: Option<bool>,
    ttr_ms: Option<u64>,
    max_retries: Option<u16>,
    max_length: Option<u64>,
    dedup_window_ms: Option<u64>,
    max_dead: Option<u64>,
    dead_age_ms: Option<u64>,
    ttl_ms: Option<u64>,
    backoff_ms: Option<Vec<u64>>,
    max_leased: Option<u64>,
    rate: Option<RateJson>,
}

/// Rate of deliveries; both are 0 for no limit.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateJson {
    messages: u32,
    per_ms: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeName {
    Exact,
    Fuzzy,
}

impl From<SettingsJson> for Settings {
    fn from(json: SettingsJson) -> Self {
        Self {
            mode: json.mode.map(|mode| match mode {
                ModeName::Exact => Mode::Exact,
                ModeName::Fuzzy => Mode::Fuzzy,
            }),
            auto_ack: json.auto_ack,
            ttr_ms: json.ttr_ms,
            max_retries: json.max_retries,
            max_length: json.max_length,
            dedup_window_ms: json.dedup_window_ms,
            max_dead: json.max_dead,
            dead_age_ms: json.dead_age_ms,
            ttl_ms: json.ttl_ms,
            backoff_ms: json.backoff_ms,
            max_leased: json.max_leased,
            rate: json.rate.map(|RateJson { messages, per_ms }| Rate { messages, per_ms }),
            ..Self::default()
        }
    }
}

/// Adds bytes under a name.
fn put(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Adds headers as a list, since a key may be there twice.
fn put_headers(object: &mut Map<String, Value>, headers: &[(String, Blob)]) {
    let header = |(key, value): &(String, Blob)| {
        let mut header = Map::new();
        header.insert("key".to_owned(), key.as_str().into());
        put(&mut header, "value", value);
        Value::from(header)
    };
    object.insert("headers".to_owned(), headers.iter().map(header).collect());
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

pub(super) fn delivery(delivery: &Delivery) -> Value {
    let mut message = object(json!({
        "id": delivery.id.to_string(),
        "receipt": delivery.receipt.map(|receipt| receipt.to_string()),
        "lease_ms": delivery.lease().map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)),
        "retries": delivery.retries,
        "reason": delivery.reason(),
    }));
    put_headers(&mut message, &delivery.headers);
    put(&mut message, "body", &delivery.body);
    message.into()
}

/// A message that stays where it is: with a body and headers if they were read.
pub(super) fn message(info: &MessageInfo) -> Value {
    let mut message = object(json!({
        "id": info.id.to_string(),
        "state": info.state,
        "due_ms": info.due_ms,
        "retries": info.retries,
        "priority": info.priority,
        "reason": info.reason,
        "group": info.group,
        "ttr_ms": info.ttr_ms(),
        "expires_ms": info.expires_ms(),
    }));
    if let Some(body) = &info.body {
        put_headers(&mut message, &info.headers);
        put(&mut message, "body", body);
    }
    message.into()
}

pub(super) fn topic(stats: &TopicStats) -> Value {
    json!({
        "topic": stats.topic,
        "created_ms": stats.created_ms,
        "settings": stats.settings_as_json(),
        "queues": stats.queues.iter().map(queue).collect::<Value>(),
    })
}

fn queue(stats: &QueueStats) -> Value {
    json!({
        "queue": stats.queue,
        "paused": stats.paused,
        "ready": stats.ready,
        "delayed": stats.delayed,
        "held": stats.held,
        "leased": stats.leased,
        "dead": stats.dead,
        "oldest_ms": stats.oldest_ms,
        "pushed": stats.pushed,
        "popped": stats.popped,
        "acked": stats.acked,
        "failed": stats.failed,
        "died": stats.died,
        "outlived": stats.outlived,
        "dropped": stats.dropped,
    })
}

/// Where the next page begins.
pub(super) fn next(next: Option<&QueueName>) -> Value {
    next.map_or(Value::Null, |next| json!({ "after_topic": next.topic, "after_queue": next.queue }))
}
