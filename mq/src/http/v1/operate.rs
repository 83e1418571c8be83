//! Topics, queues and messages over HTTP: looked at and changed.

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::Door,
    answer::{Answer, Body, Failure, Names, Query, changed, id, shown},
    deliver::accepts_raw,
    json,
    json::SettingsJson,
};
use crate::{Change, Engine, Look, MessageId, MqError, QueueName, TopicStats, Which};

pub(super) async fn topics<E: Engine>(door: Door<E>, query: Query) -> Answer {
    query.only(&["after_topic", "after_queue"])?;
    let after = match (query.text("after_topic"), query.text("after_queue")) {
        (Some(topic), queue) => Some(QueueName::new(topic, queue.unwrap_or_default())),
        (None, None) => None,
        (None, Some(_)) => return Err(Failure::invalid("after_queue: give after_topic too")),
    };
    let (topics, next) = door.engine.look(Look::Stats { topic: None, after }).await?.topics();
    let topics: Value = topics.iter().map(json::topic).collect();
    shown(json!({ "topics": topics, "next": json::next(next.as_ref()) }))
}

/// One topic with all its queues.
pub(super) async fn topic<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    let (mut whole, mut after) = (None::<TopicStats>, None);
    loop {
        let (topics, next) = door.engine.look(Look::Stats { topic: Some(names.topic.clone()), after }).await?.topics();
        for page in topics {
            match &mut whole {
                Some(whole) => whole.queues.extend(page.queues),
                None => whole = Some(page),
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    shown(json::topic(&whole.ok_or(MqError::NoTopic(names.topic))?))
}

pub(super) async fn configure<E: Engine>(door: Door<E>, names: Names, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let settings: SettingsJson = body.json()?;
    changed(door.engine.change(Change::Configure(names.topic, settings.into())).await?)
}

pub(super) async fn delete_topic<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    changed(door.engine.change(Change::DeleteTopic(names.topic)).await?)
}

/// Makes a queue: 201, or 200 if it was there.
pub(super) async fn declare<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    let status = match door.engine.change(Change::Declare(names.queue())).await {
        Ok(_) => StatusCode::CREATED,
        Err(MqError::QueueExists(_)) => StatusCode::OK,
        Err(error) => return Err(error.into()),
    };
    Ok((status, Json(json!({}))).into_response())
}

pub(super) async fn delete_queue<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    changed(door.engine.change(Change::DeleteQueue(names.queue())).await?)
}

pub(super) async fn pause<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    changed(door.engine.change(Change::Pause(names.queue(), true)).await?)
}

pub(super) async fn resume<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    changed(door.engine.change(Change::Pause(names.queue(), false)).await?)
}

pub(super) async fn purge<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    changed(door.engine.change(Change::Purge(names.queue())).await?)
}

pub(super) async fn purge_dead<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    changed(door.engine.change(Change::PurgeDead(names.queue())).await?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RedriveJson {
    ids: Option<Vec<String>>,
}

/// Makes dead letters ready again: those that are named, or all.
pub(super) async fn redrive<E: Engine>(door: Door<E>, names: Names, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let RedriveJson { ids } = body.json()?;
    let ids = ids.map(|ids| ids.iter().map(|text| id(text)).collect::<Result<Vec<_>, _>>()).transpose()?;
    changed(door.engine.change(Change::Redrive(names.queue(), ids)).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferJson {
    to_topic: Option<String>,
    to_queue: String,
    ids: Option<Vec<String>>,
    #[serde(default)]
    dead: bool,
}

impl TransferJson {
    /// The other queue, and the messages.
    fn read(self, topic: &str) -> Result<(QueueName, Which), Failure> {
        let to = QueueName::new(self.to_topic.as_deref().unwrap_or(topic), self.to_queue);
        let which = match self.ids {
            Some(_) if self.dead => return Err(Failure::invalid("the body: give ids or dead, but not both")),
            Some(ids) => Which::Ids(ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?),
            None if self.dead => Which::Dead,
            None => Which::Waiting,
        };
        Ok((to, which))
    }
}

pub(super) async fn move_messages<E: Engine>(door: Door<E>, names: Names, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let (to, which) = body.json::<TransferJson>()?.read(&names.topic)?;
    changed(door.engine.change(Change::Move(names.queue(), to, which)).await?)
}

pub(super) async fn copy_messages<E: Engine>(door: Door<E>, names: Names, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let (to, which) = body.json::<TransferJson>()?.read(&names.topic)?;
    changed(door.engine.change(Change::Copy(names.queue(), to, which)).await?)
}

/// A page of messages by id, without bodies.
pub(super) async fn list<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&["after", "limit", "dead"])?;
    let most = query.limit(100)?;
    let after = query.text("after").map(id).transpose()?.unwrap_or(MessageId(0));
    let dead = query.parsed("dead")?.unwrap_or(false);
    let found = door.engine.look(Look::List { queue: names.queue(), after, most, dead }).await?.messages();
    let next = found.last().filter(|_| found.len() >= most as usize).map(|last| last.id.to_string());
    shown(json!({ "messages": found.iter().map(json::message).collect::<Value>(), "next": next }))
}

/// The messages that are delivered next, with their bodies.
pub(super) async fn peek<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&["limit"])?;
    let found = door.engine.look(Look::Peek(names.queue(), query.limit(1)?)).await?.messages();
    shown(json!({ "messages": found.iter().map(json::message).collect::<Value>() }))
}

pub(super) async fn get<E: Engine>(door: Door<E>, names: Names, query: Query, headers: HeaderMap) -> Answer {
    query.only(&[])?;
    let id = names.id()?;
    let found = door.engine.look(Look::Get(names.queue(), id)).await?.messages();
    let found = found.first().ok_or(MqError::NoMessage(id.0))?;
    if accepts_raw(&headers) {
        let body = found.body.as_deref().unwrap_or_default().to_vec();
        return Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response());
    }
    shown(json::message(found))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EditJson {
    due_ms: Option<u64>,
    priority: Option<u8>,
}

/// Gives a message another priority, another due time, or both.
pub(super) async fn edit<E: Engine>(door: Door<E>, names: Names, query: Query, body: Body) -> Answer {
    query.only(&[])?;
    let (id, queue) = (names.id()?, names.queue());
    let EditJson { due_ms, priority } = body.json()?;
    if due_ms.is_none() && priority.is_none() {
        return Err(Failure::invalid("the body: give due_ms, priority, or both"));
    }
    if let Some(priority) = priority {
        door.engine.change(Change::Reprioritize(queue.clone(), id, priority)).await?;
    }
    if let Some(due) = due_ms {
        door.engine.change(Change::Reschedule(queue, id, due)).await?;
    }
    changed(1)
}

pub(super) async fn cancel<E: Engine>(door: Door<E>, names: Names, query: Query) -> Answer {
    query.only(&[])?;
    let id = names.id()?;
    changed(door.engine.change(Change::Cancel(names.queue(), id)).await?)
}

pub(super) async fn back_up<E: Engine>(door: Door<E>, names: Names, query: Query) -> Result<Response, Failure> {
    query.only(&[])?;
    let segments = door.engine.change(Change::Backup(names.name)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "segments": segments }))).into_response())
}
